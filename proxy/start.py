"""The first start: what is made once, and found again by every later one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from proxy.consistency import contradictions
from proxy.errors import InvalidSettings
from proxy.identity.apikeys import parse_keys_file
from proxy.identity.clients import parse_clients
from proxy.identity.config import IdentityConfig
from proxy.identity.keyring import Keyring
from proxy.identity.secrets import SECRETS_NAME, provision, read_secrets
from proxy.policy.files import InvalidPolicy, load
from proxy.rules import RULES, Methods

KEYRING_NAME = "keyring.json"


class Placed(Protocol):
    """The settings that say where policies are."""

    @property
    def policies(self) -> Path: ...

    @property
    def model_fields_set(self) -> set[str]: ...


class Startable(Placed, Protocol):
    """The settings that a first start goes by."""

    @property
    def data(self) -> Path: ...

    @property
    def demo(self) -> bool: ...

    @property
    def token_endpoint(self) -> bool: ...

    @property
    def metadata(self) -> str: ...

    @property
    def keyring_secret(self) -> SecretStr | None: ...


class Identified(Startable, Protocol):
    """The settings that say who callers are, too."""

    def base_url(self) -> str: ...

    def identity(self, data: Path, policies: Path, public_url: str) -> IdentityConfig: ...


def policy_folder(settings: Placed) -> Path:
    """The operator's policy folder, or the shipped one where none is named and none is there.

    Raises `InvalidSettings` for one that is named and is not there: the shipped policy may allow what that
    one forbids.
    """
    named = settings.policies
    try:
        if named.is_dir():
            return named
        if "policies" in settings.model_fields_set or os.path.lexists(named):
            raise InvalidSettings([f"TAMS_POLICIES: {named} is no folder"])
    except OSError as exc:
        raise InvalidSettings([f"TAMS_POLICIES: {exc}"]) from exc
    shipped = resources.files("policies")
    return Path(str(shipped))


def check_rules(rules: Mapping[str, Methods]) -> None:
    """Raise `InvalidSettings` for a table of rules that cannot be gone by, with all that is wrong."""
    problems = contradictions(rules)
    if problems:
        raise InvalidSettings([f"proxy/rules.py: {problem}" for problem in problems])


def start_problems(settings: Identified) -> list[str]:
    """What of the policy, the keyring and the files of clients and keys keeps the proxy from starting, one
    sentence each. Reads them, makes nothing."""
    found: list[str] = []
    try:
        folder = policy_folder(settings)
        load(folder)
    except InvalidSettings as exc:
        found += exc.problems
        folder = settings.policies
    except InvalidPolicy as exc:
        found += [f"{folder}: {problem}" for problem in exc.problems]
    identity = settings.identity(settings.data, folder, settings.base_url())
    found += identity.problems()
    keyring, secrets = settings.data / KEYRING_NAME, settings.data / SECRETS_NAME
    reads: list[tuple[Path, Callable[[], object]]] = [
        (keyring, lambda: Keyring.load(keyring) if keyring.exists() else _may_create(settings, keyring)),
        (secrets, lambda: read_secrets(secrets)),
    ]
    if identity.api_keys is not None:
        keys = identity.api_keys.path
        reads.append((keys, lambda: parse_keys_file(keys.read_bytes()) if keys.exists() else None))
    for path, read in reads:
        try:
            read()
        except NotADirectoryError:
            # Said of the data folder already.
            continue
        except (OSError, ValueError) as exc:
            said = exc.strerror if isinstance(exc, OSError) else str(exc)
            found.append(said if said and str(path) in said else f"{path}: {said}")
    return found


def first_start(settings: Startable) -> dict[str, str]:
    """Make what only the first start makes: the keyring, and with `demo` the clients' secrets.

    Returns the secrets that were made. Raises `InvalidSettings` for files that cannot be used.
    """
    check_rules(RULES)
    folder = policy_folder(settings)
    path = settings.data / KEYRING_NAME
    now_s = int(time.time())
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _may_create(settings, path)
            secret = settings.keyring_secret
            _create(path, now_s, None if secret is None else secret.get_secret_value().encode())
        if not settings.demo or not settings.token_endpoint:
            return {}
        clients = parse_clients((folder / "clients.yaml").read_bytes())
        return provision(settings.data, list(clients), now_s)
    except (OSError, ValueError) as exc:
        raise InvalidSettings([str(exc)]) from exc


def _may_create(settings: Startable, path: Path) -> None:
    if settings.metadata == "vast" and settings.keyring_secret is None:
        # Other servers may share the metadata, and what they signed has to be good here.
        raise ValueError(
            f"{path} is missing: with metadata in VAST, make one by `tams-proxy keyring create` and "
            "give it to every server, or give all of them the same TAMS_KEYRING_SECRET."
        )


def _create(path: Path, now_s: int, secret: bytes | None) -> None:
    # Another server that starts at the same time may have made it meanwhile; it counts for both.
    with contextlib.suppress(FileExistsError):
        Keyring.create(path, now_s, secret)
