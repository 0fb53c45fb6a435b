"""What a request presents to say who is calling: parsed, not judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

from proxy.errors import BadRequest, Unauthenticated
from proxy.identity.config import IdentityConfig

# RFC 6750 2.1, b64token: some of these, then any number of `=`. Deleting them from a token of 500 characters
# takes a seventh of the time of a regular expression, and every request brings one.
_TOKEN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-"
URL_PARAMETER = b"access_token"


@dataclass(frozen=True, slots=True)
class Credential:
    """`bearer`: a token, opaque or JWT. `basic`: the base64 of name and secret. `certificate`: a PEM."""

    kind: Literal["bearer", "basic", "certificate"]
    value: str = field(repr=False)


def parse_credential(
    headers: Iterable[tuple[bytes, bytes]], query: bytes, config: IdentityConfig
) -> Credential | None:
    """The one credential among the headers (names in lower case) and the raw query; None without any.

    Raises BadRequest when there are two (RFC 6750 2), Unauthenticated for one that is of no accepted kind.
    """
    key_header = config.api_key_header.lower().encode() if config.api_key_header else None
    authorization: list[bytes] = []
    keys: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            authorization.append(value)
        elif key_header is not None and name == key_header:
            keys.append(value)
    in_url = _url_tokens(query) if query else []
    if len(authorization) + len(keys) + len(in_url) > 1:
        raise BadRequest("The request authenticates in more than one way")
    if authorization:
        return _authorization(authorization[0], config)
    if keys:
        return bearer(keys[0].strip())
    if in_url:
        if not config.allow_url_token:
            raise Unauthenticated("Tokens in the URL are not accepted")
        return bearer(in_url[0])
    return None


def bearer(token: bytes) -> Credential:
    """A token that came by another way than a header, for instance a cookie. Raises Unauthenticated."""
    unpadded = token.rstrip(b"=")
    if not unpadded or unpadded.translate(None, _TOKEN):
        raise Unauthenticated("The token is malformed")
    return Credential("bearer", token.decode("ascii"))


def without_url_token(query: bytes) -> bytes:
    """The raw query without its token, for logs and upstreams; the rest byte for byte."""
    if b"access" not in query and b"%" not in query:
        return query
    return b"&".join(part for part in query.split(b"&") if _decoded_name(part) != URL_PARAMETER)


def _authorization(value: bytes, config: IdentityConfig) -> Credential:
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return bearer(rest.strip())
    if scheme.lower() == b"basic" and config.allow_basic:
        return Credential("basic", rest.strip().decode("latin-1"))
    raise Unauthenticated("This authentication scheme is not accepted")


def _url_tokens(query: bytes) -> list[bytes]:
    if b"access" not in query and b"%" not in query:
        return []
    return [_decoded_value(part) for part in query.split(b"&") if _decoded_name(part) == URL_PARAMETER]


def _decoded_name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" "))


def _decoded_value(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[2].replace(b"+", b" "))
