"""HTTP by aiohttp to addresses that were checked, and to no others."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from store.events.addresses import Addresses
from store.events.sender import NOT_PUBLIC, Lookup, Refused


def session(addresses: Addresses, lookup: Lookup, timeout_s: float, of_one: int) -> aiohttp.ClientSession:
    """Kept connections, `of_one` host at most so many; make it on the loop that uses it."""
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=of_one, resolver=Pinned(addresses, lookup), use_dns_cache=False
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        trust_env=False,
    )


class Pinned(AbstractResolver):
    """Gives aiohttp only addresses that may be called; it connects to these and asks no second time, so that
    a name that changes meanwhile (DNS rebinding) changes nothing."""

    def __init__(self, addresses: Addresses, lookup: Lookup) -> None:
        self._addresses = addresses
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses to connect to. Raises `Refused` where none may be called."""
        found = [ip_address(text) for text in await self._lookup(host)]
        if not found:
            raise OSError("no address")
        allowed = [address for address in found if self._addresses.admits(host, address)]
        if not allowed:
            raise Refused(NOT_PUBLIC)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in allowed
        ]

    async def close(self) -> None:
        """There is nothing to close."""
