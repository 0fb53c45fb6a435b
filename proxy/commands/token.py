"""`tams-proxy token`: an access token on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.commands.clients import refusals
from proxy.commands.places import Data, Url, data_of, url_of
from proxy.identity.secrets import read_clear
from store.client.tams import fetch

__all__ = ["app", "clear_secret", "fetch"]

app = typer.Typer(help="Get an access token.")


@app.callback(invoke_without_command=True)
def token(
    client_id: Annotated[
        str, typer.Option("--client", help="The client; its secret is in clients.secret.")
    ] = "admin",
    url: Url = None,
    scope: Annotated[list[str] | None, typer.Option(help="A scope; all of the client's if none.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="Its secret, when it is not in clients.secret; - asks for it.")
    ] = None,
    data: Data = None,
) -> None:
    """Print an access token of the built-in token endpoint."""
    with refusals():
        if secret == "-":
            secret = typer.prompt("secret", hide_input=True)
        known = secret if secret is not None else clear_secret(data_of(data), client_id)
        typer.echo(fetch(url_of(url), client_id, known, scope or [])["access_token"])


def clear_secret(data: Path, client_id: str) -> str:
    """The client's secret in `clients.secret`. ValueError without one."""
    secret = read_clear(data).get(client_id)
    if secret is None:
        raise ValueError(f"the secret of {client_id!r} is not in {data}; give it with --secret -")
    return secret
