"""How policy commands tell what they found: tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from proxy.commands.failing import in_words
from proxy.errors import Error, InvalidSettings
from proxy.policy.files import InvalidPolicy

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="A group that the token carries; may be repeated.")
]
At = Annotated[str | None, typer.Option("--at", help="The time to ask about, RFC 3339; now if none.")]


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what cannot be done into a message and exit status 1."""
    try:
        yield
    except (InvalidPolicy, InvalidSettings) as exc:
        typer.echo("error:\n  " + "\n  ".join(exc.problems), err=True)
        raise typer.Exit(1) from exc
    except (ValueError, OSError, Error) as exc:
        reason = getattr(exc, "reason", None)
        typer.echo(f"error: {in_words(exc)}{f' ({reason})' if reason else ''}", err=True)
        raise typer.Exit(1) from exc


def tell_json(value: Any) -> None:
    """One JSON document."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True))


def tell_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, its first column whole; all of them, and no colours, where the output is no terminal. Nothing
    in a cell is markup."""
    console = Console()
    table = Table(box=None, header_style="bold")
    for number, name in enumerate(head):
        table.add_column(name, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    if console.is_terminal:
        console.print(table)
    else:
        whole = console.options.update(width=_WIDEST)
        Console(width=Measurement.get(console, whole, table).maximum).print(table, soft_wrap=True)


_WIDEST = 1_000_000
_STYLES = {"yes": "green", "no": "red", "denied": "red"}
