"""The one way the proxy speaks to whatever store is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Pairs = Sequence[tuple[str, str]]
Ref = tuple[str, str]
"""A kind of resource ("flow", "source", "profile", "webhook", "deletion") and an id."""


@dataclass(frozen=True, slots=True)
class View:
    """What a caller may see: a resource of classes C when C meets `allow` and misses `deny`."""

    admin: bool
    allow: frozenset[str]
    deny: frozenset[str]
    default_class: str | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What a write was authorised on; the upstream changes nothing when it does not hold any more.

    `classes`: exact classes of resources, None for one that must be absent. `members`: ids of a flow's
    collection. `references`: (object, flow) pairs. `unknown`: object ids that must not exist.
    """

    classes: Mapping[Ref, frozenset[str] | None] = field(default_factory=dict)
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: frozenset[tuple[str, str]] = frozenset()
    unknown: frozenset[str] = frozenset()


@dataclass(slots=True)
class Request:
    """One call of an operation, its query decoded. `path` is as the client spelt it. `owner`: who a webhook
    is to belong to, opaque to the store. `more_calls`: how many calls of a store elsewhere it took beyond the
    first, said by the upstream."""

    operation: str
    path: str
    params: Mapping[str, str]
    query: Pairs
    body: bytes = b""
    view: View | None = None
    expect: Expect | None = None
    actor: str | None = None
    owner: bytes | None = None
    more_calls: int = 0


class Facts(Protocol):
    """What deciding about an answer needs, of the same snapshot as the answer."""

    @property
    def classes(self) -> frozenset[str] | None:
        """Those of the resource, None where there is none."""

    @property
    def related(self) -> Mapping[str, frozenset[str]]:
        """Classes of the ids that the body names; an id without an entry is gone."""

    @property
    def readable(self) -> bool:
        """For an object: whether the view sees a flow that refers to it."""


class Response(Protocol):
    """An answer: status, lower-case header names, the whole body. No facts: nothing was found."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def facts(self) -> Facts | None:
        """What to decide the answer on."""


class ObjectFact(Protocol):
    """What deciding about the use of an object needs."""

    @property
    def role(self) -> str:
        """ "unused" when it is only allocated, else "media" or "init"."""

    @property
    def witness(self) -> str | None:
        """A flow that refers to it and that the view sees; none for an unused one."""

    @property
    def witness_classes(self) -> frozenset[str]:
        """The classes of the witness."""

    @property
    def flow_ids(self) -> tuple[str, ...]:
        """The flows that decide about it: the one it was allocated for while it is unused, then the first
        that referred to it if that still does, else all that do."""


class Known(Protocol):
    """Facts about several resources; what has no entry does not exist."""

    @property
    def classes(self) -> Mapping[Ref, frozenset[str]]:
        """Classes by resource."""

    @property
    def source_ids(self) -> Mapping[str, str]:
        """The source of each flow looked up."""

    @property
    def profile_ids(self) -> Mapping[str, str]:
        """The profile of each flow looked up that is linked to one."""

    @property
    def collections(self) -> Mapping[str, list[dict[str, Any]]]:
        """The `flow_collection` of each flow looked up that has one."""

    @property
    def objects(self) -> Mapping[str, ObjectFact]:
        """Objects by id."""


class BackendFact(Protocol):
    """A storage backend."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def label(self) -> str | None:
        """What instances on it are called."""

    @property
    def classes(self) -> frozenset[str]:
        """Its classes."""

    @property
    def default(self) -> bool:
        """Whether it is used when a client names none."""


class MediaFact(Protocol):
    """The bytes at a key of a local storage backend."""

    @property
    def object_id(self) -> str:
        """The object that they are, or will be."""

    @property
    def content_type(self) -> str:
        """What they were declared to be."""


class Upstream(Protocol):
    """A store. Reads honour `view`: listings, referring flows and media URLs are those it sees.

    Failures raise `errors.Unavailable`, `errors.BadUpstream` or `errors.UpstreamTimeout`; anything but a
    clear answer is never taken for absence.
    """

    async def call(self, request: Request) -> Response:
        """Perform an operation. Status 409 says that `expect` did not hold and nothing was done."""
        ...

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        """Facts about resources and objects, as few calls as can be; `view` finds the witnesses."""
        ...

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        """What lies at a key of a local storage backend, uploaded or not."""
        ...

    async def backends(self) -> Sequence[BackendFact]:
        """All storage backends."""
        ...

    async def lacks(self, operation: str) -> str | None:
        """What is said of an operation that the store does not have, None for one that it may have.

        It is the same for everybody and whatever the request names, so that saying it before anything is
        decided tells of nothing else.
        """
        ...
