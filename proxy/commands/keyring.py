"""`tams-proxy keyring`: this deployment's own keys, rotated."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from proxy.commands.clients import refusals
from proxy.identity.keyring import PURPOSES, Keyring, Purpose
from proxy.identity.keyring import rotate as rotate_key

KEYRING_NAME = "keyring.json"

app = typer.Typer(help="The keys that sign tokens, media URLs, cursors and webhooks.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", help="The data folder.")]
DATA = Path("data")


class Key(StrEnum):
    """What a key is for."""

    signing = "signing"
    media = "media"
    cursors = "cursors"
    webhooks = "webhooks"


@app.command()
def create(data: Data = DATA) -> None:
    """Make the keyring, which several replicas must then share. Never replaces one."""
    with refusals():
        Keyring.create(data / KEYRING_NAME, int(time.time()))
    typer.echo(f"made {data / KEYRING_NAME}")


@app.command()
def rotate(key: Key, data: Data = DATA) -> None:
    """Put a new key in front; what the previous one signed counts until the next rotation."""
    purpose: Purpose = key.value
    with refusals():
        rotate_key(data / KEYRING_NAME, purpose, int(time.time()))
    typer.echo(f"rotated {key.value}")


@app.command()
def show(data: Data = DATA) -> None:
    """Tell when each key was made; never the keys."""
    with refusals():
        keyring = Keyring.load(data / KEYRING_NAME)
    for purpose in PURPOSES:
        made = [datetime.fromtimestamp(key.created_s, UTC).isoformat() for key in getattr(keyring, purpose)]
        typer.echo(f"{purpose}: {', '.join(made)}")
