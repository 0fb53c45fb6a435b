"""`tams-proxy keyring`: this deployment's own keys, rotated."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum

import typer

from proxy.commands.clients import refusals
from proxy.commands.places import Data, data_of
from proxy.identity.keyring import PURPOSES, Keyring, Purpose
from proxy.identity.keyring import rotate as rotate_key
from proxy.start import KEYRING_NAME

app = typer.Typer(help="The keys that sign tokens, media URLs, cursors and webhooks.", no_args_is_help=True)


class Key(StrEnum):
    """What a key is for."""

    signing = "signing"
    media = "media"
    cursors = "cursors"
    webhooks = "webhooks"


@app.command()
def create(data: Data = None) -> None:
    """Make the keyring, which several replicas must then share. Never replaces one."""
    with refusals():
        path = data_of(data) / KEYRING_NAME
        Keyring.create(path, int(time.time()))
    typer.echo(f"made {path}")


@app.command()
def rotate(key: Key, data: Data = None) -> None:
    """Put a new key in front; what the previous one signed counts until the next rotation."""
    purpose: Purpose = key.value
    with refusals():
        rotate_key(data_of(data) / KEYRING_NAME, purpose, int(time.time()))
    typer.echo(f"rotated {key.value}")


@app.command()
def show(data: Data = None) -> None:
    """Tell when each key was made; never the keys."""
    with refusals():
        keyring = Keyring.load(data_of(data) / KEYRING_NAME)
    for purpose in PURPOSES:
        made = [datetime.fromtimestamp(key.created_s, UTC).isoformat() for key in getattr(keyring, purpose)]
        typer.echo(f"{purpose}: {', '.join(made)}")
