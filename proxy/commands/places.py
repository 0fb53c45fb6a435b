"""Where commands find the server's files: where its settings say, unless an option says otherwise."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.start import policy_folder

if TYPE_CHECKING:
    from proxy.app import Settings

Data = Annotated[
    Path | None, typer.Option("--data", help="The server's data folder; by default that of the settings.")
]
Policies = Annotated[
    Path | None, typer.Option("--policies", help="The policy folder; by default that of the settings.")
]
Url = Annotated[
    str | None, typer.Option("--url", help="Where the proxy is; by default where its settings say, here.")
]
KEYS_NAME = "keys.json"


def data_of(given: Path | None) -> Path:
    """The data folder. Raises `InvalidSettings`."""
    return _settings().data if given is None else given


def url_of(given: str | None) -> str:
    """Where the proxy of the settings is reached on this machine: by its public name where it speaks TLS, for
    the certificate's is that. Raises `InvalidSettings`."""
    if given is not None:
        return given
    settings = _settings()
    if settings.tls.certificate is not None:
        return settings.base_url()
    host = settings.host
    with suppress(ValueError):  # a name
        address = ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def keys_file_of(given: Path | None) -> Path:
    """The file of API keys. Raises `InvalidSettings`."""
    if given is not None:
        return given
    settings = _settings()
    return settings.api_keys or settings.data / KEYS_NAME


def policies_of(given: Path | None) -> Path:
    """The policy folder to read: the shipped one where that counts. Raises `InvalidSettings`."""
    return policy_folder(_settings()) if given is None else given


@contextmanager
def editing(given: Path | None) -> Iterator[Path]:
    """The policy folder to change.

    Where the shipped one counts, that is a copy of it, which takes the place of none when everything has
    gone well: a server never finds a part of a policy. Raises `InvalidSettings`, ValueError for a folder
    that is named and is not there, and OSError.
    """
    if given is not None:
        if not given.is_dir():
            raise ValueError(f"{given} is no folder; copy the shipped policy there first")
        yield given
        return
    settings = _settings()
    found = policy_folder(settings)
    if found == settings.policies:
        yield found
        return
    place = settings.policies.absolute()
    with tempfile.TemporaryDirectory(prefix=".policies-", dir=place.parent) as making:
        copy = Path(making, place.name)
        copy.mkdir()
        for each in sorted(found.iterdir()):
            if each.is_file() and each.suffix != ".py":
                shutil.copyfile(each, copy / each.name)
        yield copy
        os.rename(copy, place)
    typer.echo(
        f"there was no policy folder: the shipped policy was copied to {settings.policies}, which counts "
        "from now on; a server that runs takes it up at SIGHUP, or when it is started again",
        err=True,
    )


def _settings() -> Settings:
    # What is slow to import, and not needed where an option says it.
    from proxy.app import load_settings

    return load_settings()
