"""The `get_urls` of objects: which of them a request gets, written straight as JSON. Rules 42, 44, 54."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from store.domain.accesses import Accesses
from store.media.protocol import Backend, Media, SignUrl
from store.metadata.query import tag_values
from store.metadata.rows import ObjectRow, UncontrolledUrl
from store.params import Params, TagExists, TagFilters
from store.view import View, visible

CACHED_URLS = 8192
CACHED_KINDS = 4


@dataclass(frozen=True, slots=True)
class UrlFilter:
    """What a request says about the URLs it wants; all of it must hold. None: no filtering.

    `labels`: the empty set gives no URLs at all. `storage_ids`: the empty set filters nothing.
    """

    labels: frozenset[str] | None = None
    storage_ids: frozenset[str] | None = None
    presigned: bool | None = None
    tags: TagFilters = ()
    tag_exists: TagExists = ()
    verbose: bool = False

    @classmethod
    def of(cls, query: Params) -> UrlFilter:
        """The filter in a query. Raises `BadRequest`."""
        tags, tag_exists = query.tags("storage_backend_")
        return cls(
            labels=query.labels("accept_get_urls"),
            storage_ids=query.uuids("accept_storage_ids", may_be_empty=True) or None,
            presigned=query.flag("presigned"),
            tags=tags,
            tag_exists=tag_exists,
            verbose=query.flag("verbose_storage") or False,
        )

    def admits_backend(self, backend: Backend) -> bool:
        """Whether URLs on this backend pass."""
        return (
            (self.labels is None or backend.label in self.labels)
            and (self.storage_ids is None or backend.id in self.storage_ids)
            and tags_match(backend.tags, self.tags, self.tag_exists)
        )

    def admits_uncontrolled(self, label: str) -> bool:
        """Whether a URL that a client brought passes; it is on no backend and never presigned."""
        return (
            (self.labels is None or label in self.labels)
            and self.storage_ids is None
            and self.presigned is not True
            and not self.tags
            and all(not wanted for _, wanted in self.tag_exists)
        )


def tags_match(tags: Mapping[str, Any], values: TagFilters, exists: TagExists) -> bool:
    """Whether a resource's tags pass the `tag.*` and `tag_exists.*` filters."""
    return all(not wanted.isdisjoint(tag_values(dict(tags), name)) for name, wanted in values) and all(
        (name in tags) is wanted for name, wanted in exists
    )


def readable_by(view: View | None, backend: Backend) -> bool:
    """Whether a caller may have URLs on a backend; an untagged one is everybody's."""
    classes = tag_values(dict(backend.tags), "auth_classes")
    if not classes:
        return True
    return visible(view, classes)


@dataclass(frozen=True, slots=True)
class _Place:
    media: Media
    sign: SignUrl
    signed_tail: str
    plain_tail: str


Written = tuple[str, bytes, tuple[str, ...]]
"""An object's id, the JSON array of its URLs, and for each of them that is signed the id again."""


class UrlCache:
    """URLs as they were written, for as long as they would be written so again.

    Bounded; forgets the whole of a kind of request when the time of its signatures is over.
    """

    def __init__(self) -> None:
        self._kinds: dict[object, tuple[object, dict[int, Written]]] = {}

    def written(self, kind: object, era: object) -> dict[int, Written]:
        """What was written for this kind of request in this era, by the object's version. Others may have the
        same: processes that write to one VAST number by their clocks."""
        known = self._kinds.get(kind)
        if known is not None and known[0] == era and len(known[1]) < CACHED_URLS:
            return known[1]
        if known is None and len(self._kinds) >= CACHED_KINDS:
            self._kinds.clear()
        fresh: dict[int, Written] = {}
        self._kinds[kind] = (era, fresh)
        return fresh


class UrlWriter:
    """Writes the `get_urls` of many objects for one request. `accesses` counts those that are signed.

    `fresh`: of how many objects they were written anew so far, which is when it takes long.
    """

    def __init__(
        self,
        backends: Mapping[str, Media],
        view: View | None,
        wanted: UrlFilter,
        now_s: int,
        cache: UrlCache | None = None,
        accesses: Accesses | None = None,
    ) -> None:
        self._wanted = wanted
        self._signs, self._shows_plain = wanted.presigned is not False, wanted.presigned is not True
        self._places = {
            backend_id: _Place(
                media,
                media.sign_at(now_s),
                _tail(media.backend, wanted, True),
                _tail(media.backend, wanted, False),
            )
            for backend_id, media in backends.items()
            if wanted.admits_backend(media.backend) and readable_by(view, media.backend)
        }
        self._none = wanted.labels is not None and not wanted.labels
        self._accesses = accesses
        self._written: dict[int, Written] = {}
        self.fresh = 0
        if cache is not None and not self._none:
            era = tuple(place.media.era(now_s) for place in self._places.values())
            self._written = cache.written((wanted, tuple(self._places)), era)

    def write(self, obj: ObjectRow) -> bytes:
        """The JSON array of the object's URLs; complete instances only."""
        return self.write_all([obj])[0]

    def write_all(self, objects: Sequence[ObjectRow]) -> list[bytes]:
        """As `write`, for each of many."""
        if self._none:
            return [b"[]"] * len(objects)
        known, write = self._written.get, self._write
        found = [
            kept if (kept := known(obj.version)) is not None and kept[0] == obj.id else write(obj)
            for obj in objects
        ]
        if self._accesses is not None:
            self._accesses.add([id for _, _, signed in found for id in signed])
        return [written for _, written, _ in found]

    def _write(self, obj: ObjectRow) -> Written:
        entries: list[str] = []
        signed = 0
        for instance in obj.instances:
            place = self._places.get(instance.backend_id)
            if place is None or not instance.complete:
                continue
            if self._signs:
                signed += 1
                url = place.sign(instance.key, instance.version, instance.content_type)
                entries.append(f'{{"url":"{url}{place.signed_tail}')
            if self._shows_plain:
                # The same without its query.
                plain = url[: url.index("?")] if self._signs else place.media.plain_url(instance.key)
                entries.append(f'{{"url":"{plain}{place.plain_tail}')
        if obj.urls:
            entries += [self._uncontrolled(u) for u in obj.urls if self._wanted.admits_uncontrolled(u.label)]
        written = obj.id, f"[{','.join(entries)}]".encode(), (obj.id,) * signed
        self._written[obj.version] = written
        self.fresh += 1
        return written

    def _uncontrolled(self, url: UncontrolledUrl) -> str:
        entry: dict[str, Any] = {"url": url.url, "presigned": False, "label": url.label}
        if self._wanted.verbose:
            entry["controlled"] = False
        return orjson.dumps(entry).decode()


def segment_body(
    document: bytes,
    obj: ObjectRow | None,
    init_object: ObjectRow | None,
    urls: UrlWriter,
    with_timerange: bool,
) -> bytes:
    """A segment as it is listed (rules 43-45): its own properties, those of its object, and the URLs. Without
    an object, which is gone then, there are none."""
    if obj is None:
        return document[:-1] + b',"get_urls":[]}'
    inits = {} if init_object is None else {init_object.id: init_object}
    return segment_bodies([document], [obj], inits, urls, with_timerange)[0]


def segment_bodies(
    documents: Sequence[bytes],
    objects: Sequence[ObjectRow],
    init_objects: Mapping[str, ObjectRow],
    urls: UrlWriter,
    with_timerange: bool,
) -> list[bytes]:
    """As `segment_body`, for each of many. `init_objects` by id."""
    found = []
    written = urls.write_all(objects)
    for document, obj, get_urls in zip(documents, objects, written, strict=True):
        own = document[:-1]
        # Nearly all have none of these; a page has a thousand.
        if with_timerange or obj.init_object_id is not None or obj.key_frame_count is not None:
            own += _of_object(obj, init_objects.get(obj.init_object_id or ""), urls, with_timerange)
        found.append(b'%b,"get_urls":%b}' % (own, get_urls))
    return found


def _of_object(obj: ObjectRow, init_object: ObjectRow | None, urls: UrlWriter, with_timerange: bool) -> bytes:
    """The properties that a segment has of its object."""
    parts = []
    if with_timerange and obj.timerange is not None:
        parts.append(b',"object_timerange":"' + obj.timerange.encode() + b'"')
    if obj.key_frame_count is not None:
        parts.append(b',"key_frame_count":%d' % obj.key_frame_count)
    if init_object is not None:
        init = orjson.dumps(init_object.id)
        parts += [b',"init_object":{"object_id":', init, b',"get_urls":', urls.write(init_object), b"}"]
    return b"".join(parts)


def _tail(backend: Backend, wanted: UrlFilter, presigned: bool) -> str:
    """What stands behind the URL in every entry on a backend."""
    entry: dict[str, Any] = {"presigned": presigned}
    if backend.label is not None:
        entry["label"] = backend.label
    if wanted.verbose:
        described = describe(backend)
        described.pop("id")
        described.pop("default_storage", None)
        entry |= {"storage_id": backend.id, "controlled": True, **described}
    return '",' + orjson.dumps(entry)[1:].decode()


def describe(backend: Backend) -> dict[str, Any]:
    """A backend as GET /service/storage-backends returns it."""
    document: dict[str, Any] = {"id": backend.id}
    if backend.label is not None:
        document["label"] = backend.label
    document |= {"store_type": "http_object_store", "provider": backend.provider}
    if backend.region is not None:
        document["region"] = backend.region
    if backend.availability_zone is not None:
        document["availability_zone"] = backend.availability_zone
    document["store_product"] = backend.store_product
    if backend.tags:
        document["tags"] = backend.tags
    if backend.default:
        document["default_storage"] = True
    return document
