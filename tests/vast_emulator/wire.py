"""Requests and replies as plain values, and the framing of query results."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_plus
from xml.sax.saxutils import escape

import pyarrow as pa

from tests.vast_emulator.errors import Refusal, bad_request

KEEP_ALIVE = 0xFFFFFFFF
COMPLETED = 0xFFFFFFFE
FAILED = 0xFFFFFFFD
INVALID_ROW_ID = 0xFFFFFFFFFFFF
ESTIMATE_SPLIT = 0xFFFFFFFC
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@dataclass(frozen=True)
class Request:
    """An HTTP request: `path` without leading slash, `command` the bare query key, headers lower-case."""

    method: str
    path: str
    command: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def txid(self) -> int:
        return self.number("tabular-txid", 0)

    def number(self, name: str, default: int) -> int:
        text = self.headers.get(name, str(default))
        try:
            return int(text)
        except ValueError as exc:
            raise bad_request("InvalidArgument", f"{name}: {text!r}") from exc

    def flag(self, name: str) -> bool:
        return self.headers.get(name, "False").lower() == "true"

    def parts(self) -> tuple[str, str]:
        """The bucket and the path of a schema below it."""
        bucket, _, schema = self.path.partition("/")
        return bucket, schema

    def table_key(self) -> tuple[str, str, str]:
        """The bucket, the path of the schema and the name of the table."""
        bucket, rest = self.parts()
        schema, _, name = rest.rpartition("/")
        if not schema or not name:
            raise bad_request("InvalidArgument", f"not a table: {self.path}")
        return bucket, schema, name


@dataclass(frozen=True)
class Reply:
    """An HTTP reply; a `streamed` one goes in chunks, as the results of queries do."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    streamed: bool = False


def parse(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Read a request line; the command is the query key that has no value (`?table&name=x`)."""
    path, _, text = target.partition("?")
    command, query = "", {}
    for item in filter(None, text.split("&")):
        key, sign, value = item.partition("=")
        if sign:
            query[unquote_plus(key)] = unquote_plus(value)
        elif not command:
            command = key
    if not command and "list_type" in query:
        command = "list"
    return Request(method, unquote(path.lstrip("/")), command, query, headers, body)


def error_reply(refusal: Refusal) -> Reply:
    """An S3 error document."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message></Error>"
    )
    return Reply(refusal.status, {"Content-Type": "application/xml"}, body.encode())


def frames(stream_id: int, next_row_id: int, column: pa.RecordBatch) -> Iterator[bytes]:
    """One column of a sub-split: its schema, its rows and the end of its stream, each message framed."""
    head = struct.pack("<IQ", stream_id, next_row_id)
    yield head + column.schema.serialize().to_pybytes()
    yield head + column.serialize().to_pybytes()
    yield head + END_OF_STREAM


def completed() -> bytes:
    return struct.pack("<I", COMPLETED)


def keep_alive() -> bytes:
    return struct.pack("<I", KEEP_ALIVE)


def failed(code: int) -> bytes:
    """The frame that ends a query that went wrong on the server."""
    return struct.pack("<IQI", FAILED, code, 0)


def leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Split a column into its leaf columns, each alone inside its nesting; `array` must have offset 0.

    A map goes as a list of structs, as on a VAST cluster.
    """
    kind = array.type
    if pa.types.is_struct(kind):
        buffers = array.buffers()[:1]
        for index, child in enumerate(kind):
            for leaf in leaves(array.field(index)):
                yield pa.Array.from_buffers(
                    pa.struct([child.with_type(leaf.type)]), len(array), buffers, children=[leaf]
                )
    elif pa.types.is_map(kind):
        buffers = array.buffers()[:2]
        for child, values in ((kind.key_field, array.keys), (kind.item_field, array.items)):
            for leaf in leaves(values):
                entry = pa.field("entries", pa.struct([child.with_type(leaf.type)]), nullable=False)
                entries = pa.Array.from_buffers(entry.type, len(leaf), [None], children=[leaf])
                yield pa.Array.from_buffers(pa.list_(entry), len(array), buffers, children=[entries])
    elif pa.types.is_list(kind):
        for leaf in leaves(array.values):
            inner = pa.list_(kind.value_field.with_type(leaf.type))
            yield pa.Array.from_buffers(inner, len(array), array.buffers()[:2], children=[leaf])
    elif pa.types.is_fixed_size_list(kind):
        for leaf in leaves(array.values):
            inner = pa.list_(kind.value_field.with_type(leaf.type), kind.list_size)
            yield pa.Array.from_buffers(inner, len(array), array.buffers()[:1], children=[leaf])
    else:
        yield array


def read_batch(body: bytes) -> pa.RecordBatch:
    """The one record batch of an IPC stream, as inserts, updates and deletes carry it."""
    try:
        batches = list(pa.ipc.open_stream(body))
    except pa.ArrowInvalid as exc:
        raise bad_request("InvalidArgument", f"not an Arrow stream: {exc}") from exc
    if len(batches) != 1:
        raise bad_request("InvalidArgument", f"{len(batches)} record batches instead of one")
    return batches[0]


def read_schema(body: bytes) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.py_buffer(body))
    except (pa.ArrowInvalid, OSError) as exc:
        raise bad_request("InvalidArgument", f"not an Arrow schema: {exc}") from exc


def stream(schema: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    """An Arrow IPC stream of `batches`, which may be none."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
