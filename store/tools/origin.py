"""Where the media of a flow lie: which flows' segments, and which of their streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from store.client.tams import Client, path
from store.tools.errors import ToolError
from store.tools.probe import FORMAT

MULTI = FORMAT + "multi"


@dataclass(frozen=True, slots=True)
class Track:
    """One essence in a container: by its packet or track id where that is known, else by its place among
    those of its kind."""

    kind: str
    id: int | None
    place: int


@dataclass(frozen=True, slots=True)
class Origin:
    """A flow with segments. `track`: the essence that is wanted, None for all of them."""

    flow: dict[str, Any]
    track: Track | None = None


def origins(client: Client, flow_id: str) -> list[Origin]:
    """The flows that have the media of a flow: itself; or its members; or the flow whose container it is
    in. Raises `ToolError`, `Refused`."""
    flow = get(client, flow_id)
    if "container" in flow:
        return [Origin(flow)]
    if flow["format"] == MULTI:
        members = [get(client, item["id"]) for item in flow.get("flow_collection", ())]
        found = [Origin(member) for member in members if "container" in member]
        if not found:
            raise ToolError(f"the flow {flow_id} collects no flow that has media")
        return found
    for collector in flow.get("collected_by", ()):
        parent = get(client, collector)
        if "container" in parent:
            return [Origin(parent, _track(flow, parent))]
    raise ToolError(f"the flow {flow_id} has no container, and no flow that you see has its media")


def get(client: Client, flow_id: str) -> dict[str, Any]:
    """A flow. Raises `Refused`."""
    return dict(client.expect(200, "GET", path("flows", flow_id)))


def _track(flow: Mapping[str, Any], parent: Mapping[str, Any]) -> Track:
    kind = str(flow["format"]).removeprefix(FORMAT)
    items: Sequence[Mapping[str, Any]] = parent.get("flow_collection", ())
    mapping: Mapping[str, Any] = next(
        (i.get("container_mapping", {}) for i in items if i["id"] == flow["id"]), {}
    )
    where = mapping.get("mp2ts_container", {}).get(
        "pid", mapping.get("isobmff_container", {}).get("track_id")
    )
    return Track(kind, where, mapping.get("format_track_index", 0))
