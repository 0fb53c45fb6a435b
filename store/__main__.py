"""The command `tams-store`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store import __version__, upkeep
from store.files import SettingsFiles
from store.settings import InvalidSettings, StoreSettings, parse, parse_shared
from store.tools import commands as tools

if TYPE_CHECKING:
    from store.metadata.vast_api import VastConfig

app = typer.Typer(
    help="A Time-addressable Media Store, TAMS 8.2, without authorization: for trusted use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

stores = typer.Typer(help="Another key-value server's storage configuration.", no_args_is_help=True)
app.add_typer(stores, name="kv-config")
tools.register(app)
upkeep.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tams-store {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A Time-addressable Media Store, TAMS 8.2, without authorization: for trusted use."""


@app.command()
def serve(
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="How many processes share the port.")
    ] = None,
) -> None:
    """Run the store alone. Everybody who reaches it may do everything.

    Settings are environment variables TAMS_* and a TOML file, TAMS_CONFIG or tams.toml. SIGHUP has them read
    again; SIGTERM stops in good order.
    """
    from store.app import opened
    from store.checks import problems
    from store.errors import Error
    from store.own_key import own_key
    from store.serve import Service
    from store.serve import serve as run

    files = SettingsFiles()

    def read() -> StoreSettings:
        chosen = {} if workers is None else {"workers": workers}
        return parse(StoreSettings, files=files).model_copy(update=chosen)

    try:
        settings = read()
        wrong = problems(settings)
        if wrong:
            raise InvalidSettings(wrong)
        secret = own_key(settings)
    except InvalidSettings as exc:
        raise _unusable(exc) from exc
    except OSError as exc:
        raise _unusable(InvalidSettings([str(exc)])) from exc
    typer.secho(
        f"WARNING: no authorization. Whoever reaches {settings.base_url()} may read, change and delete "
        "everything.",
        fg=typer.colors.RED,
        bold=True,
        err=True,
    )
    service = Service(
        read, lambda each, process: opened(each, process, secret), (InvalidSettings, Error, OSError)
    )
    try:
        sys.exit(run(settings, service))
    except InvalidSettings as exc:
        raise _unusable(exc) from exc


def _unusable(exc: InvalidSettings) -> typer.Exit:
    typer.echo("The settings cannot be used:\n  " + "\n  ".join(exc.problems), err=True)
    return typer.Exit(2)


def _cluster() -> tuple[StoreSettings, VastConfig]:
    """The settings, and how to reach the cluster that they name; ends the command if they cannot be used."""
    from store.metadata.opening import vast_config

    try:
        settings = parse(StoreSettings)
        return settings, vast_config(settings)
    except InvalidSettings as exc:
        raise _unusable(exc) from exc


@app.command()
def tables(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the tables that the metadata are in, with their rows."""
    from store import errors, library

    try:
        settings = parse(StoreSettings)
        found = asyncio.run(library.tables_of(settings))
    except InvalidSettings as exc:
        typer.echo("The settings cannot be used:\n  " + "\n  ".join(exc.problems), err=True)
        raise typer.Exit(2) from exc
    except errors.Error as exc:
        typer.echo(f"error: {exc.summary}", err=True)
        raise typer.Exit(1) from exc
    if as_json:
        typer.echo(json.dumps([asdict(table) for table in found], indent=2))
        return
    for table in found:
        size = "" if table.size_bytes is None else f", {table.size_bytes} bytes"
        typer.echo(f"{table.schema}.{table.name}: {table.rows} rows{size}")


@app.command()
def doctor(
    tables: Annotated[bool, typer.Option("--tables", help="List schemas and tables instead.")] = False,
) -> None:
    """Find out what the configured VAST cluster can do. The exit status tells whether it will do.

    What it says about conflicts is kept with the tables: where they are not found, one process alone may
    use the metadata.
    """
    _, config = _cluster()
    from store import commands

    raise typer.Exit(asyncio.run(commands.list_tables(config) if tables else commands.examine(config)))


class Engine(StrEnum):
    """Databases of metadata."""

    sqlite = "sqlite"
    vast = "vast"


@app.command()
def migrate(
    source: Annotated[Engine, typer.Option("--from", help="Where the metadata are.")],
    target: Annotated[Engine, typer.Option("--to", help="Where they are to be.")],
) -> None:
    """Copy all metadata from the file in the data folder into the configured VAST cluster, or from there into
    a new file in the data folder, and verify that.

    Servers have to be stopped. Interrupted, it goes on where it was when it is run again.
    """
    if source is target:
        typer.echo("Metadata can be copied from sqlite to vast, or from vast to sqlite.", err=True)
        raise typer.Exit(2)
    settings, config = _cluster()
    from store import commands

    path = settings.data / "metadata.sqlite"
    copying = commands.migrate(path, config) if target is Engine.vast else commands.migrate_back(config, path)
    raise typer.Exit(asyncio.run(copying))


@app.command()
def upgrade() -> None:
    """Bring the tables in VAST to this version: make those, and those columns, that are missing."""
    _, config = _cluster()
    from store import commands

    raise typer.Exit(asyncio.run(commands.upgrade(config)))


def _settings() -> StoreSettings:
    """The settings, those of the proxy aside; ends the command if they cannot be used."""
    try:
        return parse_shared(StoreSettings)
    except InvalidSettings as exc:
        typer.echo("The settings cannot be used:\n  " + "\n  ".join(exc.problems), err=True)
        raise typer.Exit(2) from exc


@app.command("backends")
def examine_backends() -> None:
    """Try every storage backend, and say what is wrong. The exit status tells whether anything is."""
    settings = _settings()
    from store import backends

    raise typer.Exit(asyncio.run(backends.examine(settings)))


@app.command()
def orphans(
    delete: Annotated[bool, typer.Option("--delete", help="Remove them. Without this nothing is.")] = False,
) -> None:
    """List bytes on the storage backends that no object in the metadata has, and that are old enough.

    Other stores must not keep objects in the same folders, or below the same prefix of a bucket.
    """
    settings = _settings()
    from store import backends

    raise typer.Exit(asyncio.run(backends.scan(settings, delete=delete)))


@app.command()
def recount() -> None:
    """Count the bytes under the quota of local folders anew: a crash may leave the figure wrong."""
    settings = _settings()
    from store import backends

    raise typer.Exit(asyncio.run(backends.recount(settings)))


@stores.command("import")
def import_stores(
    file: Annotated[Path, typer.Argument(help="The YAML file with `stores` and `main`.")],
    main: Annotated[str | None, typer.Option(help="The store to use; the file's own by default.")] = None,
) -> None:
    """Print the storage backends of a YAML file as our TOML, its variables filled in, secrets too."""
    from store.kvconfig import InvalidStores, imported, toml
    from store.settings import environment

    try:
        typer.echo(toml(imported(file.read_text(), environment(), main)), nl=False)
    except (OSError, UnicodeDecodeError) as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(2) from exc
    except InvalidStores as exc:
        typer.echo(f"{file} cannot be imported:\n  " + "\n  ".join(exc.problems), err=True)
        raise typer.Exit(2) from exc


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
