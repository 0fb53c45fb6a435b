"""The tools as commands of `tams-store`."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import typer

from store.client.tams import Client
from store.timerange import TimeRange
from store.tools import ingest as ingesting
from store.tools import origin, pieces, report
from store.tools import outgest as outgesting
from store.tools.arguments import Classes, Json, pairs, timerange_of, timestamp_of, uuid
from store.tools.browse_commands import analytics, ls, rm, share, show, urls
from store.tools.connection import RETRIES, connected
from store.tools.cutting import FRAGMENTS, TRANSPORT
from store.tools.edit_commands import edit
from store.tools.errors import ToolError
from store.tools.fetching import Fetcher
from store.tools.flows import Naming, Wanted
from store.tools.timing import Gaps


class Cut(StrEnum):
    """What a file is cut into."""

    auto = "auto"
    mp2t = TRANSPORT
    mp4 = FRAGMENTS


def ingest(
    client: Client,
    media: Annotated[
        str, typer.Argument(help="A file, an HLS playlist (path or URL), or a folder of segments.")
    ],
    label: Annotated[
        str | None, typer.Option(help="What the flows are called; the input's name if not said.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="More about them.")] = None,
    auth_class: Classes = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE. May be repeated.")] = None,
    flow_id: Annotated[str | None, typer.Option(help="The id of the flow with the segments.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="New flows, even if this was ingested before.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(help="Where the first picture goes, seconds:nanoseconds; its own time if not said."),
    ] = None,
    gaps: Annotated[
        Gaps, typer.Option(help="What to do where times do not follow each other.")
    ] = Gaps.refuse,
    live: Annotated[
        bool, typer.Option("--live", help="Follow a playlist that grows, until it ends.")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Store a file as the one object it is.")] = False,
    container: Annotated[Cut, typer.Option(help="What a file is cut into.")] = Cut.auto,
    seconds: Annotated[int, typer.Option(min=1, max=60, help="How long its segments are at least.")] = 2,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="How many uploads at once.")] = 4,
    as_json: Json = False,
) -> None:
    """Store media: make sources and flows, upload objects, register segments.

    Run again, also after a failure, it goes on where it stopped: what is there already is not stored
    twice.
    """
    if not media:
        raise ToolError("MEDIA is empty: say a file, a playlist or a folder")
    plan = ingesting.Plan(
        _naming(client, media, fresh, (container.value, seconds, whole), auth_class or []),
        Wanted(label or _name(media), description, _tags(tag or [], auth_class or [])),
        gaps,
        None if start is None else timestamp_of("--start", start),
        None if flow_id is None else uuid("--flow-id", flow_id),
        jobs,
    )
    stop = threading.Event()
    try:
        with httpx.Client(timeout=pieces.TIMEOUT_S) as http, report.Bars.shown() as bars:
            reader = pieces.Reader(http, RETRIES, stop.wait)
            with pieces.feeds(
                media, reader, live=live, container=container.value, seconds=seconds, whole=whole
            ) as feeds:
                done = ingesting.run(client, feeds, plan, bars)
    finally:
        stop.set()
    _told(done, as_json)


def outgest(
    client: Client,
    flow: Annotated[str, typer.Argument(help="The flow's id.")],
    target: Annotated[Path, typer.Argument(help="The file: .ts, .mp4, .mov, .mkv, .m4a, .aac ...")],
    timerange: Annotated[
        str, typer.Option(help="What of it, as [seconds:nanoseconds_seconds:nanoseconds).")
    ] = "_",
    gaps: Annotated[Gaps, typer.Option(help="What to do where the flow has nothing.")] = Gaps.refuse,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out pictures that cannot be decoded alone.")
    ] = False,
    keep_times: Annotated[
        bool, typer.Option("--keep-times", help="Keep the flow's times; else the file begins at nought.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="How many downloads at once.")] = 4,
    as_json: Json = False,
) -> None:
    """Write what a flow has in a timerange into a file, without encoding again.

    Downloads are kept beside the file until it is complete: run again, it goes on where it stopped.
    """
    if target.exists() and not overwrite:
        raise ToolError(f"{target} is there already; --overwrite replaces it")
    outgesting.kind_of(target)
    if not target.parent.is_dir():
        raise ToolError(f"{target.parent}: there is no such folder")
    span, flow_id = timerange_of(timerange), uuid("flow", flow)
    with _parts(target) as parts:
        made = parts / f"made{target.suffix}"
        order = outgesting.Order(span, made, gaps, drop, keep_times)
        fetcher = Fetcher(client, parts, jobs)
        origins = origin.origins(client, flow_id)
        extent, total, missing = outgesting.plan(fetcher, origins, order)
        with report.Bars.shown() as bars:
            tally = outgesting.write(fetcher, origins, order, extent, bars.begin(target.name, total))
        made.replace(target)
        shutil.rmtree(parts)
    _written(target, extent, missing, tally, as_json)


@contextmanager
def _parts(target: Path) -> Iterator[Path]:
    """The folder of downloads beside a file; it goes where nothing was downloaded."""
    parts = target.with_name(f"{target.name}.parts")
    parts.mkdir(exist_ok=True)
    try:
        yield parts
    finally:
        parts.joinpath(f"made{target.suffix}").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            parts.rmdir()


def _written(
    target: Path, extent: TimeRange, missing: list[str], tally: outgesting.Tally, as_json: bool
) -> None:
    """Say what was written; exit status 1 when the timing check found something."""
    if as_json:
        found = {
            "file": str(target),
            "bytes": target.stat().st_size,
            "timerange": str(extent),
            "pictures": tally.pictures,
            "packets": tally.packets,
            "missing": missing,
            "notes": tally.notes,
            "wrong": tally.wrong,
        }
        report.document(found)
    else:
        for note in [*(f"nothing in {each}" for each in missing), *tally.notes]:
            typer.echo(f"note: {note}", err=True)
        for each in tally.wrong:
            typer.echo(f"timing: {each}", err=True)
        verdict = "times as they should be" if not tally.wrong else "times are wrong"
        typer.echo(
            f"{target}: {extent}, {tally.pictures} pictures, {report.size(target.stat().st_size)}, {verdict}"
        )
    if tally.wrong:
        raise typer.Exit(1)


def _told(done: list[ingesting.Done], as_json: bool) -> None:
    documents = [each.document() for each in done]
    if as_json:
        report.document({"flows": documents})
        return
    for each in documents:
        for note in each["notes"]:
            typer.echo(f"note: {note}", err=True)
    report.table(
        ("flow", "source", "container", "timerange", "stored", "there before", "size"),
        [
            (
                each["flow_id"],
                each["source_id"],
                each["container"] or "-",
                each["timerange"],
                str(each["segments_stored"]),
                str(each["segments_there_before"]),
                report.size(each["bytes"]),
            )
            for each in documents
        ],
    )


def _naming(client: Client, media: str, fresh: bool, how: tuple[Any, ...], classes: list[str]) -> Naming:
    """Ids that are the same when the same caller ingests the same thing in the same way."""
    if fresh:
        return Naming(str(uuid4()))
    return Naming(
        "\n".join((client.url, client.name, ingesting.fingerprint(media), repr(how), *sorted(classes)))
    )


def _name(media: str) -> str:
    return media.partition("?")[0].rstrip("/").rpartition("/")[2] or media


def _tags(given: list[str], classes: list[str]) -> dict[str, Any]:
    return {**pairs(given), **({"auth_classes": classes} if classes else {})}


def register(app: typer.Typer) -> None:
    """Add the tools to the commands of `tams-store`."""
    for command in (ingest, outgest, edit, ls, show, rm, share, urls, analytics):
        app.command(rich_help_panel="Tools")(connected(command))
