"""Servers that suites run on where they are installed, in a folder outside the tree (see .ci/run)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CACHE = Path(os.environ.get("SUITES_CACHE", Path.home() / ".cache" / "tams-tests"))


def binary(name: str) -> Path | None:
    """The program by that name, from the cache's bin or the PATH."""
    found = shutil.which(name, path=f"{CACHE / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    return None if found is None else Path(found)
