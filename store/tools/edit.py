"""A new flow made of timeranges of others, by reference: what `tams-store edit` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.client.tams import Client, Refused, path, said
from store.timerange import TimeRange, format_timestamp, parse_timestamp
from store.tools import origin
from store.tools.errors import Broken, ToolError
from store.tools.flows import Naming, Wanted, differences
from store.tools.ingest import ensure
from store.tools.timing import Gaps

TECHNICAL = ("format", "codec", "container", "essence_parameters", "segment_duration")
SAME = ("format", "codec", "container")
BATCH = 100
PAGE = 300


@dataclass(frozen=True, slots=True)
class Clip:
    """A timerange of a flow."""

    flow_id: str
    span: TimeRange


@dataclass(frozen=True, slots=True)
class Cut:
    """What one run is to make. `start_ns`: where the new flow begins."""

    clips: tuple[Clip, ...]
    naming: Naming
    wanted: Wanted
    gaps: Gaps = Gaps.refuse
    start_ns: int = 0
    flow_id: str | None = None


@dataclass(slots=True)
class Made:
    """What one flow with segments has become. `there`: segments that an earlier run made."""

    flow: dict[str, Any]
    added: int = 0
    there: int = 0
    extent: TimeRange = field(default_factory=lambda: TimeRange(0, 0))

    def document(self) -> dict[str, Any]:
        """For people and for `--json`."""
        return {
            "flow_id": self.flow["id"],
            "source_id": self.flow["source_id"],
            "format": self.flow["format"],
            "timerange": str(self.extent),
            "segments_added": self.added,
            "segments_there_before": self.there,
        }


Segments = list[dict[str, Any]]


def run(client: Client, cut: Cut) -> tuple[dict[str, Any], list[Made]]:
    """The new flow, and those of it that have segments. Raises `ToolError`, `Refused`."""
    flows = [origin.get(client, clip.flow_id) for clip in cut.clips]
    lanes = [_lanes(client, flow) for flow in flows]
    if len({len(lane) for lane in lanes}) > 1:
        raise ToolError("the flows are made differently: some have media of their own, some collect others")
    # A lane is what becomes one flow with segments; each takes the same time of each clip.
    columns = [list(column) for column in zip(*lanes, strict=True)]
    for column in columns:
        _check_alike(column)
    members = [_listed(client, column, cut) for column in columns]
    plans = _placed(members, cut)
    bodies = [_flow(client, column[0], cut, str(number)) for number, column in enumerate(columns)]
    whole = bodies[0] if columns[0][0]["id"] == flows[0]["id"] else _collection(client, flows[0], bodies, cut)
    made = [_fill(client, body, plan) for body, plan in zip(bodies, plans, strict=True)]
    return whole, made


def _lanes(client: Client, flow: dict[str, Any]) -> list[dict[str, Any]]:
    found = origin.origins(client, flow["id"])
    apart = next((each for each in found if each.track is not None), None)
    if apart is not None:
        raise ToolError(
            f"the media of {flow['id']} are in the container of the flow {apart.flow['id']}: edit that one"
        )
    return [each.flow for each in found]


def _check_alike(flows: Sequence[dict[str, Any]]) -> None:
    for flow in flows[1:]:
        unlike = [
            f"{name} is {flow.get(name)}, not {flows[0].get(name)}"
            for name in SAME
            if flow.get(name) != flows[0].get(name)
        ]
        if not unlike:
            unlike = [d for d in differences(flows[0], flow) if d.startswith("essence_parameters")]
        if unlike:
            raise ToolError(f"{flow['id']} does not go with {flows[0]['id']}: {'; '.join(unlike)}")


def _listed(client: Client, column: Sequence[dict[str, Any]], cut: Cut) -> list[Segments]:
    found = []
    for flow, clip in zip(column, cut.clips, strict=True):
        query = {"timerange": str(clip.span), "accept_get_urls": "", "limit": str(PAGE)}
        listed = client.listing(path("flows", flow["id"], "segments"), query)
        if not listed:
            raise ToolError(f"the flow {flow['id']} has no segments in {clip.span}")
        found.append(listed)
    return found


def _placed(lanes: Sequence[Sequence[Segments]], cut: Cut) -> list[Segments]:
    """The segments of each lane on the new timeline. Pure."""
    plans: list[Segments] = [[] for _ in lanes]
    at_ns = cut.start_ns
    for number, clip in enumerate(cut.clips):
        extents = [_extent(lane[number], clip.span) for lane in lanes]
        first_ns = min(_first(each) for each in extents) if clip.span.start_ns is None else clip.span.first_ns
        stop_ns = max(_stop(each) for each in extents) if clip.span.end_ns is None else clip.span.stop_ns
        assert first_ns is not None and stop_ns is not None
        closed_ns = 0
        for lane, plan in zip(lanes, plans, strict=True):
            closed_ns = max(
                closed_ns,
                _place(lane[number], clip, TimeRange(first_ns, stop_ns), at_ns - first_ns, cut, plan),
            )
        at_ns += stop_ns - first_ns - closed_ns
    return plans


def _place(segments: Segments, clip: Clip, span: TimeRange, move_ns: int, cut: Cut, plan: Segments) -> int:
    """Add a clip's segments to a lane; how much of it was closed up. Raises `Broken` for a gap."""
    closed_ns, before_ns = 0, span.first_ns
    for each in segments:
        wanted = TimeRange.parse(each["timerange"]).intersection(span)
        first_ns, stop_ns = wanted.first_ns, wanted.stop_ns
        assert first_ns is not None and stop_ns is not None and before_ns is not None
        if wanted.is_empty:
            continue
        closed_ns += _gap(clip, before_ns, first_ns, cut.gaps)
        offset_ns = parse_timestamp(each.get("ts_offset", "0:0")) + move_ns - closed_ns
        body = {"object_id": each["object_id"], "timerange": str(wanted.shift(move_ns - closed_ns))}
        if offset_ns:
            body["ts_offset"] = format_timestamp(offset_ns)
        plan.append(body)
        before_ns = stop_ns
    assert before_ns is not None and span.stop_ns is not None
    return closed_ns + _gap(clip, before_ns, span.stop_ns, cut.gaps)


def _gap(clip: Clip, from_ns: int, to_ns: int, gaps: Gaps) -> int:
    """How much to close up."""
    if to_ns <= from_ns or gaps is Gaps.keep:
        return 0
    if gaps is Gaps.close:
        return to_ns - from_ns
    raise Broken(
        f"the flow {clip.flow_id} has nothing in {TimeRange(from_ns, to_ns)}. Take --gaps keep to have it so "
        "in the new flow, or --gaps close to put what follows right behind"
    )


def _extent(segments: Segments, span: TimeRange) -> TimeRange:
    total = TimeRange(0, 0)
    for each in segments:
        total = total.span(TimeRange.parse(each["timerange"]).intersection(span))
    return total


def _first(span: TimeRange) -> int:
    assert span.first_ns is not None
    return span.first_ns


def _stop(span: TimeRange) -> int:
    assert span.stop_ns is not None
    return span.stop_ns


def _flow(client: Client, like: Mapping[str, Any], cut: Cut, key: str) -> dict[str, Any]:
    """A new flow like one that is there, with flows for what it collects."""
    collection = []
    for number, item in enumerate(like.get("flow_collection", ())):
        member = _flow(client, origin.get(client, item["id"]), cut, f"{key}.{number}")
        collection.append({**item, "id": member["id"]})
    body = _body(like, cut, key)
    if collection:
        body["flow_collection"] = collection
    if key == "0" and cut.flow_id is not None and "container" in like:
        body["id"] = cut.flow_id
    ensure(client, body)
    return body


def _collection(
    client: Client, like: Mapping[str, Any], bodies: Sequence[Mapping[str, Any]], cut: Cut
) -> dict[str, Any]:
    """A new flow that collects the new flows."""
    roles = [item.get("role") for item in like["flow_collection"]]
    body = _body(like, cut, "whole")
    body["flow_collection"] = [
        {"id": each["id"], **({"role": role} if role else {})}
        for each, role in zip(bodies, roles, strict=False)
    ]
    if cut.flow_id is not None:
        body["id"] = cut.flow_id
    ensure(client, body)
    return body


def _body(like: Mapping[str, Any], cut: Cut, key: str) -> dict[str, Any]:
    wanted = cut.wanted
    said = {"label": wanted.label, "description": wanted.description, "tags": dict(wanted.tags)}
    return {
        "id": cut.naming.flow(key, "edit"),
        "source_id": cut.naming.source(key),
        **{name: like[name] for name in TECHNICAL if name in like},
        **{name: value for name, value in said.items() if value},
    }


def _fill(client: Client, flow: dict[str, Any], plan: Segments) -> Made:
    """Register the segments that are not there yet. Raises `Refused`, which says what was refused."""
    where = path("flows", flow["id"], "segments")
    listed = client.listing(where, {"accept_get_urls": "", "limit": str(PAGE)})
    there = {(each["object_id"], each["timerange"]) for each in listed}
    made = Made(flow)
    missing = []
    for each in plan:
        made.extent = made.extent.span(TimeRange.parse(each["timerange"]))
        if (each["object_id"], each["timerange"]) in there:
            made.there += 1
        else:
            missing.append(each)
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        answer = client.call("POST", where, batch)
        if answer.status_code == 200 and answer.json().get("failed_segments"):
            failed = answer.json()["failed_segments"]
            first = failed[0]
            raise Refused(
                f"{len(failed)} segments are refused, the first of them {first.get('timerange')}: "
                f"{first.get('error', {}).get('summary')}",
                400,
            )
        if answer.status_code not in (200, 201):
            raise Refused(
                f"POST {where} is answered {answer.status_code}: {said(answer)}", answer.status_code
            )
        made.added += len(batch)
    return made
