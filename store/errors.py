"""Everything the store refuses or fails at, and the one table that gives each its HTTP status."""

from __future__ import annotations


class Error(Exception):
    """Base of the store's errors. `summary` is for the caller."""

    def __init__(self, summary: str) -> None:
        super().__init__(summary)
        self.summary = summary


class BadRequest(Error):
    """The request breaks the specification or a rule of the store; nothing was changed."""


class Forbidden(Error):
    """The resource does not allow it, whoever asks: a read-only flow, the last instance."""


class NotFound(Error):
    """No such resource."""


class MethodNotAllowed(Error):
    """The path exists, the method does not. `allow` lists those that do."""

    def __init__(self, summary: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(summary)
        self.allow = allow


class Expectation(Error):
    """What the caller was authorised on is no longer so (`expect`); nothing was changed."""


class Gone(Error):
    """What was asked for was there once, and is forgotten."""


class PreconditionFailed(Error):
    """The bytes are registered already and cannot be replaced."""


class LengthRequired(Error):
    """An upload must say how long it is."""


class TooLarge(Error):
    """The body is over its limit."""


class TooSlow(Error):
    """The body did not arrive in time."""


class UnsupportedEncoding(Error):
    """The body is compressed."""


class RangeNotSatisfiable(Error):
    """No byte of the object is in the range asked for. `size_bytes` is the object's."""

    def __init__(self, summary: str, *, size_bytes: int) -> None:
        super().__init__(summary)
        self.size_bytes = size_bytes


class Full(Error):
    """No space left for bytes or metadata; reads go on."""


class Unavailable(Error):
    """A database or a storage backend is down or slow; the request may be repeated."""


STATUS: dict[type[Error], int] = {
    BadRequest: 400,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    Expectation: 409,
    Gone: 410,
    LengthRequired: 411,
    PreconditionFailed: 412,
    TooLarge: 413,
    UnsupportedEncoding: 415,
    RangeNotSatisfiable: 416,
    Full: 507,
    Unavailable: 503,
}
