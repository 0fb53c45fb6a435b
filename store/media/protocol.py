"""One storage backend, as the store sees it. The contract suite runs on every implementation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Backend:
    """What GET /service/storage-backends tells of a storage backend (TAMS 8.2 storage-backend.json)."""

    id: str
    label: str | None
    provider: str
    store_product: str
    region: str | None = None
    availability_zone: str | None = None
    default: bool = False
    tags: dict[str, str | list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stat:
    """An object's bytes: how many, and what names this very version of them."""

    size_bytes: int
    etag: str
    version: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class PutUrl:
    """Where and how to upload. Only `Content-Type` is ever asked of a client (rule 49)."""

    url: str
    content_type: str


SignUrl = Callable[[str, str | None, str | None], str]
"""The signed URL that reads a key, by key, version and content type; see `Media.get_url`."""


class Media(Protocol):
    """Bytes by key. A key is made by the store (date, flow, random part), never by a client.

    Written bytes are whole or absent, and durable once a write has answered. `version` is what `pin`
    returned for the key: reading with it never yields other bytes than those that were pinned.
    Failures of the backend raise `errors.Unavailable`, no space `errors.Full`; an absent key is None.
    """

    backend: Backend

    def get_url(self, key: str, *, version: str | None, now_s: int, content_type: str | None = None) -> str:
        """A signed URL that reads the key; no I/O, a few microseconds.

        Valid for at most the configured time from `now_s` and at least `min_presigned_url_timeout`; the same
        URL within an interval. `content_type` is what readers are told where the bytes themselves do not
        carry it (files); give it whenever the store knows it.
        """
        ...

    def sign_at(self, now_s: int) -> SignUrl:
        """What `get_url` gives at a time, for many keys at once: half the work is the same for all. For use
        right away: the backend's credentials may change."""
        ...

    def era(self, now_s: int) -> object:
        """What URLs depend on besides their key: while it stays equal, `get_url` and `plain_url` give the
        same for the same arguments, whenever asked. No I/O."""
        ...

    def plain_url(self, key: str) -> str:
        """The same place without a signature, for callers with a credential of their own: a signed URL up to
        its query. No I/O."""
        ...

    def put_url(self, key: str, *, content_type: str, presigned: bool, now_s: int) -> PutUrl:
        """Where a client uploads the key's bytes; no I/O."""
        ...

    async def stat(self, key: str, *, version: str | None = None) -> Stat | None:
        """The key's bytes as they are now, or those that were pinned; None when those are not there (any
        more)."""
        ...

    async def pin(self, keys: Sequence[str]) -> dict[str, Stat]:
        """Freeze the keys' bytes at registration: later uploads by an old URL are refused or have no effect
        on readers. Idempotent. Keys without bytes are absent, and nothing about them changed."""
        ...

    async def unpin(self, keys: Sequence[str]) -> None:
        """Undo `pin`, for registrations that did not come about."""
        ...

    def read(
        self, key: str, *, version: str | None = None, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to but not including `end`, in chunks of at most `CHUNK_BYTES`.
        Raises `errors.NotFound` before the first chunk when there are none, `errors.Unavailable` when fewer
        bytes come than there should be. Close it (`contextlib.aclosing`) when stopping early."""
        ...

    async def write(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        *,
        content_type: str,
        size_bytes: int | None = None,
    ) -> Stat:
        """Store bytes from the server's side, streaming in bounded memory, atomically.

        Never changes what readers of pinned bytes get. `size_bytes`, when known, helps to refuse early."""
        ...

    async def adopt(self, key: str, path: Path) -> Stat | None:
        """Make a file of this machine the key's bytes, without a copy: a second name of it, durable once this
        has answered. Nobody may change the file any more; its own name may go.

        None, and nothing done, where the backend cannot: the bytes must be written then. Raises as `write`.
        """
        ...

    async def copy(self, key: str, source: Media, source_key: str, *, version: str | None) -> Stat:
        """Fill `key` with the bytes of another backend's key, by the cheapest means the two have."""
        ...

    async def delete(self, keys: list[str]) -> None:
        """Remove the keys' bytes, pinned or not; absent keys are no error."""
        ...

    def keys(self, prefix: str = "") -> AsyncGenerator[tuple[str, int], None]:
        """Every (key, last modified in Unix seconds) under the prefix, for the orphan scan."""
        ...

    async def check(self) -> list[str]:
        """Problems that an operator must mend, in plain words; empty when all is well."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
