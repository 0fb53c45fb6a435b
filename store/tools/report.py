"""What the tools print: progress on standard error, tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table


class Bars:
    """Bars on standard error: pieces done of all, where it is known how many there will be."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator[Self]:
        """Bars while this is open, where somebody looks at a terminal."""
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[size]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            yield cls(progress)

    def begin(self, name: str, total: int | None) -> Callable[[int], None]:
        """See `ingest.Progress`."""
        task: TaskID = self._progress.add_task(name, total=total, size="")
        sizes = [0]

        def told(size_bytes: int) -> None:
            sizes[0] += size_bytes
            self._progress.update(task, advance=1, size=size(sizes[0]))

        return told


def size(size_bytes: int) -> str:
    """A size for people."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= step:
            return f"{size_bytes // step}.{size_bytes * 10 // step % 10} {unit}"
    return f"{size_bytes} B"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for people; whole values, one row a line, where the output is no terminal."""
    console = Console()
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        # What comes first is an id, to be copied whole.
        shown.add_column(name, overflow="fold", no_wrap=number == 0)
    listed = [list(row) for row in rows]
    if not console.is_terminal:
        for row in [list(columns), *listed]:
            typer.echo("\t".join(row))
        return
    for row in listed:
        shown.add_row(*row)
    console.print(shown)


def document(value: Any) -> None:
    """JSON for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
