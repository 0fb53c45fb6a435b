"""Getting the bytes behind a URL that a client registered: from addresses that were checked alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp
from yarl import URL

from store.errors import NotFound, Unavailable
from store.events.addresses import Addresses, literal_of
from store.events.pinned import Pinned
from store.events.sender import Lookup, Names, Refused
from store.media.protocol import CHUNK_BYTES

CONNECT_S, SILENT_S = 10.0, 60.0
MOST_BYTES = 64 << 30
"""The longest object that is fetched."""
NOT_PUBLIC = "The URL leads to an address that is not public."
_PASSES = frozenset({408, 425, 429, *range(500, 600)})


async def fetched(
    addresses: Addresses, url: str, lookup: Lookup | None = None, most_bytes: int = MOST_BYTES
) -> AsyncGenerator[bytes, None]:
    """The bytes at a URL, in bounded memory; redirects are not followed.

    Raises `errors.Unavailable` for what may pass, fewer bytes than were said included, and `errors.NotFound`
    for what will not: no such thing there, too long, an address that must not be called.
    """
    target = URL(url, encoded=url.isascii())
    literal = literal_of(target.raw_host or "")
    # aiohttp asks no resolver for an address.
    if addresses.problem(url) is not None or (
        literal is not None and not addresses.admits(target.raw_host or "", literal)
    ):
        raise NotFound(NOT_PUBLIC)
    resolver = Pinned(addresses, lookup or Names())
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                trust_env=False,
            ) as session,
            session.get(target, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                passes = answer.status in _PASSES
                raise (Unavailable if passes else NotFound)(f"The URL answers {answer.status}.")
            left = most_bytes
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise NotFound("The object behind the URL is too long.")
                yield chunk
    except aiohttp.ClientConnectorError as exc:
        if isinstance(exc.os_error, Refused):
            raise NotFound(NOT_PUBLIC) from exc
        raise Unavailable("The URL's host cannot be reached.") from exc
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise Unavailable("The connection to the URL's host broke.") from exc
