"""May this owner see this event, and what of it: asked for every delivery, and for every live stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cachetools import LRUCache

from proxy.decide import Caller, passes_scope
from proxy.gate import Sights
from proxy.identity.principal import ADMIN, READ, Principal
from proxy.owner import Owner, owner_of, read_owner
from proxy.redact import visible_part
from proxy.rules import Action
from proxy.upstream.protocol import Ref, Upstream, View

SCOPES = frozenset((READ, ADMIN))
KEPT_S = 30 * 86_400
"""How long groups count that the owner has not shown again."""
REFRESH_S = 3_600
MAX_OWNERS = 10_000
_log = logging.getLogger(__name__)
Refresh = Callable[[str, bytes, bytes], Awaitable[None]]
"""Writes down an owner anew: (webhook's id, as it is kept, as it is to be). Failures are logged."""


class OwnerLapsed(Exception):
    """What the owner may do is not known any more."""


class Happening(Protocol):
    """An event of the store. `classes`: those to authorise it by, before a deletion and after a change."""

    @property
    def body(self) -> dict[str, Any]: ...

    @property
    def classes(self) -> frozenset[str]: ...

    @property
    def flow_id(self) -> str | None: ...

    @property
    def source_id(self) -> str | None: ...

    @property
    def flow_collected_by(self) -> tuple[str, ...]: ...

    @property
    def source_collected_by(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What of an event an owner may know. `view`: what else it may see, storage backends above all."""

    body: dict[str, Any]
    flow_collected_by: tuple[str, ...]
    source_collected_by: tuple[str, ...]
    view: View


@dataclass(frozen=True, slots=True)
class _Kept:
    """An owner of a webhook, and as it is written down."""

    written: bytes
    owner: Owner


class Watcher:
    """Decides on the permissions of now: nothing is kept longer than `Sights` keeps it. `now_s` gives Unix
    seconds."""

    def __init__(
        self, sights: Sights, upstream: Upstream, now_s: Callable[[], float], refresh: Refresh
    ) -> None:
        self._sights = sights
        self._upstream = upstream
        self._now_s = now_s
        self._refresh = refresh
        self._read: LRUCache[bytes, Owner] = LRUCache(MAX_OWNERS)
        self._owners: dict[tuple[str, str, str | None], dict[str, _Kept]] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    async def admit(self, owner: bytes | None, event: Happening) -> Seen | None:
        """What the owner may know of an event, None for nothing.

        It must be readable by the event's own classes and, while what it is about is there, by the classes of
        now. Raises `OwnerLapsed`, and `errors.Error` while it cannot be decided.
        """
        principal = self._principal(owner)
        if not passes_scope(principal.scopes, SCOPES):
            return None
        sight = await self._sights.sight(principal)
        caller = sight.caller
        if caller.admin:
            return Seen(event.body, event.flow_collected_by, event.source_collected_by, sight.view)
        if not caller.may(Action.READ, event.classes):
            return None
        subject: Ref = ("flow", event.flow_id) if event.flow_id else ("source", event.source_id or "")
        related = [*_named(event), *_collecting(event)]
        known = (await self._upstream.look_up([subject, *related], (), sight.view)).classes
        if subject in known and not caller.may(Action.READ, known[subject]):
            return None
        return _seen(event, frozenset(r for r in related if _reads(caller, known.get(r))), sight.view)

    def know(self, owners: Mapping[str, bytes]) -> None:
        """Take note of the owners of all webhooks, by the webhooks' ids."""
        found: dict[tuple[str, str, str | None], dict[str, _Kept]] = {}
        for webhook_id, written in owners.items():
            try:
                owner = self._owner(written)
            except OwnerLapsed:
                continue
            key = _key(owner.principal)
            found.setdefault(key, {})[webhook_id] = _Kept(written, owner)
        self._owners = found

    def seen(self, principal: Principal) -> None:
        """A principal has called: what is kept of it as an owner is brought up to date, in the background."""
        mine = self._owners.get(_key(principal)) if self._owners else None
        if mine is None:
            return
        now_s = int(self._now_s())
        for webhook_id, kept in mine.items():
            fresh = renewed(kept.owner, principal, now_s)
            if fresh is not None:
                written = owner_of(fresh.principal, fresh.time_s)
                mine[webhook_id] = _Kept(written, fresh)
                task = asyncio.ensure_future(self._refresh(webhook_id, kept.written, written))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("the owner of a webhook could not be brought up to date: %s", task.exception())

    def _principal(self, written: bytes | None) -> Principal:
        if written is None:
            raise OwnerLapsed("The webhook has no owner. Replace it, to become its owner.")
        owner = self._owner(written)
        if rests_on_claims(owner.principal) and self._now_s() - owner.time_s > KEPT_S:
            raise OwnerLapsed("The owner has not called for 30 days; what it may see is not known any more.")
        return owner.principal

    def _owner(self, written: bytes) -> Owner:
        owner = self._read.get(written)
        if owner is None:
            try:
                owner = self._read[written] = read_owner(written)
            except (KeyError, TypeError, ValueError) as exc:
                raise OwnerLapsed("The webhook's owner cannot be read. Replace it, to own it.") from exc
        return owner


def rests_on_claims(principal: Principal) -> bool:
    """Whether what a principal may do rests on what its token said of it, beyond its name."""
    return bool(principal.groups) or principal.is_admin_by_scope


def renewed(owner: Owner, principal: Principal, now_s: int) -> Owner | None:
    """An owner as its own call shows it to be: with the groups of now. None where nothing is worth writing.

    Scopes stay those with which it registered. One who was an administrator by scope is confirmed only by a
    call with that scope.
    """
    before = owner.principal
    if before.is_admin_by_scope and not principal.is_admin_by_scope:
        return None
    if before.groups == principal.groups and now_s - owner.time_s < REFRESH_S:
        return None
    return Owner(replace(before, groups=principal.groups), now_s)


def _key(principal: Principal) -> tuple[str, str, str | None]:
    return (principal.issuer, principal.subject, principal.client)


def _reads(caller: Caller, classes: frozenset[str] | None) -> bool:
    """Whether an id may be named; one that is gone may not."""
    return classes is not None and caller.may(Action.READ, classes)


def _named(event: Happening) -> Iterable[Ref]:
    """The flows or sources that the body names."""
    for kind in ("flow", "source"):
        document = event.body.get(kind) or {}
        for item in document.get(f"{kind}_collection") or ():
            yield (kind, item["id"])
        for name in document.get("collected_by") or ():
            yield (kind, name)


def _collecting(event: Happening) -> Iterable[Ref]:
    yield from (("flow", name) for name in event.flow_collected_by)
    yield from (("source", name) for name in event.source_collected_by)


def _seen(event: Happening, visible: frozenset[Ref], view: View) -> Seen:
    body = {
        name: visible_part(value, frozenset(id for kind, id in visible if kind == name))
        if name in ("flow", "source")
        else value
        for name, value in event.body.items()
    }
    return Seen(
        body,
        tuple(id for id in event.flow_collected_by if ("flow", id) in visible),
        tuple(id for id in event.source_collected_by if ("source", id) in visible),
        view,
    )
