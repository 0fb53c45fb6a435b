"""`tams-proxy client`: the built-in clients, added, rotated, removed and listed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from proxy.commands.failing import in_words
from proxy.commands.places import Data, Policies, data_of, editing, policies_of
from proxy.errors import InvalidSettings
from proxy.identity.clients import Client, check_client_id, parse_clients
from proxy.identity.files import locked, write_shared
from proxy.identity.principal import DELETE, READ, WRITE
from proxy.identity.secrets import (
    SECRETS_NAME,
    add_secret,
    forget_clear,
    hash_chosen,
    hash_random,
    new_secret,
    read_secrets,
    remove_secrets,
)

CLIENTS_NAME = "clients.yaml"
MOST_OVERLAP = 30 * 24 * 60

app = typer.Typer(help="The clients of the built-in token endpoint.", no_args_is_help=True)

Chosen = Annotated[bool, typer.Option("--password", help="Ask for a password instead of making a secret.")]


@app.command()
def add(
    client_id: str,
    group: Annotated[list[str] | None, typer.Option(help="A group of the policy; may be repeated.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="A scope; read, write and delete if none.")] = None,
    password: Chosen = False,
    data: Data = None,
    policies: Policies = None,
) -> None:
    """Add a client and print its secret, once."""
    scopes = scope if scope else [READ, WRITE, DELETE]
    with refusals():
        known = data_of(data) / SECRETS_NAME
        with editing(policies) as folder, locked(folder / CLIENTS_NAME):
            path = folder / CLIENTS_NAME
            changed = with_client(_text(path), client_id, group or [], scopes)
            secret, hashed = _secret(client_id, password)
            # The secret first: without the client it counts for nothing, and can be made again.
            add_secret(known, client_id, hashed, int(time.time()))
            write_shared(path, changed.encode())
    _show(secret)


@app.command()
def rotate(
    client_id: str,
    overlap: Annotated[
        int, typer.Option(min=0, max=MOST_OVERLAP, help="Minutes for which the old secret still counts.")
    ] = 0,
    password: Chosen = False,
    data: Data = None,
    policies: Policies = None,
) -> None:
    """Give a client a new secret and print it, once."""
    with refusals():
        if client_id not in _clients(policies_of(policies)):
            raise ValueError(f"there is no client {client_id!r}")
        folder = data_of(data)
        secret, hashed = _secret(client_id, password)
        add_secret(folder / SECRETS_NAME, client_id, hashed, int(time.time()), overlap_s=overlap * 60)
        forget_clear(folder, client_id)
    _show(secret)


@app.command()
def remove(client_id: str, data: Data = None, policies: Policies = None) -> None:
    """Remove a client, its secrets and with them its tokens."""
    with refusals():
        kept = data_of(data)
        with editing(policies) as folder, locked(folder / CLIENTS_NAME):
            path = folder / CLIENTS_NAME
            write_shared(path, without_client(_text(path), client_id).encode())
        remove_secrets(kept / SECRETS_NAME, client_id)
        forget_clear(kept, client_id)
    typer.echo(f"removed {client_id}")


@app.command("list")
def list_clients(data: Data = None, policies: Policies = None) -> None:
    """List the clients, their groups and scopes."""
    with refusals():
        clients, secrets = _clients(policies_of(policies)), read_secrets(data_of(data) / SECRETS_NAME)
    table = Table("client", "groups", "scopes", "secrets", box=None)
    for client in clients.values():
        count = len(secrets.get(client.id, ()))
        table.add_row(
            client.id, ", ".join(sorted(client.groups)), " ".join(sorted(client.scopes)), str(count)
        )
    Console().print(table)


def with_client(text: str, client_id: str, groups: Iterable[str], scopes: Iterable[str]) -> str:
    """The clients.yaml with one more client, comments kept. ValueError when it is there or not acceptable."""
    if check_client_id(client_id) in parse_clients(text.encode()):
        raise ValueError(f"there is a client {client_id!r} already")
    document = _yaml().load(text)
    entry = CommentedMap()
    for name, values in (("groups", groups), ("scopes", scopes)):
        entry[name] = CommentedSeq(values)
        entry[name].fa.set_flow_style()
    if not document["clients"]:
        document["clients"] = CommentedMap()
    document["clients"].fa.set_block_style()
    document["clients"][client_id] = entry
    changed = _dump(document)
    parse_clients(changed.encode())
    return changed


def without_client(text: str, client_id: str) -> str:
    """The clients.yaml without that client, every other line as it was. ValueError when it is not there."""
    left = dict(parse_clients(text.encode()))
    if left.pop(client_id, None) is None:
        raise ValueError(f"there is no client {client_id!r}")
    document = _yaml().load(text)
    line, column = document["clients"].lc.key(client_id)
    changed = _without_entry(text.splitlines(keepends=True), line, column)
    # With several clients on one line that is no longer the rest; the comments cannot all be kept then.
    with suppress(ValueError):
        if parse_clients(changed.encode()) == left:
            return changed
    del document["clients"][client_id]
    return _dump(document)


def _without_entry(lines: list[str], line: int, column: int) -> str:
    """The lines without the entry that begins there, and without the comment that stands directly above it.

    The library hangs a comment on what is before it, so that it would go with the wrong client.
    """
    start, end = line, line + 1
    while start > 0 and lines[start - 1].lstrip().startswith("#") and lines[start - 1].index("#") == column:
        start -= 1
    while end < len(lines) and _is_deeper(lines[end], column):
        end += 1
    return "".join(lines[:start] + lines[end:])


def _is_deeper(line: str, column: int) -> bool:
    return bool(line.strip()) and len(line) - len(line.lstrip()) > column


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what the files refuse into a message and exit status 1."""
    try:
        yield
    except InvalidSettings as exc:
        typer.echo("The settings cannot be used:\n  " + "\n  ".join(exc.problems), err=True)
        raise typer.Exit(2) from exc
    except (ValueError, OSError) as exc:
        typer.echo(f"error: {in_words(exc)}", err=True)
        raise typer.Exit(1) from exc


def _clients(policies: Path) -> dict[str, Client]:
    return dict(parse_clients(_text(policies / CLIENTS_NAME).encode()))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else "clients: {}\n"


def _dump(document: Any) -> str:
    out = StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _secret(client_id: str, chosen: bool) -> tuple[str | None, str]:
    """What to show, and what to store."""
    if chosen:
        password = typer.prompt("password", hide_input=True, confirmation_prompt=True)
        return None, hash_chosen(client_id, password)
    secret = new_secret()
    return secret, hash_random(secret)


def _show(secret: str | None) -> None:
    if secret is not None:
        typer.echo(secret)
        typer.echo("keep it: it is not stored and cannot be shown again", err=True)
