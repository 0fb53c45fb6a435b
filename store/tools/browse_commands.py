"""`tams-store ls`, `show`, `rm` and `share` as commands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from store.client.tams import Client
from store.tools import browsing, report
from store.tools.arguments import Json, pairs, timerange_of, uuid
from store.tools.errors import ToolError
from store.tools.probe import FORMAT


class Kind(StrEnum):
    """What can be listed."""

    flows = "flows"
    sources = "sources"
    segments = "segments"
    backends = "backends"
    webhooks = "webhooks"


def ls(
    client: Client,
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.flows,
    flow: Annotated[str | None, typer.Argument(help="Whose segments.")] = None,
    label: Annotated[str | None, typer.Option(help="Those with this label.")] = None,
    source: Annotated[str | None, typer.Option(help="Flows of this source.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="video, audio, multi, data, image.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE. May be repeated.")] = None,
    timerange: Annotated[str | None, typer.Option(help="Flows or segments in this timerange.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most; all if not said.")] = None,
    as_json: Json = False,
) -> None:
    """List flows, sources, segments of a flow, storage backends or webhooks."""
    shown = browsing.LISTINGS[kind.value]
    where = shown.path
    if kind is Kind.segments:
        if flow is None:
            raise ToolError("say whose segments: ls segments FLOW")
        where = browsing.segments_of(uuid("flow", flow))
    said = {
        "label": label,
        "source_id": source,
        "format": None if format_ is None else _format(format_),
        "timerange": None if timerange is None else str(timerange_of(timerange)),
    }
    query = {name: value for name, value in said.items() if value is not None}
    query |= {f"tag.{name}": value for name, value in pairs(tag or []).items()}
    found = browsing.listed(client, where, query, limit)
    if as_json:
        report.document(found)
    else:
        report.table(shown.columns, [shown.row(each) for each in found])


class Figures(StrEnum):
    """What there are figures about."""

    flow_usage = "flow-usage"
    storage_usage = "storage-usage"
    time_range_analysis = "time-range-analysis"
    catalogue_summary = "catalogue-summary"


def urls(
    client: Client,
    flow: Annotated[str, typer.Argument(help="The flow's id.")],
    timerange: Annotated[str, typer.Option(help="Of what in it.")] = "_",
    object_id: Annotated[str | None, typer.Option("--object", help="Of this object alone.")] = None,
    as_json: Json = False,
) -> None:
    """Print signed URLs of a flow's media, segment by segment. Whoever has one may read what it leads to."""
    query = {"timerange": str(timerange_of(timerange)), "presigned": "true"}
    if object_id is not None:
        query["object_id"] = object_id
    found = browsing.listed(client, browsing.segments_of(uuid("flow", flow)), query, None)
    rows = [(s["timerange"], s["object_id"], u["url"]) for s in found for u in s.get("get_urls", ())]
    if as_json:
        report.document([{"timerange": span, "object_id": name, "url": url} for span, name, url in rows])
    else:
        report.table(("timerange", "object", "url"), rows)


def analytics(
    client: Client, name: Annotated[Figures, typer.Argument(help="Which figures.")], as_json: Json = False
) -> None:
    """Print figures about all that is stored; for administrators."""
    found = client.expect(200, "GET", f"/analytics/{name.value}")
    if as_json:
        report.document(found)
    else:
        report.table(("figure", "value"), _flattened(found))


def _format(name: str) -> str:
    if ":" in name:
        return name
    return ("urn:x-tam:format:" if name == "image" else FORMAT) + name


def show(
    client: Client,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Of a flow, a source or an object.")],
    as_json: Json = False,
) -> None:
    """Show a flow, a source or an object."""
    kind, thing = browsing.find(client, id_)
    if as_json:
        report.document(thing)
        return
    rows = [("kind", kind.removesuffix("s")), *_flattened(thing)]
    report.table(("property", "value"), rows)


def _flattened(thing: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in thing.items():
        if isinstance(value, dict):
            rows += _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                rows += _flattened(item, f"{prefix}{name}[{number}].")
        elif isinstance(value, list):
            rows.append((prefix + name, ", ".join(map(str, value))))
        else:
            rows.append((prefix + name, str(value)))
    return rows


def rm(
    client: Client,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Flows, or sources with all their flows.")
    ],
    timerange: Annotated[
        str | None, typer.Option(help="Only the segments that lie wholly in this timerange.")
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="With a flow also those that it alone collects.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete flows, sources with their flows, or segments in a timerange; waits until they are gone.

    Media go when nothing refers to them any more.
    """
    span = None if timerange is None else str(timerange_of(timerange))
    flows: list[str] = []
    for each in ids:
        kind, thing = browsing.find(client, each, ("flows", "sources"))
        flows += [thing["id"]] if kind == "flows" else browsing.flows_of(client, thing["id"])
        if members and kind == "flows":
            flows += browsing.members_of(client, thing)
    what = f"{len(flows)} flow{'s' * (len(flows) != 1)}" if span is None else f"segments in {span}"
    if not yes and not typer.confirm(f"Delete {what}?", err=True):
        raise ToolError("nothing was deleted")
    flows = list(dict.fromkeys(flows))
    for each in flows:
        browsing.delete_flow(client, each, span, time.sleep)
        if not as_json:
            typer.echo(f"deleted {each}" if span is None else f"deleted segments of {each} in {span}")
    if as_json:
        report.document({"flows": flows, "timerange": span})


def share(
    client: Client,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Flows or sources.")],
    add: Annotated[list[str] | None, typer.Option("--class", "--add", help="A class to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A class to take away.")] = None,
    replace: Annotated[list[str] | None, typer.Option("--set", help="The classes to have instead.")] = None,
    only: Annotated[
        bool, typer.Option("--only", help="These alone, without a flow's source and what it collects.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say who may use flows and sources, by their classes (`auth_classes`).

    A flow is shared with its source, and with the flows that it collects and theirs.
    """
    if not (add or remove or replace):
        raise ToolError("say what to change: --class, --remove or --set")

    def change(before: Sequence[str]) -> list[str]:
        kept = list(replace) if replace else [each for each in before if each not in (remove or ())]
        return kept + [each for each in dict.fromkeys(add or ()) if each not in kept]

    changed: list[dict[str, Any]] = []
    for each in ids:
        kind, thing = browsing.find(client, each, ("flows", "sources"))
        for found, id_ in dict.fromkeys(browsing.related(client, kind, thing, only=only)):
            before, after = browsing.share(client, found, id_, change)
            changed.append({"kind": found.removesuffix("s"), "id": id_, "before": before, "after": after})
    if as_json:
        report.document(changed)
        return
    report.table(
        ("kind", "id", "before", "after"),
        [(c["kind"], c["id"], ", ".join(c["before"]) or "-", ", ".join(c["after"]) or "-") for c in changed],
    )
