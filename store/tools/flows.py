"""The flows and sources that media becomes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from store.tools.probe import FORMAT, Probe, Stream

NAMES = UUID("6f0b1a52-6f55-5f5d-9f0e-2b1b7f3a8a0e")
"""The namespace of ids that are made of what is ingested, and so are the same in every run."""

OWN = ("format", "codec", "container", "source_id", "essence_parameters")
"""What of a flow must be as it was for a run to go on with it."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Ids of one run's flows and sources. `seed` says what is ingested, by whom and to whom."""

    seed: str

    def flow(self, feed: str, role: str) -> str:
        """Of a flow: one for each feed and role."""
        return str(uuid5(NAMES, f"{self.seed}\nflow\n{feed}\n{role}"))

    def source(self, role: str) -> str:
        """Of a source: variants of the same content are flows of one source."""
        return str(uuid5(NAMES, f"{self.seed}\nsource\n{role}"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the flows are to be described."""

    label: str
    description: str | None
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Flows:
    """Flow bodies, members of the collection first; the last has the segments."""

    bodies: tuple[dict[str, Any], ...]

    @property
    def main(self) -> dict[str, Any]:
        """The flow that has the segments."""
        return self.bodies[-1]


@dataclass(frozen=True, slots=True)
class Carrier:
    """What the container of a feed says of its flow."""

    container: str
    init: bool
    target_s: int
    max_bit_rate: int | None


def of_feed(
    key: str, found: Probe, carrier: Carrier, naming: Naming, wanted: Wanted, flow_id: str | None
) -> Flows:
    """The flows of a feed: one for a single essence, else one for each and a multi flow over them."""
    common = _common(wanted)
    if len(found.streams) == 1:
        (stream,) = found.streams
        body = _essence(stream, common, naming, key, stream.kind if not key.startswith("audio-") else key)
        return Flows((_carried(body | ({"id": flow_id} if flow_id else {}), carrier),))
    members = [
        _essence(stream, common, naming, key, role)
        for stream, role in zip(found.streams, _roles(found.streams), strict=True)
    ]
    multi = {
        "id": flow_id or naming.flow(key, "multi"),
        "source_id": naming.source("multi"),
        "format": FORMAT + "multi",
        **common,
        "flow_collection": list(_members(found, members)),
    }
    return Flows((*members, _carried(multi, carrier)))


def over(naming: Naming, wanted: Wanted, feeds: Sequence[dict[str, Any]], number: int) -> dict[str, Any]:
    """A multi flow over flows with segments of their own: pictures, and the sound that goes with them."""
    return {
        "id": naming.flow(f"over-{number}", "multi"),
        "source_id": naming.source("programme"),
        "format": FORMAT + "multi",
        **_common(wanted),
        "flow_collection": [{"id": f["id"], "role": f["format"].removeprefix(FORMAT)} for f in feeds],
    }


def differences(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What keeps a flow that is there from being the wanted one."""
    found = []
    for name in OWN:
        mine, theirs = wanted.get(name), there.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            mine = {key: value for key, value in mine.items() if theirs.get(key) != value}
            theirs = {key: theirs.get(key) for key in mine}
        if mine != theirs:
            found.append(f"{name} is {theirs}, not {mine}")
    return found


def _common(wanted: Wanted) -> dict[str, Any]:
    said = {"label": wanted.label, "description": wanted.description, "tags": dict(wanted.tags)}
    return {name: value for name, value in said.items() if value}


def _roles(streams: Iterable[Stream]) -> list[str]:
    """video, audio, audio-2 ..."""
    counts: dict[str, int] = {}
    roles = []
    for stream in streams:
        number = counts[stream.kind] = counts.get(stream.kind, 0) + 1
        roles.append(stream.kind if number == 1 else f"{stream.kind}-{number}")
    return roles


def _essence(
    stream: Stream, common: Mapping[str, Any], naming: Naming, key: str, role: str
) -> dict[str, Any]:
    return {
        "id": naming.flow(key, role),
        "source_id": naming.source(role),
        "format": FORMAT + stream.kind,
        "codec": stream.codec,
        "essence_parameters": stream.essence,
        **common,
    }


def _carried(body: dict[str, Any], carrier: Carrier) -> dict[str, Any]:
    body = body | {"container": carrier.container}
    if carrier.target_s:
        body["segment_duration"] = {"numerator": carrier.target_s, "denominator": 1}
    if carrier.max_bit_rate:
        body["max_bit_rate"] = carrier.max_bit_rate
    if carrier.init:
        body["essence_parameters"] = body.get("essence_parameters", {}) | {"init_segments": True}
    return body


def _members(found: Probe, members: Sequence[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    counts: dict[str, int] = {}
    where = "mp2ts_container" if found.container == "video/mp2t" else "isobmff_container"
    name = "pid" if found.container == "video/mp2t" else "track_id"
    for index, (stream, body) in enumerate(zip(found.streams, members, strict=True)):
        place = counts.get(stream.kind, 0)
        counts[stream.kind] = place + 1
        mapping: dict[str, Any] = {"track_index": index, "format_track_index": place}
        if found.container in ("video/mp2t", "video/mp4"):
            mapping[where] = {name: stream.track}
        yield {"id": body["id"], "role": stream.kind, "container_mapping": mapping}
