"""Walking a folder that others change meanwhile."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from pathlib import Path


def status_of(path: Path) -> os.stat_result | None:
    """Of a regular file, None when there is none."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if modes.S_ISREG(status.st_mode) else None


def files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every regular file at any depth. What goes meanwhile is left out; what cannot be read raises, since
    it would look empty."""
    for root, folders, names in os.walk(folder, onerror=_raise_unless_absent):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            status = status_of(path)
            if status is not None:
                yield path, status


def _raise_unless_absent(exc: OSError) -> None:
    if not isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        raise exc
