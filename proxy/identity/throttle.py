"""Failures to log in are counted, and further attempts wait."""

from __future__ import annotations

from cachetools import LRUCache

from proxy.errors import TooManyRequests

WINDOW_S = 60
MAX_BY_CLIENT = 10
MAX_BY_PEER = 100
MAX_TRACKED = 10_000


class Throttle:
    """At most 10 failures a minute for one client from one peer, and 100 from one peer.

    Counted by client and peer together, so that a stranger cannot lock a client out from elsewhere.
    """

    def __init__(
        self, *, window_s: int = WINDOW_S, by_client: int = MAX_BY_CLIENT, by_peer: int = MAX_BY_PEER
    ):
        self._window_s = window_s
        self._limits = (by_client, by_peer)
        self._counts: tuple[LRUCache[str, tuple[int, int]], LRUCache[str, tuple[int, int]]] = (
            LRUCache(MAX_TRACKED),
            LRUCache(MAX_TRACKED),
        )

    def check(self, client_id: str, peer: str, now_s: int) -> None:
        """Raises TooManyRequests, with the time to wait, when there were too many failures."""
        for counts, limit, key in self._rows(client_id, peer):
            count, since_s = counts.get(key, (0, now_s))
            left_s = since_s + self._window_s - now_s
            if count >= limit and 0 < left_s <= self._window_s:
                raise TooManyRequests("Too many failures to log in", retry_after_s=left_s)

    def failed(self, client_id: str, peer: str, now_s: int) -> None:
        """Count a failure. The window begins with the first one."""
        for counts, _, key in self._rows(client_id, peer):
            count, since_s = counts.get(key, (0, now_s))
            if not 0 <= now_s - since_s < self._window_s:
                count, since_s = 0, now_s
            counts[key] = (count + 1, since_s)

    def _rows(self, client_id: str, peer: str) -> list[tuple[LRUCache[str, tuple[int, int]], int, str]]:
        by_client, by_peer = self._counts
        return [(by_client, self._limits[0], f"{peer} {client_id}"), (by_peer, self._limits[1], peer)]
