"""The bytes of a hot log's file, and of the media object that it becomes. Pure.

A hot file is a header and records, one for each commit, whose checksums tell whether they are whole:

    header   magic 8s | base q | ordinal q | size_before q | begun q | crc I
    record   crc I | body bytes I | count I | count x id q | count x length I | the entries

An object of entries is such a file with a tail:

    12 zeros | count x id q | count x start I | count x length I |
        magic 8s | count I | base q | ordinal q | size_before q | crc I

or, where a hot file cannot become an object as it is, a header with the index, then the entries:

    magic 8s | count I | base q | ordinal q | size_before q | crc I |
        count x id q | count x length I | the entries

`base` is the id of the last entry before the file, `ordinal` how many came before it in the stream,
`size_before` how many bytes they had. Integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from store.streams.entries import Entries

HOT, SEALED, TAIL = b"TAMSHOT1", b"TAMSENT1", b"TAMSEND1"
_HOT = struct.Struct("<8sqqqqI")
_RECORD = struct.Struct("<III")
_SEALED = struct.Struct("<8sIqqqI")
HOT_HEADER_BYTES = _HOT.size
RECORD_HEADER_BYTES = _RECORD.size
SEALED_HEADER_BYTES = _SEALED.size
ENTRY_BYTES = 12
"""What an entry costs beside its own bytes."""
TAIL_ENTRY_BYTES = 16
"""What it costs in a tail."""


class Broken(ValueError):
    """Bytes that are not what they should be."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of where it stands in its stream. `begun_ns`: when it was begun."""

    base: int
    ordinal: int
    size_before: int
    begun_ns: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """The entries of one commit: ids, and where in the file their bytes start. `end`: behind the record."""

    ids: Sequence[int]
    starts: Sequence[int]
    lengths: Sequence[int]
    end: int


@dataclass(frozen=True, slots=True)
class Index:
    """The entries of a sealed object: ids, and where their bytes start."""

    head: Head
    ids: Sequence[int] = field(repr=False)
    starts: Sequence[int] = field(repr=False)
    lengths: Sequence[int] = field(repr=False)


def hot_head(head: Head) -> bytes:
    """The header of a hot file."""
    fields = (HOT, head.base, head.ordinal, head.size_before, head.begun_ns)
    body = _HOT.pack(*fields, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def read_hot_head(data: bytes) -> Head:
    """A hot file's header. Raises `Broken`."""
    if len(data) < _HOT.size:
        raise Broken("a hot file without its header")
    magic, base, ordinal, size_before, begun_ns, crc = _HOT.unpack_from(data)
    if magic != HOT or crc != zlib.crc32(data[: _HOT.size - 4]):
        raise Broken("a hot file with a damaged header")
    return Head(base, ordinal, size_before, begun_ns)


def entry_bytes(entries: Entries) -> int:
    """What entries take, where each has its id and its length beside it."""
    return ENTRY_BYTES * len(entries.lengths) + len(entries.data)


def record_bytes(entries: Entries) -> int:
    """What a record of these entries takes."""
    return RECORD_HEADER_BYTES + entry_bytes(entries)


def record(ids: Sequence[int], entries: Entries, at: int) -> tuple[bytes, Record]:
    """What stands before the entries in their record, which begins at `at`; and what the record holds."""
    count, lengths = len(ids), entries.lengths
    index = struct.pack(f"<I{count}q{count}I", count, *ids, *lengths)
    crc = zlib.crc32(entries.data, zlib.crc32(index))
    size_bytes = entry_bytes(entries)
    head = struct.pack("<II", crc, size_bytes) + index
    return head, Record(ids, _starts(at + len(head), lengths), lengths, at + _RECORD.size + size_bytes)


def read_record(data: bytes | memoryview, offset: int, at: int) -> Record | None:
    """The record at `offset` of the data, which stands at `at` in its file; None when it is not whole."""
    if offset + _RECORD.size > len(data):
        return None
    crc, size_bytes, count = _RECORD.unpack_from(data, offset)
    body = offset + _RECORD.size
    if body + size_bytes > len(data) or ENTRY_BYTES * count > size_bytes or not count:
        return None
    if zlib.crc32(data[body - 4 : body + size_bytes]) != crc:
        return None
    found = struct.unpack_from(f"<{count}q{count}I", data, body)
    ids, lengths = list(found[:count]), list(found[count:])
    if sum(lengths) + ENTRY_BYTES * count != size_bytes:
        return None
    first = at + _RECORD.size + ENTRY_BYTES * count
    return Record(ids, _starts(first, lengths), lengths, at + _RECORD.size + size_bytes)


def record_size(data: bytes) -> int:
    """How long the record is that begins with these bytes, whole or not; 0 where none begins."""
    first = data[: _RECORD.size]
    if not any(first):
        return 0
    return _RECORD.size + (int(_RECORD.unpack(first)[1]) if len(first) == _RECORD.size else 0)


def hot_tail(head: Head, ids: Sequence[int], starts: Sequence[int], lengths: Sequence[int]) -> bytes:
    """What makes a hot file an object of entries."""
    count = len(ids)
    index = struct.pack(f"<{count}q{count}I{count}I", *ids, *starts, *lengths)
    body = _SEALED.pack(TAIL, count, head.base, head.ordinal, head.size_before, 0)[:-4]
    crc = struct.pack("<I", zlib.crc32(body, zlib.crc32(index)))
    # No record begins with zeros: whoever reads records stops here.
    return b"".join((bytes(_RECORD.size), index, body, crc))


def is_hot(data: bytes) -> bool:
    """Whether an object that begins so has its index in a tail."""
    return data[:8] == HOT


def hot_tail_bytes(data: bytes) -> int:
    """How long a tail is behind its zeros, from its last bytes. Raises `Broken`."""
    if len(data) < _SEALED.size or data[-_SEALED.size :][:8] != TAIL:
        raise Broken("an object of entries without its tail")
    (count,) = struct.unpack_from("<I", data, len(data) - _SEALED.size + 8)
    return _SEALED.size + TAIL_ENTRY_BYTES * int(count)


def read_hot_tail(data: bytes) -> Index:
    """The index of an object, from its whole tail or more. Raises `Broken`."""
    size_bytes = hot_tail_bytes(data)
    if len(data) < size_bytes:
        raise Broken("an object of entries without its whole index")
    _, count, base, ordinal, size_before, crc = _SEALED.unpack_from(data, len(data) - _SEALED.size)
    index = data[-size_bytes : -_SEALED.size]
    if zlib.crc32(data[-_SEALED.size : -4], zlib.crc32(index)) != crc:
        raise Broken("an object of entries with a damaged index")
    found = struct.unpack(f"<{count}q{2 * count}I", index)
    return Index(
        Head(base, ordinal, size_before),
        list(found[:count]),
        list(found[count : 2 * count]),
        list(found[2 * count :]),
    )


def sealed_head(head: Head, ids: Sequence[int], lengths: Sequence[int]) -> bytes:
    """What a sealed object begins with."""
    count = len(ids)
    index = struct.pack(f"<{count}q{count}I", *ids, *lengths)
    fields = (SEALED, count, head.base, head.ordinal, head.size_before)
    body = _SEALED.pack(*fields, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(index, zlib.crc32(body))) + index


def sealed_head_bytes(data: bytes) -> int:
    """How long a sealed object's head is, from its first bytes. Raises `Broken`."""
    if len(data) < _SEALED.size or data[:8] != SEALED:
        raise Broken("not an object of entries")
    (count,) = struct.unpack_from("<I", data, 8)
    return _SEALED.size + ENTRY_BYTES * int(count)


def read_sealed_head(data: bytes) -> Index:
    """The index of a sealed object, from its whole head. Raises `Broken`."""
    size_bytes = sealed_head_bytes(data)
    if len(data) < size_bytes:
        raise Broken("an object of entries without its whole index")
    _, count, base, ordinal, size_before, crc = _SEALED.unpack_from(data)
    index = data[_SEALED.size : size_bytes]
    if zlib.crc32(index, zlib.crc32(data[: _SEALED.size - 4])) != crc:
        raise Broken("an object of entries with a damaged index")
    found = struct.unpack(f"<{count}q{count}I", index)
    lengths = list(found[count:])
    return Index(Head(base, ordinal, size_before), list(found[:count]), _starts(size_bytes, lengths), lengths)


def _starts(first: int, lengths: Sequence[int]) -> list[int]:
    return list(accumulate(lengths, initial=first))[:-1]
