"""Paths to what answers them: by splitting, not by trying patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from store.errors import BadRequest

T = TypeVar("T")
Methods = Mapping[str, T]

_HEX = frozenset(b"0123456789abcdefABCDEF")


class _Node(Generic[T]):
    __slots__ = ("fixed", "methods", "name", "param")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node[T]] = {}
        self.name: str = ""
        self.param: _Node[T] | None = None
        self.methods: Methods[T] | None = None


class Router(Generic[T]):
    """Templates like `/flows/{flowId}` to their methods. A fixed segment is tried before a parameter."""

    def __init__(self, routes: Mapping[str, Methods[T]]) -> None:
        self._root: _Node[T] = _Node()
        for template, methods in routes.items():
            self._add(template, methods)

    def _add(self, template: str, methods: Methods[T]) -> None:
        node = self._root
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                name = segment[1:-1]
                if node.param is None:
                    node.param, node.name = _Node(), name
                elif node.name != name:
                    raise ValueError(f"{template}: {{{node.name}}} stands where {{{name}}} does")
                node = node.param
            else:
                node = node.fixed.setdefault(segment, _Node())
        if node.methods is not None:
            raise ValueError(f"{template} is there twice")
        node.methods = methods

    def match(self, raw_path: bytes) -> tuple[Methods[T], dict[str, str]] | None:
        """The methods of a raw, still percent-encoded path and its decoded parameters, None for no path.

        Each segment is decoded once; `%2F` is never a separator. Raises `BadRequest` for what is not
        strict percent-encoded UTF-8 or holds a NUL.
        """
        node = self._root
        params: dict[str, str] = {}
        for raw in raw_path.split(b"/")[1:]:
            segment = decode(raw)
            known = node.fixed.get(segment)
            if known is None:
                if node.param is None or not segment:
                    return None
                params[node.name] = segment
                known = node.param
            node = known
        return None if node.methods is None else (node.methods, params)


def decode(raw: bytes) -> str:
    """One strict percent-decoding of a path segment or a query name or value. Raises `BadRequest`."""
    if not raw.isascii():
        raise BadRequest("The URL is not percent-encoded as RFC 3986 says.")
    # `in` would first try the byte string as a number, and pay for an exception.
    if raw.find(b"%") >= 0:
        pieces = raw.split(b"%")
        if any(len(p) < 2 or p[0] not in _HEX or p[1] not in _HEX for p in pieces[1:]):
            raise BadRequest("The URL is not percent-encoded as RFC 3986 says.")
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadRequest("The URL does not decode to UTF-8.") from None
    if "\0" in text:
        raise BadRequest("The URL holds a NUL character.")
    return text


def decode_query(raw: bytes) -> list[tuple[str, str]]:
    """The query's pairs in order, `+` read as a space. Raises `BadRequest` as `decode`."""
    pairs = []
    for piece in raw.split(b"&") if raw else ():
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            pairs.append((decode(name), decode(value)))
    return pairs
