"""The fields of a multipart form, each as its bytes. Pure."""

from __future__ import annotations

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from store.errors import BadRequest

MOST_PARTS = 1000


class _Parts:
    """Gathers what a parser finds."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bytes]] = []
        self._part: list[bytes] = []
        self._name = ""
        self._header: tuple[bytes, bytes] = (b"", b"")
        self.ended = False

    def begin(self) -> None:
        """A part begins."""
        if len(self.found) >= MOST_PARTS:
            raise BadRequest(f"A form has at most {MOST_PARTS} fields.")
        self._part, self._name = [], ""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """More of a header's name."""
        self._header = self._header[0] + data[start:end], b""

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """More of its value."""
        self._header = self._header[0], self._header[1] + data[start:end]

    def header_end(self) -> None:
        """A header is whole; one of them has the field's name."""
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._name = parse_options_header(value)[1].get(b"name", b"").decode("utf-8", "replace")
        self._header = (b"", b"")

    def data(self, data: bytes, start: int, end: int) -> None:
        """More of a part."""
        self._part.append(data[start:end])

    def done(self) -> None:
        """A part is whole."""
        self.found.append((self._name, b"".join(self._part)))

    def end(self) -> None:
        """All parts are there."""
        self.ended = True


def parts_of(content_type: bytes, body: bytes) -> list[bytes]:
    """The fields of a form in order, without their names. Raises `BadRequest`."""
    return [content for _, content in fields_of(content_type, body)]


def fields_of(content_type: bytes, body: bytes) -> list[tuple[str, bytes]]:
    """The fields of a form in order, by their names (RFC 7578). Raises `BadRequest`."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest("The body must be multipart/form-data.")
    parts = _Parts()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_part_data": parts.data,
            "on_part_end": parts.done,
            "on_end": parts.end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError as exc:
        raise BadRequest("The form cannot be read.") from exc
    if not parts.ended:
        raise BadRequest("The form ends too early.")
    return parts.found
