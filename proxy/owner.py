"""The owner of a webhook: whom its events are checked against when they are delivered. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from proxy.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Owner:
    """Who registered or last replaced a webhook, as of `time_s` (Unix seconds)."""

    principal: Principal
    time_s: int


def owner_of(principal: Principal, time_s: int) -> bytes:
    """An owner as it is kept beside a webhook, never shown: JSON without credentials."""
    document: dict[str, Any] = {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "client": principal.client,
        "groups": sorted(principal.groups),
        "scopes": None if principal.scopes is None else sorted(principal.scopes),
        "scope_admin": principal.scope_admin,
        "time_s": time_s,
    }
    return orjson.dumps(document)


def read_owner(kept: bytes) -> Owner:
    """The inverse of `owner_of`. The owner's credential has no end of its own; the caller limits its age.

    Raises `KeyError`, `TypeError` or `ValueError` for what `owner_of` did not write.
    """
    said = orjson.loads(kept)
    principal = Principal(
        issuer=said["issuer"],
        subject=said["subject"],
        client=said["client"],
        groups=frozenset(said["groups"]),
        scopes=None if said["scopes"] is None else frozenset(said["scopes"]),
        scope_admin=said["scope_admin"],
        expires_s=2**63 - 1,
    )
    return Owner(principal, said["time_s"])
