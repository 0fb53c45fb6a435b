"""The committed transactions in one append-only file, so that a killed emulator comes back as it was."""

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.vast_emulator.operations import Operation

_LENGTH = struct.Struct("<Q")


class Journal:
    """Appends the operations of each commit. A record torn by a crash was not acknowledged and is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()

    def replay(self) -> Iterator[tuple[Operation, ...]]:
        """The operations of every commit so far, oldest first."""
        good = 0
        with self._path.open("rb") as file:
            while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                if len(record := file.read(length)) < length:
                    break
                good = file.tell()
                yield pickle.loads(record)
        with self._path.open("r+b") as file:
            file.truncate(good)

    def append(self, operations: tuple[Operation, ...]) -> None:
        record = pickle.dumps(operations)
        with self._path.open("ab") as file:
            file.write(_LENGTH.pack(len(record)) + record)
