"""`tams-proxy key`: opaque API keys, added, refreshed, deleted and listed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from proxy.commands.clients import refusals
from proxy.commands.places import keys_file_of
from proxy.identity.apikeys import SCOPES, ApiKey, dump_keys_file, new_key, parse_keys_file
from proxy.identity.files import locked, write_private, write_shared

app = typer.Typer(help="Opaque API keys.", no_args_is_help=True)

MOST_DAYS = 36_500

File = Annotated[Path | None, typer.Option("--file", help="The keys file; by default that of the settings.")]
Days = Annotated[str, typer.Option(metavar="DAYS", help="Days until it expires; or none: it has no end.")]

Keys = dict[str, ApiKey]


@app.command()
def add(
    name: str,
    scope: Annotated[list[str] | None, typer.Option(help="read, write or delete; read if none.")] = None,
    days: Days = "365",
    file: File = None,
) -> None:
    """Add a key and print it, once."""
    with refusals():
        ttl = days_of(days)
        path, now_s = keys_file_of(file), int(time.time())
        typer.echo(_edit(path, lambda keys: add_key(keys, name, scope or ["read"], now_s, ttl)))


@app.command()
def refresh(name: str, days: Days = "365", file: File = None) -> None:
    """Replace a key by a new one with the same scopes and print it, once."""
    with refusals():
        ttl = days_of(days)
        path = keys_file_of(file)
        typer.echo(_edit(path, lambda keys: refresh_key(keys, name, int(time.time()), ttl)))


@app.command()
def delete(name: str, file: File = None) -> None:
    """Delete a key; it stops to count within a second."""
    with refusals():
        _edit(keys_file_of(file), lambda keys: take_key(keys, name).name)
    typer.echo(f"deleted {name}")


@app.command("list")
def list_keys(file: File = None) -> None:
    """List the keys' names, ends and scopes; never the keys."""
    spelled = {scope: word for word, scope in SCOPES.items()}
    with refusals():
        keys = _read(keys_file_of(file))
    for key in keys.values():
        end = "no end" if key.expires_s is None else datetime.fromtimestamp(key.expires_s, UTC).isoformat()
        typer.echo(f"{key.name}  {end}  {' '.join(sorted(spelled[scope] for scope in key.scopes))}")


def days_of(text: str) -> int | None:
    """The days that a key lives; None for "none". ValueError for what is neither."""
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MOST_DAYS):
        raise ValueError(f"{text!r} is not a number of days, 1 to {MOST_DAYS}, or none")
    return int(text)


def add_key(keys: Keys, name: str, scopes: list[str], now_s: int, days: int | None) -> str:
    """Put a new key among the others and return it. ValueError when there is one of that name."""
    if any(key.name == name for key in keys.values()):
        raise ValueError(f"there is a key {name!r} already")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValueError(f"the scopes {unknown} are not of {sorted(SCOPES)}")
    token, key = new_key(name, frozenset(SCOPES[scope] for scope in scopes), now_s, days)
    keys[key.hash] = key
    return token


def refresh_key(keys: Keys, name: str, now_s: int, days: int | None) -> str:
    """Put a new key in place of that one and return it. ValueError when there is none."""
    old = take_key(keys, name)
    token, key = new_key(name, old.scopes, now_s, days)
    keys[key.hash] = replace(key, groups=old.groups)
    return token


def take_key(keys: Keys, name: str) -> ApiKey:
    """Take the key of that name out. ValueError when there is none."""
    for hashed, key in keys.items():
        if key.name == name:
            return keys.pop(hashed)
    raise ValueError(f"there is no key {name!r}")


def _edit(file: Path, change: Callable[[Keys], str]) -> str:
    with locked(file):
        keys = _read(file)
        told = change(keys)
        data = dump_keys_file(keys)
        parse_keys_file(data)
        if file.exists():
            write_shared(file, data)
        else:
            write_private(file, data, replace=False)
    return told


def _read(file: Path) -> Keys:
    return dict(parse_keys_file(file.read_bytes())) if file.exists() else {}
