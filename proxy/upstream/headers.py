"""Headers and URLs between a client and a foreign upstream: what passes, and how it is rewritten. Pure.

Everything is by allow-list: hop-by-hop headers, those that `Connection` names, cookies and whatever a client
or an upstream makes up never pass (RFC 9110 7.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from proxy.errors import BadRequest
from proxy.upstream.protocol import Pairs

MEDIA_REQUEST = frozenset(
    (
        b"range",
        b"if-range",
        b"if-none-match",
        b"if-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"content-type",
        b"content-md5",
        b"content-length",
    )
)
MEDIA_RESPONSE = frozenset(
    ("content-type", "content-length", "content-range", "accept-ranges", "etag", "last-modified")
)
JSON = ("content-type", "application/json")
_OWN_PARAMETERS = frozenset(("access_token", "page", "limit"))
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^",;\s]+))*)')
_REL = re.compile(r'rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Base:
    """Where an upstream is: `origin` as in URLs, `path` before all of its paths, no slash at its end."""

    origin: str
    path: str

    @classmethod
    def of(cls, url: str) -> Base:
        """The base in a URL. ValueError for one that is no plain http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or any(c <= " " for c in parts.netloc):
            raise ValueError("must be an http or https URL")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must hold no credentials, query or fragment")
        default = 443 if parts.scheme == "https" else 80
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = "" if parts.port in (None, default) else f":{parts.port}"
        return cls(f"{parts.scheme}://{host}{port}", parts.path.rstrip("/"))

    @property
    def host(self) -> bytes:
        """The name that gives a mention of this upstream away."""
        return (urlsplit(self.origin).hostname or "").encode()

    def target(self, url: str) -> str | None:
        """Path and query of a URL on this origin, None for a URL elsewhere."""
        try:
            parts = urlsplit(url)
            same = Base.of(f"{parts.scheme}://{parts.netloc}").origin == self.origin
        except ValueError:
            return None
        if not same:
            return None
        return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def path_of(template: str, params: Mapping[str, str]) -> str:
    """The path of an operation, built anew from decoded parameters.

    Raises `BadRequest` for a parameter with a step (`..`) in it: an upstream that decodes too early would
    take it for another resource.
    """
    pieces = []
    for piece in template.split("/"):
        if piece.startswith("{"):
            value = params[piece[1:-1]]
            if any(step in (".", "..") for step in re.split(r"[/\\]", value)):
                raise BadRequest("The path holds a step that the upstream could follow.")
            piece = quote(value, safe="")
        pieces.append(piece)
    return "/".join(pieces)


def checked(query: Pairs) -> list[tuple[str, str]]:
    """The client's query without what the proxy itself reads. Raises `BadRequest` for a name given twice:
    the upstream might count another one than was decided on."""
    names = [name for name, _ in query]
    if len(set(names)) != len(names):
        raise BadRequest("A query parameter is given more than once.")
    return [(name, value) for name, value in query if name not in _OWN_PARAMETERS]


def with_query(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Path and query."""
    query = urlencode(list(pairs), quote_via=quote)
    return f"{path}?{query}" if query else path


def overlaid(pairs: Pairs, over: Pairs) -> list[tuple[str, str]]:
    """The pairs, with those of `over` in place of any of the same name."""
    names = {name for name, _ in over}
    return [*(pair for pair in pairs if pair[0] not in names), *over]


def next_page(sent: Pairs, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...] | None:
    """What to ask for besides `sent` to get the next page; None on the last one.

    Of a `Link` only the query counts, whatever host or path it has, and of the query what is new.
    """
    said = frozenset(sent)
    for url, parameters in _LINK.findall(headers.get("link", "")):
        relations = [a or b for a, b in _REL.findall(parameters)]
        if any("next" in relation.lower().split() for relation in relations):
            # By hand: what stands before the query need not even be a URL.
            given = parse_qsl(url.partition("#")[0].partition("?")[2], keep_blank_values=True)
            fresh = tuple(pair for pair in given if pair not in said)
            if fresh:
                return fresh
    key = headers.get("x-paging-nextkey")
    return (("page", key),) if key else None


def moved(location: str, base: Base, public_url: str) -> str | None:
    """A `Location` as the client may have it; None when it leads elsewhere."""
    target = location if location.startswith("/") and not location.startswith("//") else base.target(location)
    if target is None or not target.startswith(f"{base.path}/"):
        return None
    return public_url + target[len(base.path) :]


def media_request(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """The headers of a media request that pass on."""
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers if n in MEDIA_REQUEST]
