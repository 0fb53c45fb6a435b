"""What an upstream can do, by the `api_version` of its `/service`. Pure.

The switches err on the side of what every version has: where one is off, the proxy filters and pages itself,
which costs calls and never shows more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.errors import BadUpstream

OLDEST, NEWEST = (6, 0), (8, 2)
_ORDER = ("sort_by", "reverse_order", "init_segments")
_TAGS_OF = ("storage_backend_tag", "flow_tag")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class Features:
    """Switches. `tag_lists`: `tag.x=a,b` finds either, in tags that are lists too. `filters`: lists and media
    URLs have all the filters of 8.2. `backends`: storage backends are listed, with `verbose_storage` on URLs.
    `instances`, `profiles`: their paths exist."""

    version: tuple[int, int]
    tag_lists: bool
    filters: bool
    backends: bool
    instances: bool
    profiles: bool

    def lacks(self, operation: str) -> str | None:
        """What the upstream lacks for an operation, None when nothing."""
        if operation == "GET_storage-backends" and not self.backends:
            return "a list of storage backends"
        if operation.endswith("_objects-instances") and not self.instances:
            return "object instances"
        if "_profiles" in operation and not self.profiles:
            return "profiles"
        return None

    def lacks_of(self, operation: str, names: Iterable[str]) -> str | None:
        """Which of a query's parameters the upstream lacks, and nobody makes up for; None when none."""
        if self.filters:
            return None
        if operation in ("GET_flows", "GET_sources"):
            return next((f"`{name}` in lists" for name in names if name in _ORDER), None)
        if operation in ("GET_flows-flowId-segments", "GET_objects"):
            return next((f"`{name}`" for name in names if name.startswith(_TAGS_OF)), None)
        return None


def features(api_version: object) -> Features:
    """The switches of a version. Raises `BadUpstream` for one that is older than 6, or none at all.

    A newer one than 8.2 counts as 8.2: TAMS adds within a version, and a removal shows as a 404 or 405.
    """
    found = _VERSION.fullmatch(api_version) if isinstance(api_version, str) else None
    if found is None:
        raise BadUpstream("The upstream's /service names no api_version.")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        raise BadUpstream("The upstream speaks a version of TAMS older than 6.0.")
    return Features(
        version=version,
        tag_lists=version >= (8, 0),
        filters=version >= (8, 0),
        backends=version >= (7, 0),
        instances=version >= (8, 0),
        profiles=version >= (8, 1),
    )
