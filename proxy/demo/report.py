"""What the demo shows: bars while it works, and a table of what was tried and what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was tried. `passed`: whether what came back is what should have."""

    who: str
    tried: str
    came: str
    passed: bool


class Report:
    """Rows as they come, on a console."""

    def __init__(self, console: Console) -> None:
        self.rows: list[Row] = []
        self._console = console

    @property
    def passed(self) -> bool:
        """Whether anything was tried and all of it went as it should."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def row(self, who: str, tried: str, came: object, passed: bool) -> None:
        """Keep a row for the table."""
        self.rows.append(Row(who, tried, str(came), passed))

    @contextmanager
    def bar(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar; what it gives is called with how many more are done."""
        columns = (
            TextColumn(f"{description:<25}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(description, total=total)

            def advance(done: int) -> None:
                progress.advance(task, done)

            yield advance

    def show(self) -> None:
        """Print the table."""
        table = Table("Who", "What was tried", "What came back", "", title="What each team could do")
        for row in self.rows:
            mark = "[green]ok[/green]" if row.passed else "[bold red]WRONG[/bold red]"
            table.add_row(row.who, escape(row.tried), escape(row.came), mark)
        self._console.print(table)
