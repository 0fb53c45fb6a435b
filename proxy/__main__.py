"""The command `tams-proxy`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from proxy import __version__
from proxy.commands import clients, demo, keyring, keys, policy, token, webhook
from proxy.errors import InvalidSettings

if TYPE_CHECKING:
    from proxy.app import Settings

app = typer.Typer(
    help="A Time-addressable Media Store, TAMS 8.2, in which teams share one store and see what they may.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(clients.app, name="client")
app.add_typer(token.app, name="token")
app.command()(demo.demo)
app.add_typer(keys.app, name="key")
app.add_typer(keyring.app, name="keyring")
app.add_typer(policy.app, name="policy")
app.add_typer(webhook.app, name="webhook")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tams-proxy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A Time-addressable Media Store, TAMS 8.2, in which teams share one store and see what they may."""


@app.command()
def serve(
    demo: Annotated[
        bool, typer.Option("--demo", help="Make secrets for the policy's clients, and accept every login.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="How many processes share the port.")
    ] = None,
) -> None:
    """Run the proxy with its embedded store.

    Settings are environment variables TAMS_* and a TOML file, TAMS_CONFIG or tams.toml; `tams-proxy config`
    shows them. SIGHUP has them, the policy and the certificate read again; SIGTERM stops in good order.
    """
    from proxy.app import SettingsFiles, load_settings, run

    files = SettingsFiles()
    chosen: dict[str, object] = {} if workers is None else {"workers": workers}
    if demo:
        # Both ways of logging in are in the specification; outside a demonstration they are a choice.
        chosen |= {"demo": True, "allow_basic": True, "allow_url_token": True}

    def read() -> Settings:
        return load_settings(files).model_copy(update=chosen)

    try:
        sys.exit(run(read(), read, lambda text: typer.echo(text, err=True)))
    except InvalidSettings as exc:
        raise _unusable(exc) from exc


@app.command()
def config() -> None:
    """Print the effective settings, secrets masked; or all that keeps a server from starting with them."""
    from proxy.app import check_usable, load_settings

    try:
        settings = load_settings()
        check_usable(settings)
    except InvalidSettings as exc:
        raise _unusable(exc) from exc
    typer.echo(json.dumps(settings.model_dump(mode="json"), indent=2))


def _unusable(exc: InvalidSettings) -> typer.Exit:
    typer.echo("The settings cannot be used:\n  " + "\n  ".join(exc.problems), err=True)
    return typer.Exit(2)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
