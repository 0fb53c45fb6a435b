"""`tams-proxy token`: an access token on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote_plus

import httpx
import typer

from proxy.commands.clients import refusals
from proxy.identity.secrets import read_clear

app = typer.Typer(help="Get an access token.")

TIMEOUT_S = 10
URL = "http://127.0.0.1:8000"


@app.callback(invoke_without_command=True)
def token(
    client_id: Annotated[
        str, typer.Option("--client", help="The client; its secret is in clients.secret.")
    ] = "admin",
    url: Annotated[str, typer.Option(help="The public URL of the proxy.")] = URL,
    scope: Annotated[list[str] | None, typer.Option(help="A scope; all of the client's if none.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="Its secret, when it is not in clients.secret; - asks for it.")
    ] = None,
    data: Annotated[Path, typer.Option(help="The data folder.")] = Path("data"),
) -> None:
    """Print an access token of the built-in token endpoint."""
    with refusals():
        if secret == "-":
            secret = typer.prompt("secret", hide_input=True)
        known = secret if secret is not None else clear_secret(data, client_id)
        typer.echo(fetch(url, client_id, known, scope or [])["access_token"])


def clear_secret(data: Path, client_id: str) -> str:
    """The client's secret in `clients.secret`. ValueError without one."""
    secret = read_clear(data).get(client_id)
    if secret is None:
        raise ValueError(f"the secret of {client_id!r} is not in {data}; give it with --secret -")
    return secret


def fetch(
    url: str, client_id: str, secret: str, scopes: list[str], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The answer of the token endpoint (RFC 6749 4.4). ValueError when it refuses or is not there."""
    form = {"grant_type": "client_credentials"} | ({"scope": " ".join(scopes)} if scopes else {})
    auth = httpx.BasicAuth(quote_plus(client_id), quote_plus(secret))
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_S) as client:
            response = client.post(url.rstrip("/") + "/token", data=form, auth=auth)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise ValueError(f"{url} cannot be reached: {exc}") from exc
    try:
        body = response.json()
    except ValueError as exc:
        raise ValueError(f"{url} answers {response.status_code}, and not with JSON") from exc
    if response.status_code != 200 or not isinstance(body, dict) or "access_token" not in body:
        reason = body.get("detail", body) if isinstance(body, dict) else body
        raise ValueError(f"{url} refuses a token ({response.status_code}): {reason}")
    return body
