"""Plain values for tests of what decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.asked import Asked, Classes, Ground, Limits
from proxy.decide import Caller
from proxy.errors import BadRequest
from proxy.policy.protocol import Permissions
from proxy.rules import RULES, Rule
from proxy.upstream.protocol import Ref


def classes(names: str) -> Classes:
    """Classes by their names, with blanks between."""
    return frozenset(names.split())


def caller(
    read: str = "",
    write: str = "",
    delete: str = "",
    grant: str = "",
    denied: str = "",
    *,
    admin: bool = False,
    creator: bool = False,
    default: str | None = None,
    defaults: str = "",
) -> Caller:
    permissions = Permissions(
        classes(read), classes(write), classes(delete), classes(grant), classes(denied), admin, creator, "1"
    )
    return Caller(permissions, default, classes(defaults))


ADMIN = caller(admin=True)


@dataclass(frozen=True)
class Object:
    """Facts about an object."""

    role: str = "media"
    witness: str | None = None
    witness_classes: Classes = frozenset()
    flow_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backend:
    """A storage backend."""

    id: str
    label: str | None = None
    classes: Classes = frozenset()
    default: bool = False


@dataclass(frozen=True)
class Facts:
    """Facts about several resources."""

    classes: Mapping[Ref, Classes] = field(default_factory=dict)
    source_ids: Mapping[str, str] = field(default_factory=dict)
    profile_ids: Mapping[str, str] = field(default_factory=dict)
    collections: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: Mapping[str, Object] = field(default_factory=dict)


def known(there: Mapping[str, str] | None = None, **more: Any) -> Facts:
    """Facts. `there`: `kind/id` to classes, with blanks between them."""
    held = {_ref(name): classes(found) for name, found in (there or {}).items()}
    return Facts(held, **more)


def _ref(name: str) -> Ref:
    kind, _, id = name.partition("/")
    return kind, id


def rule(operation: str) -> Rule:
    """The row of an operation."""
    return next(r for methods in RULES.values() for r in methods.values() if r.operation == operation)


def asked(operation: str, body: object = None, limits: Limits | None = None, **params: str) -> Asked:
    """A write; parameters of the query are given as `query_name`."""
    query = [(name[6:], value) for name, value in params.items() if name.startswith("query_")]
    path = {name: value for name, value in params.items() if not name.startswith("query_")}
    raw = b"" if body is None or isinstance(body, BadRequest) else orjson.dumps(body)
    return Asked(rule(operation), path, query, raw, body, limits or Limits())


def ground(who: Caller, facts: Facts, denying: str = "", *backends: Backend) -> Ground:
    """What a write is decided on."""
    return Ground(who, facts, classes(denying), backends)
