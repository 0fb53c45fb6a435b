"""`tams-proxy demo`: real media of one team, kept from another, shared, and checked."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from proxy.commands.clients import refusals
from proxy.commands.places import Data, Url, data_of, url_of
from proxy.commands.token import clear_secret
from proxy.demo.client import Client, Refused
from proxy.demo.ingest import Programme
from proxy.demo.media import NoMediaLibrary
from proxy.demo.report import Report
from proxy.demo.scene import Scene
from proxy.demo.story import play
from proxy.identity.secrets import CLEAR_NAME

NEWSROOM, SPORTDESK = "newsroom", "sportdesk"
TAI_AHEAD_S = 37
"""TAI, the timeline of flows, is ahead of UTC by this since 2017."""


def demo(
    url: Url = None,
    data: Data = None,
    segments: Annotated[int, typer.Option(min=2, max=300, help="How many segments, of 2 s each.")] = 30,
) -> None:
    """Show one team's media kept from another, on a running server.

    Makes a minute of real H.264 and AAC, and stores it as the newsroom: a
    video flow, an audio flow, and a multi flow that collects both. The objects
    are MPEG transport streams with both essences in them, so the segments are
    the multi flow's; video and audio say what is inside, without a container of
    their own, and the collection says in which packets.

    The sports desk sees nothing of it, until the newsroom shares the multi
    flow, its source and the video flow by adding a class to their tags. Then it
    reads exactly those, may not change them, and checks each picture it gets.

    Every run makes flows of its own, and leaves them there. Exit status: 0, all
    went as it should; 1, something did not; 2, it could not be tried.
    """
    with refusals():
        secrets, url = _secrets(data_of(data)), url_of(url)
    console = Console()
    report = Report(console)
    now = datetime.now(UTC)
    programme = Programme.new(f"Demo of {now:%Y-%m-%d %H:%M:%S} UTC", int(now.timestamp()) + TAI_AHEAD_S)
    began = time.monotonic()
    try:
        with (
            Client(url, NEWSROOM, secrets[NEWSROOM]) as news,
            Client(url, SPORTDESK, secrets[SPORTDESK]) as sport,
        ):
            play(Scene(programme, news, sport, report), segments)
    except (Refused, NoMediaLibrary, httpx.TransportError) as exc:
        _stopped(report, exc, url)
    report.show()
    took_s = time.monotonic() - began
    console.print(f"{'All as it should be' if report.passed else 'Not as it should be'}, in {took_s:.0f} s.")
    raise typer.Exit(0 if report.passed else 1)


def _secrets(data: Path) -> dict[str, str]:
    try:
        return {name: clear_secret(data, name) for name in (NEWSROOM, SPORTDESK)}
    except (ValueError, OSError) as exc:
        typer.echo(
            f"error: the secrets of {NEWSROOM} and {SPORTDESK} cannot be read from {data / CLEAR_NAME}.\n"
            "The first `make run` makes them; say by --data where the server keeps its data.",
            err=True,
        )
        raise typer.Exit(2) from exc


def _stopped(report: Report, exc: Exception, url: str) -> None:
    """Say why the story ended early, and leave with the status for it."""
    if report.rows:
        report.show()
    typer.echo(f"error: {exc or type(exc).__name__}", err=True)
    if isinstance(exc, httpx.TransportError) or (isinstance(exc, Refused) and not exc.status):
        typer.echo(f"Is the server running at {url}? `make run` starts one.", err=True)
    raise typer.Exit(1 if report.rows else 2)
