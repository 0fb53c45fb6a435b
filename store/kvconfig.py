"""Storage backends from the YAML of the key-value server that this one takes the place of. Pure.

    stores:
      local: {type: FilesystemStore, config: {root_path: "${DATA:-./data}"}}
      cloud: {type: s3, bucket_name: objects, endpoint_url: https://s3.example, secret_key: ...}
    main: local

Options stand beside the type or under `config`, and go by the several names that such files use.
"""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "memory": ("memory", "inmemory", "mem", "ram", "dict"),
    "files": ("file", "files", "filesystem", "fs", "local", "disk", "directory", "folder", "hashdir"),
    "s3": ("s3", "bucket", "asyncbucket", "asyncs3", "minio", "aws", "vast"),
}
OPTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "memory": {},
    "files": {
        "folder": (
            "folder",
            "root",
            "root_path",
            "root_dir",
            "path",
            "base_path",
            "base_dir",
            "directory",
            "dir",
        )
    },
    "s3": {
        "bucket": ("bucket", "bucket_name", "s3_bucket", "s3_bucket_name"),
        "endpoints": (
            "endpoint",
            "endpoints",
            "endpoint_url",
            "s3_url",
            "s3_endpoint",
            "s3_endpoint_url",
            "url",
        ),
        "access_key": (
            *("access_key", "access_key_id", "aws_access_key_id", "s3_access_key", "s3_access_key_id"),
        ),
        "secret_key": (
            *("secret_key", "secret_access_key", "aws_secret_access_key", "s3_secret_key"),
            "s3_secret_access_key",
        ),
        "session_token": ("session_token", "aws_session_token"),
        "region": ("region", "region_name", "aws_region"),
        "prefix": ("prefix", "key_prefix"),
        "verify_tls": ("verify_tls", "verify", "verify_ssl"),
    },
}
NESTED: Final = ("config", "options", "params", "kwargs", "settings")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SUFFIX = re.compile(r"(store|storage|backend)$")


class InvalidStores(ValueError):
    """The file cannot be imported. `problems`: everything that is wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def imported(text: str, environ: Mapping[str, str], main: str | None = None) -> list[dict[str, Any]]:
    """The storage backends, as `storage_backends` of our settings. `main`: the name of the one that is used,
    the file's own by default. The same names make the same ids, always. Raises `InvalidStores`."""
    document = _document(text)
    problems: list[str] = []
    stores = document.get("stores")
    if not isinstance(stores, dict) or not stores:
        raise InvalidStores(["stores: must be an object of stores"])
    chosen = main or _expanded(document.get("main"), environ, "main", problems)
    if chosen is None and len(stores) == 1:
        (chosen,) = stores
    if chosen not in stores:
        problems.append(f"main: {chosen!r} is none of the stores")
    found = [
        {**_backend(str(name), entry, environ, problems), "default": name == chosen}
        for name, entry in stores.items()
    ]
    problems += [f"{name}: is not known here" for name in document if name not in ("stores", "main")]
    if problems:
        raise InvalidStores(problems)
    return found


def toml(backends: list[dict[str, Any]]) -> str:
    """Backends as the part of our TOML file that names them."""
    lines: list[str] = []
    for backend in backends:
        lines += [
            "[[storage_backends]]",
            *(f"{name} = {_value(value)}" for name, value in backend.items()),
            "",
        ]
    return "\n".join(lines)


def _value(value: Any) -> str:
    # A JSON text, number, truth or list of texts is TOML as well, but for the character DEL.
    return json.dumps(value).replace("\x7f", "\\u007f")


def _document(text: str) -> dict[str, Any]:
    try:
        document = YAML(typ="safe").load(io.StringIO(text))
    except YAMLError as exc:
        raise InvalidStores([f"not YAML: {str(exc).splitlines()[0]}"]) from exc
    if not isinstance(document, dict):
        raise InvalidStores(["must be an object with `stores` and `main`"])
    return document


def _backend(name: str, entry: Any, environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    where = f"stores.{name}"
    options = dict(entry) if isinstance(entry, dict) else {}
    for nested in NESTED:
        inner = options.pop(nested, None)
        options |= inner if isinstance(inner, dict) else {}
    said = _expanded(options.pop("type", None), environ, f"{where}.type", problems)
    kind = _kind(said)
    if kind is None:
        problems.append(f"{where}.type: {said!r} is no kind of storage that there is here")
        return {}
    found: dict[str, Any] = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:tams-proxy:kv-store:{name}")),
        "label": name,
        "type": kind,
    }
    for option, value in options.items():
        ours = next((ours for ours, names in OPTIONS[kind].items() if str(option).lower() in names), None)
        if ours is None:
            problems.append(f"{where}.{option}: is not known here")
        elif ours in found:
            problems.append(f"{where}.{option}: is said twice")
        else:
            found[ours] = _option(ours, value, environ, f"{where}.{option}", problems)
    needed = {"files": "folder", "s3": "bucket"}.get(kind)
    if needed is not None and not found.get(needed):
        problems.append(f"{where}: has no {needed}")
    return found


def _kind(said: str | None) -> str | None:
    """What a type is called here."""
    plain = re.sub(r"[^a-z0-9]", "", (said or "").lower())
    for text in (plain, _SUFFIX.sub("", plain)):
        for kind, names in KINDS.items():
            if text in names:
                return kind
    return None


def _option(ours: str, value: Any, environ: Mapping[str, str], where: str, problems: list[str]) -> Any:
    if ours == "endpoints":
        given = value if isinstance(value, list) else [value]
        return [_expanded(each, environ, where, problems) for each in given]
    text = _expanded(value, environ, where, problems)
    if ours == "verify_tls":
        if (text or "").lower() not in ("true", "false"):
            problems.append(f"{where}: must be true or false")
        return (text or "").lower() == "true"
    if ours == "prefix" and text:
        return text.strip("/") + "/"
    return text


def _expanded(value: Any, environ: Mapping[str, str], where: str, problems: list[str]) -> str | None:
    """A text with its `${VAR}` and `${VAR:-default}` filled in; an empty variable counts as none."""
    if value is None:
        return None
    if isinstance(value, dict | list):
        problems.append(f"{where}: must be a text")
        return None

    def filled(match: re.Match[str]) -> str:
        found = environ.get(match[1]) or match[2]
        if found is None:
            problems.append(f"{where}: the variable {match[1]} is not set")
        return found or ""

    return _VARIABLE.sub(filled, str(value).lower() if isinstance(value, bool) else str(value))
