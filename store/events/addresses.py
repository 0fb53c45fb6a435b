"""Which addresses a URL that somebody gave us may lead to. Pure.

A receiver must not become a way into the operator's own network (OWASP SSRF). Everything but public unicast
addresses is refused: by the registries of IANA, by what embeds an IPv4 address, and by the addresses at
which clouds serve credentials. Operators list internal receivers that are meant.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "168.63.129.16/32",
    )
)  # fmt: skip
"""IPv4 that is not public unicast (RFC 6890 and later), and a cloud's own services at a public address."""

_PUBLIC_V6: Final = IPv6Network("2000::/3")
_REFUSED_V6: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)  # fmt: skip
"""Of the public IPv6 unicast: protocol assignments with Teredo, documentation, 6to4. NAT64, IPv4-mapped and
IPv4-compatible addresses lie outside of 2000::/3."""

_LOCAL_NAMES: Final = (".localhost", ".localdomain", ".local", ".internal", ".home.arpa")
_NUMBERS = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*")


class InvalidRule(ValueError):
    """An entry of the operator's list is no host name, address or network."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What may be called: public addresses, and what the operator lists, by name or by network.

    A listed name may lead anywhere: whoever serves its zone is trusted.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allowed: Iterable[str]) -> Addresses:
        """The operator's list: host names, addresses and networks. Raises `InvalidRule`."""
        hosts, networks = set(), []
        for entry in allowed:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                name = entry.lower().rstrip(".")
                if _NUMBERS.fullmatch(name) or not _HOST.fullmatch(name):
                    raise InvalidRule(f"{entry!r} is no host name, address or network") from None
                hosts.add(name)
        return cls(frozenset(hosts), tuple(networks))

    def admits(self, host: str, address: Address) -> bool:
        """Whether a connection to this address may be made for a URL of this host."""
        if name_of(host) in self.hosts or any(address in network for network in self.networks):
            return True
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if mapped is not None and any(mapped in network for network in self.networks):
            return True
        return is_public(address)

    def problem(self, url: str) -> str | None:
        """Why a URL cannot be called, as far as it shows without asking for its name; None when it may be.

        Names are asked for, and their addresses checked, when a connection is made.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "is not a valid URL"
        if parts.username is not None or parts.password is not None:
            return "must not hold a user or a password"
        if port == 0 or not host:
            return "is not a valid URL"
        literal = literal_of(host)
        if literal is not None:
            return None if self.admits(host, literal) else "leads to an address that is not public"
        name = name_of(host)
        if name in self.hosts:
            return None
        if name.endswith(_LOCAL_NAMES) or f".{name}" in _LOCAL_NAMES:
            # Should the operator's networks allow what it leads to, that is found when it is called.
            return None if self.networks else "leads to an address that is not public"
        return None


def name_of(host: str) -> str:
    """A host name as it is compared."""
    return unicodedata.normalize("NFKC", host).lower().rstrip(".")


def literal_of(host: str) -> Address | None:
    """The address that a URL's host spells out, also in the forms that only resolvers take (`127.1`,
    `0x7f000001`, `2130706433`) and in characters that clients map to digits; None for a name."""
    bare = unicodedata.normalize("NFKC", host).strip("[]").partition("%")[0]
    try:
        return ip_address(bare)
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(bare):
        return None
    try:
        return IPv4Address(socket.inet_aton(bare.rstrip(".")))
    except OSError:
        # Numbers that are no address anywhere: never asked for as a name either.
        return IPv4Address(0)


def is_public(address: Address) -> bool:
    """Whether this is a unicast address of the public internet, and not one that carries another inside."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED)
    if address.scope_id is not None or address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _REFUSED_V6)
