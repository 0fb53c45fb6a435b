"""The store's door for a caller in the same process: plain values in, plain values out, no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from store.core import Store
from store.errors import Error
from store.http import Request, Response, failure, utc_now
from store.metadata.query import Query, tag_values
from store.metadata.rows import Change, Event, Expect, Kind, ObjectFact, Ref, Row
from store.params import Params
from store.routes.table import OPERATIONS
from store.view import View


class ViewLike(Protocol):
    """A View, whoever defines it."""

    @property
    def admin(self) -> bool: ...
    @property
    def allow(self) -> frozenset[str]: ...
    @property
    def deny(self) -> frozenset[str]: ...
    @property
    def default_class(self) -> str | None: ...


class ExpectLike(Protocol):
    """An Expect whose kinds are plain strings."""

    @property
    def classes(self) -> Mapping[tuple[str, str], frozenset[str] | None]: ...
    @property
    def members(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def references(self) -> frozenset[tuple[str, str]]: ...
    @property
    def unknown(self) -> frozenset[str]: ...


class Told(Protocol):
    """An Event, whoever defines it."""

    @property
    def type(self) -> str: ...
    @property
    def time_ns(self) -> int: ...
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


class CallLike(Protocol):
    """A call of an operation, as `store.http.Request` has it."""

    @property
    def operation(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def query(self) -> Sequence[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def view(self) -> ViewLike | None: ...
    @property
    def expect(self) -> ExpectLike | None: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def owner(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Known:
    """Facts about several resources; what has no entry does not exist. Flows have their source, and their
    profile and collection where there is one."""

    classes: Mapping[tuple[str, str], frozenset[str]]
    source_ids: Mapping[str, str]
    profile_ids: Mapping[str, str]
    collections: Mapping[str, list[dict[str, Any]]]
    objects: Mapping[str, ObjectFact]


@dataclass(frozen=True, slots=True)
class BackendFact:
    """A storage backend, for deciding who may use it."""

    id: str
    label: str | None
    classes: frozenset[str]
    default: bool


@dataclass(frozen=True, slots=True)
class MediaFact:
    """The object whose bytes lie at a key, and their type."""

    object_id: str
    content_type: str


class Door:
    """What a proxy in the same process does with a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._backends = tuple(
            BackendFact(
                media.backend.id,
                media.backend.label,
                tag_values(dict(media.backend.tags), "auth_classes"),
                media.backend.default,
            )
            for media in store.backends.values()
        )

    async def call(self, call: CallLike) -> Response:
        """Perform an operation; the store's errors become responses."""
        try:
            request = Request(
                call.operation,
                call.path,
                call.params,
                Params(call.query),
                call.body,
                _view(call.view),
                _expect(call.expect),
                call.actor,
                call.owner,
            )
            return await OPERATIONS[call.operation](self._store, request)
        except Error as exc:
            return failure(exc, utc_now())

    async def look_up(
        self, refs: Iterable[tuple[str, str]], objects: Iterable[str], view: ViewLike | None
    ) -> Known:
        """Facts about resources, of one snapshot, and about objects, of another."""
        rows = await self._store.metadata.rows(Ref(Kind(kind), name) for kind, name in refs)
        source_ids, profile_ids, collections = {}, {}, {}
        for ref, row in rows.items():
            if ref.kind is Kind.FLOW:
                document = orjson.loads(row.document)
                source_ids[ref.id] = document["source_id"]
                if "profile_id" in document:
                    profile_ids[ref.id] = document["profile_id"]
                if "flow_collection" in document:
                    collections[ref.id] = document["flow_collection"]
        wanted = list(objects)
        facts = await self._store.metadata.object_facts(wanted, _view(view)) if wanted else {}
        classes = {(ref.kind.value, ref.id): _classes(row) for ref, row in rows.items()}
        return Known(classes, source_ids, profile_ids, collections, facts)

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        """The object whose bytes lie at a key, and their type."""
        object_id = await self._store.metadata.object_at(backend_id, key)
        row = (await self._store.metadata.objects([object_id])).get(object_id) if object_id else None
        for instance in row.instances if row else ():
            if row and (instance.backend_id, instance.key) == (backend_id, key):
                return MediaFact(row.id, instance.content_type)
        return None

    async def backends(self) -> Sequence[BackendFact]:
        """All storage backends."""
        return self._backends

    async def has_webhooks(self) -> bool:
        """Whether there is any webhook."""
        rows, _ = await self._store.metadata.page(Query(Kind.WEBHOOK, None, 1))
        return bool(rows)

    async def tell(self, told: Told) -> None:
        """Write down an event of elsewhere, for whoever listens; durable on return. Raises `Error`."""
        event = Event(
            told.type,
            told.time_ns,
            told.body,
            told.classes,
            told.flow_id,
            told.source_id,
            told.flow_collected_by,
            told.source_collected_by,
        )
        await self._store.metadata.write(Change(events=(event,)))


def _classes(row: Row) -> frozenset[str]:
    """A deletion request has the classes that its flow had."""
    if row.kind is Kind.DELETION and row.private:
        return frozenset(orjson.loads(row.private)["classes"])
    return row.classes


def _view(view: ViewLike | None) -> View | None:
    return None if view is None else View(view.admin, view.allow, view.deny, view.default_class)


def _expect(expect: ExpectLike | None) -> Expect | None:
    if expect is None:
        return None
    classes = {Ref(Kind(kind), name): value for (kind, name), value in expect.classes.items()}
    return Expect(classes, expect.members, expect.references, expect.unknown)
