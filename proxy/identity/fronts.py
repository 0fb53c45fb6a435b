"""Reverse proxies that stand in front of us, and whom they say they speak for."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
MAX_HOPS = 20
"""As many entries of X-Forwarded-For are looked at, from the last one on."""


def is_front(peer: str, fronts: Iterable[Network]) -> bool:
    """Whether the address is a front's. What is no address is none."""
    address = _address(peer)
    return address is not None and any(address in network for network in fronts)


def client_of(headers: Iterable[tuple[bytes, bytes]], peer: str, fronts: tuple[Network, ...]) -> str:
    """The address of who calls, as far as it can be believed: the connection's, or, behind a front, the last
    one in X-Forwarded-For that is not a front's.

    Each front appends the address it was called from, so entries before a stranger's are the stranger's own
    words. An entry that is no address ends the search: whoever wrote it counts as the caller.
    """
    if not fronts or not is_front(peer, fronts):
        return peer
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    found = peer
    for entry in reversed(said.decode("latin-1").split(",")[-MAX_HOPS:]):
        address = _address(_without_port(entry.strip()))
        if address is None:
            return found
        found = str(address)
        if not is_front(found, fronts):
            return found
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(entry: str) -> str:
    """Some fronts write `192.0.2.1:4711`, and `[2001:db8::1]` with a port or without."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
