"""The files that settings are read from: one that is named, or that counted before, has to be there."""

from __future__ import annotations

import os
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values


class SettingsFiles:
    """Reads files of settings, again and again with the same one of these.

    A file that an operator has named, or that counted before, is never taken for an absent one: a server
    that lost its settings would go on by the defaults, which may let people see what the settings hide.
    """

    def __init__(self) -> None:
        self._met: set[Path] = set()

    def met(self, path: Path) -> bool:
        """Whether something of this name is there, or was there once. Raises `OSError`."""
        if path in self._met or os.path.lexists(path):
            self._met.add(path)
            return True
        return False

    def toml(self, name: str | None, default: str) -> dict[str, Any]:
        """What the named file says, or the one that is read where none is named and that may be absent.

        Raises `OSError` where it cannot be read, `ValueError` where it is no TOML.
        """
        text = self._text(name, default)
        return {} if text is None else tomllib.loads(text)

    def variables(self, name: str | None, default: str) -> dict[str, str]:
        """The same of a file of variables. Raises `OSError`, `ValueError`."""
        text = self._text(name, default)
        found = {} if text is None else dotenv_values(stream=StringIO(text), interpolate=False)
        return {key: value for key, value in found.items() if value is not None}

    def _text(self, name: str | None, default: str) -> str | None:
        path = Path(default if name is None else name)
        if name is None and not self.met(path):
            return None
        # By opening it, not by asking what it is: a pipe and /dev/null are as good as a file.
        text = path.read_bytes().decode("utf-8")
        self._met.add(path)
        return text
