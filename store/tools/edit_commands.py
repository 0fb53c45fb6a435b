"""`tams-store edit` as a command."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer

from store.client.tams import Client
from store.timerange import ETERNITY
from store.tools import edit as editing
from store.tools import report
from store.tools.arguments import Classes, Json, pairs, timerange_of, timestamp_of, uuid
from store.tools.flows import Naming, Wanted
from store.tools.timing import Gaps


def edit(
    client: Client,
    clips: Annotated[
        list[str],
        typer.Argument(metavar="FLOW[@TIMERANGE]...", help="What follows what, as FLOW@[10:0_20:0)."),
    ],
    label: Annotated[str, typer.Option(help="What the new flow is called.")] = "edit",
    description: Annotated[str | None, typer.Option(help="More about it.")] = None,
    auth_class: Classes = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE. May be repeated.")] = None,
    flow_id: Annotated[str | None, typer.Option(help="The id of the new flow.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="A new flow, even if this was made before.")] = False,
    start: Annotated[str, typer.Option(help="Where the new flow begins, seconds:nanoseconds.")] = "0:0",
    gaps: Annotated[Gaps, typer.Option(help="What to do where a flow has nothing.")] = Gaps.refuse,
    as_json: Json = False,
) -> None:
    """Put timeranges of flows one behind the other into a new flow. No media are copied.

    Cuts between key frames are possible; players and outgest decode from the key frame before.
    """
    classes = auth_class or []
    seed = [client.url, client.name, *clips, start, gaps.value, label, *sorted(classes)]
    cut = editing.Cut(
        tuple(_clip(each) for each in clips),
        Naming(str(uuid4()) if fresh else "\n".join(seed)),
        Wanted(label, description, {**pairs(tag or []), **({"auth_classes": classes} if classes else {})}),
        gaps,
        timestamp_of("--start", start),
        None if flow_id is None else uuid("--flow-id", flow_id),
    )
    whole, made = editing.run(client, cut)
    documents = [each.document() for each in made]
    if as_json:
        report.document({"flow_id": whole["id"], "source_id": whole["source_id"], "flows": documents})
        return
    report.table(
        ("flow", "source", "timerange", "added", "there before"),
        [
            (
                each["flow_id"],
                each["source_id"],
                each["timerange"],
                str(each["segments_added"]),
                str(each["segments_there_before"]),
            )
            for each in documents
        ],
    )
    if whole["id"] not in {each["flow_id"] for each in documents}:
        typer.echo(f"They are collected by {whole['id']}.")


def _clip(text: str) -> editing.Clip:
    flow_id, at, span = text.partition("@")
    return editing.Clip(uuid("flow", flow_id), timerange_of(span) if at else ETERNITY)
