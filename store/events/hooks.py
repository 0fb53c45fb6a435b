"""A webhook as its deliveries need it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from store.events.bodies import Options
from store.events.matching import Filters
from store.events.sealing import Seal
from store.metadata.rows import Document, Row

ACTIVE = ("created", "started")


@dataclass(frozen=True, slots=True)
class Hook:
    """What one version of a webhook says.

    `owner`: on whose behalf, opaque. `sealed`: its secret as it is kept. `start`: events behind this sequence
    number are for it.
    """

    id: str
    version: int
    status: str
    url: str
    filters: Filters
    options: Options
    key_name: str | None
    owner: bytes | None = field(repr=False)
    sealed: str | None = field(repr=False)
    start: int

    @property
    def is_active(self) -> bool:
        """Whether events are delivered to it."""
        return self.status in ACTIVE

    @classmethod
    def of(cls, row: Row) -> Hook:
        """The webhook in a row."""
        document: Document = orjson.loads(row.document)
        private: Document = orjson.loads(row.private or b"{}")
        owner = private.get("owner")
        return cls(
            row.id,
            row.version,
            document["status"],
            document["url"],
            Filters.of(document),
            Options.of(document),
            document.get("api_key_name"),
            None if owner is None else owner.encode(),
            private.get("sealed"),
            private.get("start", 0),
        )


def sealed_secret(seal: Seal, webhook_id: str, secret: str | None) -> str | None:
    """A secret as it is kept, bound to its webhook; an empty one counts as none."""
    return seal.close(secret, f"webhook {webhook_id}") if secret else None


def opened_secret(seal: Seal, hook: Hook) -> str | None:
    """A webhook's secret. Raises `sealing.Unreadable` when the key is lost."""
    return None if hook.sealed is None else seal.open(hook.sealed, f"webhook {hook.id}")


def resealed(seal: Seal, hook: Hook) -> str | None:
    """A webhook's secret as it is to be kept: closed by the newest key, so that older ones may go. Raises
    `sealing.Unreadable`."""
    if hook.sealed is None or seal.is_current(hook.sealed, f"webhook {hook.id}"):
        return hook.sealed
    return sealed_secret(seal, hook.id, opened_secret(seal, hook))
