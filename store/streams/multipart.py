"""The fields of a multipart form (RFC 7578), each as its bytes. Pure."""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from store.errors import BadRequest

MOST_PARTS = 1000


class Piece(NamedTuple):
    """More of a field; `number` counts fields from 1, and `is_last` tells the end of one."""

    number: int
    name: str
    content: bytes
    is_last: bool


class Fields:
    """Finds the fields of a form in its bytes as they come. Holds none of them."""

    def __init__(self, content_type: bytes) -> None:
        """Raises `BadRequest` where this is no form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("The body must be multipart/form-data.")
        self._found: list[Piece] = []
        self._part: list[bytes] = []
        self._number = 0
        self._name = ""
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[Piece]:
        """What comes next, in at most one piece of each field. Raises `BadRequest`."""
        try:
            self._parser.write(data)
        except MultipartParseError as exc:
            raise BadRequest("The form cannot be read.") from exc
        if self._part:
            self._add(is_last=False)
        found, self._found = self._found, []
        return found

    def end(self) -> None:
        """There is nothing more. Raises `BadRequest` where there should be."""
        try:
            self._parser.finalize()
        except MultipartParseError as exc:
            raise BadRequest("The form cannot be read.") from exc
        if not self._is_whole:
            raise BadRequest("The form ends too early.")

    def _add(self, *, is_last: bool) -> None:
        self._found.append(Piece(self._number, self._name, b"".join(self._part), is_last))
        self._part = []

    def _begin(self) -> None:
        if self._number >= MOST_PARTS:
            raise BadRequest(f"A form has at most {MOST_PARTS} fields.")
        self._number, self._name = self._number + 1, ""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = self._header[0] + data[start:end], b""

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = self._header[0], self._header[1] + data[start:end]

    def _header_end(self) -> None:
        """A header is whole; one of them has the field's name."""
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._name = parse_options_header(value)[1].get(b"name", b"").decode("utf-8", "replace")
        self._header = (b"", b"")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.append(data[start:end])

    def _part_end(self) -> None:
        self._add(is_last=True)

    def _end(self) -> None:
        self._is_whole = True


def parts_of(content_type: bytes, body: bytes) -> list[bytes]:
    """The fields of a form in order, without their names. Raises `BadRequest`."""
    fields = Fields(content_type)
    found = fields.feed(body)
    fields.end()
    return [piece.content for piece in found]
