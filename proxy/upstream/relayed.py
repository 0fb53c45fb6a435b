"""URLs of the proxy's own for media that lie on a foreign upstream's origin. Pure.

Only URLs that the proxy handed out lead anywhere: the target is sealed into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proxy.errors import Forbidden
from proxy.upstream.headers import Base
from proxy.upstream.seal import Sealer

PATH = "/media/relay/"
_TAG = 22
INTERVAL_S = 300


@dataclass(frozen=True, slots=True)
class Target:
    """What a relayed URL stands for: path and query on the upstream's origin. `signed`: it authorises
    itself there; otherwise the proxy's own credential goes along."""

    method: Literal["GET", "PUT"]
    url: str
    signed: bool


class RelayedUrls:
    """Makes and reads relayed URLs of one upstream. `name` tells it from others; they are valid for
    `lifetime_s` at least."""

    def __init__(self, sealer: Sealer, base: Base, public_url: str, name: str, lifetime_s: int) -> None:
        self._sealer = sealer
        self._base = base
        self._prefix = f"{public_url}{PATH}"
        self._bound_to = name.encode()
        self._lifetime_s = lifetime_s

    def make(self, method: str, url: str, signed: bool, now_s: float) -> str | None:
        """The URL for the client; None for a URL that is not on the upstream's origin."""
        target = self._base.target(url)
        if target is None:
            return None
        # Rounded, so that a URL asked for again is the same and can be cached.
        until_s = (int(now_s) // INTERVAL_S + 1) * INTERVAL_S + self._lifetime_s
        text = self._sealer.seal([method, target, signed, until_s], self._bound_to)
        return f"{self._prefix}{text[_TAG:]}?signature={text[:_TAG]}"

    def read(self, method: str, path: str, query: str, now_s: float) -> Target:
        """What a URL stands for. Raises `Forbidden` for one that is altered, expired or for another use."""
        signature = query.removeprefix("signature=")
        if not path.startswith(PATH) or len(signature) != _TAG:
            raise Forbidden("The URL is not one that was given out here.")
        try:
            said = self._sealer.open(signature + path[len(PATH) :], self._bound_to)
        except ValueError:
            raise Forbidden("The URL is not one that was given out here.") from None
        allowed, target, signed, until_s = said
        if now_s > until_s:
            raise Forbidden("The URL has expired.")
        if ("GET" if method == "HEAD" else method) != allowed:
            raise Forbidden("The URL is for another method.")
        return Target(allowed, target, signed)
