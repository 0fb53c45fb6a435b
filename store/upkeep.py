"""The commands that keep a data folder: backup, restore, check, and the way back to an older version."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import orjson
import typer

from store import errors
from store.http import utc_now
from store.media.config import FilesConfig
from store.settings import InvalidSettings, StoreSettings, parse_shared

if TYPE_CHECKING:
    from store.backup import Places

P = ParamSpec("P")


def backup(
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    like: Annotated[
        Path | None, typer.Option(help="An earlier backup: what has not changed is linked to it.")
    ] = None,
) -> None:
    """Copy metadata, local media, keys and secrets as they are at one moment, while servers run.

    Media are linked where the file system is the same, else copied. Metadata in VAST and objects in buckets
    stay where they are.
    """
    from store.backup import back_up

    taking = back_up(_places(), target, like, utc_now(), time.time_ns, f"backup-{uuid.uuid4().hex}")
    _tell(asdict(asyncio.run(taking)))


def restore(
    source: Annotated[Path, typer.Argument(help="A backup.")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put aside what is there; else only an empty place will do."),
    ] = False,
) -> None:
    """Make the data folder from a backup, once that is found to be whole. Servers have to be stopped."""
    from store.backup import restore as bring_back

    aside = time.strftime("%Y%m%dT%H%M%S") if replace else None
    _tell(asdict(bring_back(source, _places(), aside=aside)))


def check(source: Annotated[Path, typer.Argument(help="A backup.")]) -> None:
    """Find out whether a backup is whole. The exit status tells."""
    from store.backup import InvalidBackup
    from store.backup import check as examine

    taken, problems = examine(source)
    if problems:
        raise InvalidBackup(problems)
    _tell(asdict(taken))


def downgrade(
    to: Annotated[int, typer.Option(min=1, help="The schema version, as the older version names it.")],
    lose: Annotated[bool, typer.Option("--lose", help="Even if it has no place for everything.")] = False,
) -> None:
    """Bring the metadata in the data folder back to the tables of an older version, before that is started.

    Servers have to be stopped. A newer version brings them forward by itself when it starts.
    """
    from store.metadata.sqlite_schema import revert, version_of

    path = _places().data / "metadata.sqlite"
    if not path.is_file():
        raise errors.NotFound(f"{path}: there is no database")
    before = version_of(path)
    lost = revert(path, to, lose=lose)
    _tell({"from": before, "to": to, "lost": lost})


def _places() -> Places:
    from store.backup import Places

    settings = parse_shared(StoreSettings)
    if settings.metadata != "sqlite":
        raise InvalidSettings(["metadata are in VAST: it is the cluster's snapshots that keep them"])
    local = [config for config in settings.backends() if isinstance(config, FilesConfig)]
    return Places(settings.data, {config.id: config.folder for config in local if config.folder is not None})


def _tell(document: dict[str, object]) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _failing(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose failures are said in a sentence each."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from store.backup import InvalidBackup

        try:
            command(*args, **kwargs)
        except (InvalidBackup, InvalidSettings) as exc:
            typer.echo("\n".join(exc.problems), err=True)
            raise typer.Exit(1) from exc
        except (errors.Error, OSError, sqlite3.Error) as exc:
            typer.echo(str(exc), err=True)
            raise typer.Exit(1) from exc

    return run


def register(app: typer.Typer) -> None:
    """Add them to the commands of `tams-store`."""
    for command in (backup, restore, check, downgrade):
        app.command(rich_help_panel="Upkeep")(_failing(command))
