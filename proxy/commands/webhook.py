"""`tams-proxy webhook`: how deliveries fare; try one, deliver again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from proxy.commands.policy_show import Json, refusals, tell_json, tell_table
from proxy.identity.keyring import Keyring
from proxy.start import KEYRING_NAME

if TYPE_CHECKING:
    from proxy.app import Desk

app = typer.Typer(
    help="""Webhooks: how deliveries fare, try one, deliver again.

    The commands go by the server's settings (TAMS_*, tams.toml) and act on its database and keyring, not
    through its API: they need its data folder, and work whether it runs or not. A server that runs takes up a
    replay within seconds.
    """,
    no_args_is_help=True,
)
T = TypeVar("T")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NS = 1_000_000_000
_AGO = re.compile(r"([0-9]{1,6})([smhd])")


@app.command("list")
def list_webhooks(json: Json = False) -> None:
    """List all webhooks: their status, what waits to be tried again, and what came of the last attempt."""
    found = _at_desk(lambda desk: desk.webhooks())
    if json:
        tell_json([each.document() for each in found])
        return
    head = ("id", "status", "url", "events", "waiting", "last attempt", "error")
    tell_table(
        head,
        (
            (
                each.id,
                each.status,
                each.url,
                " ".join(each.events),
                str(each.waiting),
                f"{time_text(each.last.time_ns)} {each.last.status or 'no answer'}" if each.last else "",
                each.error or "",
            )
            for each in found
        ),
    )


@app.command()
def deliveries(webhook_id: str, json: Json = False) -> None:
    """Show the last attempts of a webhook: what was sent, and what came back."""
    found = _at_desk(lambda desk: desk.deliveries(webhook_id))
    if json:
        tell_json([each._asdict() for each in found])
        return
    tell_table(
        ("time", "event", "attempt", "status", "ms", ""),
        (
            (
                time_text(each.time_ns),
                each.event_type,
                str(each.attempt),
                str(each.status or "no answer"),
                str(each.took_ms),
                each.said,
            )
            for each in found
        ),
    )


@app.command()
def test(webhook_id: str) -> None:
    """Deliver one message of the type webhooks/test, which tells of nothing, signed as any other.

    Exit status 1 when the receiver does not take it.
    """
    answer = _at_desk(lambda desk: desk.test(webhook_id, time.time_ns()))
    typer.echo(f"{answer.said} {answer.took_ms} ms")
    if not answer.is_success:
        raise typer.Exit(1)


@app.command()
def replay(
    webhook_id: str,
    since: Annotated[
        str | None,
        typer.Option(help="Deliver again what happened since: 90s, 30m, 2h, 3d, or a time in RFC 3339."),
    ] = None,
) -> None:
    """Try at once what waits to be tried again; enable the webhook again if it is in error.

    With --since, also deliver again what was delivered, as far as events are kept. Receivers tell repeats by
    the header webhook-id, which stays the same.
    """
    with refusals():
        now_ns = time.time_ns()
        since_ns = None if since is None else time_of(since, now_ns)
    _at_desk(lambda desk: desk.replay(webhook_id, since_ns, now_ns))
    typer.echo(f"{webhook_id} is delivered to again")


def time_of(text: str, now_ns: int) -> int:
    """A time in nanoseconds since 1970, from how long ago it was or from RFC 3339. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ns - int(ago[1]) * _UNITS[ago[2]] * _NS
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: say 2h, or 2026-11-21T08:00:00Z") from None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp()) * _NS


def time_text(ns: int) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(ns // _NS, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _at_desk(act: Callable[[Desk], Awaitable[T]]) -> T:
    """What comes of acting on the server's database; refusals end the command."""
    from proxy.app import load_settings, open_desk, relay_settings

    async def acting() -> T:
        settings = load_settings()
        keyring = Keyring.load(settings.data / KEYRING_NAME)
        kept = relay_settings(settings) if settings.upstream else settings
        async with open_desk(kept, keyring.secrets("webhooks")) as desk:
            return await act(desk)

    with refusals():
        return asyncio.run(acting())
