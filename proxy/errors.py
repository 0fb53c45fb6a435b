"""Everything the proxy refuses or fails at, and the one table that gives each its HTTP status."""

from __future__ import annotations


class Error(Exception):
    """Base of the proxy's errors. `summary` is for the caller and names no resource id; `reason`, for
    operators alone, may say more."""

    reason = ""

    def __init__(self, summary: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(summary)
        self.summary = summary
        self.retry_after_s = retry_after_s

    @property
    def told(self) -> str:
        """What is written down of it."""
        return f"{self.summary} {self.reason}" if self.reason else self.summary


class BadRequest(Error):
    """The request is malformed, or names what its caller cannot see."""


class Unauthenticated(Error):
    """No usable credential (RFC 6750 3.1). `code` is None when none was presented: a bare challenge."""

    def __init__(self, summary: str, *, code: str | None = "invalid_token") -> None:
        super().__init__(summary)
        self.code = code


class InsufficientScope(Error):
    """The token's scopes do not reach this operation (RFC 6750 3.1). `scope` is what would."""

    def __init__(self, summary: str, *, scope: str) -> None:
        super().__init__(summary)
        self.scope = scope


class Forbidden(Error):
    """The caller may see the resource but not do this to it."""


class NotFound(Error):
    """Absent, or hidden: the two are one answer."""


class MethodNotAllowed(Error):
    """The path exists, the method does not. `allow` lists those that do."""

    def __init__(self, summary: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(summary)
        self.allow = allow


class NotSupported(Error):
    """The upstream lacks what this request needs; the summary names it."""


class TooLarge(Error):
    """The request body or the token is over its limit."""


class TooSlow(Error):
    """The body did not arrive in time."""


class UnsupportedEncoding(Error):
    """The body is compressed."""


class TooManyRequests(Error):
    """Throttled; `retry_after_s` tells for how long."""


class BadUpstream(Error):
    """The upstream answered with something that is no answer."""


class Unavailable(Error):
    """What the decision or the answer depends on is down, slow or truncated. Never an allow."""

    def __init__(self, summary: str, *, retry_after_s: int | None = None, reason: str = "") -> None:
        super().__init__(summary, retry_after_s=retry_after_s)
        self.reason = reason


class UpstreamTimeout(Error):
    """The upstream did not answer in time."""


class InvalidSettings(Exception):
    """The settings cannot be used. `problems`: everything that is wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


STATUS: dict[type[Error], int] = {
    BadRequest: 400,
    Unauthenticated: 401,
    InsufficientScope: 403,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    TooLarge: 413,
    UnsupportedEncoding: 415,
    TooManyRequests: 429,
    NotSupported: 501,
    BadUpstream: 502,
    Unavailable: 503,
    UpstreamTimeout: 504,
}
