"""Settings as an older deployment's environment and `.env` file name them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Final

NAMES: Final = {
    "HOST": "TAMS_HOST",
    "PORT": "TAMS_PORT",
    "LOG_LEVEL": "TAMS_LOG_LEVEL",
    "VAST_ACCESS_KEY": "TAMS_VAST__ACCESS_KEY",
    "VAST_SECRET_KEY": "TAMS_VAST__SECRET_KEY",
    "VAST_BUCKET": "TAMS_VAST__BUCKET",
    "VAST_SCHEMA": "TAMS_VAST__DB_SCHEMA",
    "TOKENS_FILE": "TAMS_API_KEYS",
    "WORKERS": "TAMS_WORKERS",
    "SECRET_KEY": "TAMS_KEYRING_SECRET",
}
"""Each an alias of ours while ours is not set."""
LISTS: Final = {"VAST_ENDPOINT": "TAMS_VAST__ENDPOINTS"}
"""The same of lists, there one value or several with commas between."""
BACKENDS: Final = "TAMS_STORAGE_BACKENDS"
SHORTEST_SECRET: Final = 32
_TRUE: Final = ("1", "true", "yes", "on")
STORES, MAIN_STORE = "STORAGE_CONFIG", "STORAGE_NAME"
"""The YAML file of another key-value server's storage, and which store of it is used."""
_OURS: Final = ("TAMS_", *NAMES, *LISTS, STORES, MAIN_STORE, "DEBUG", "S3_")


def chosen(found: Mapping[str, str]) -> dict[str, str]:
    """What of a `.env` file is ours, by either name; it may be there for others too."""
    return {name: value for name, value in found.items() if name.startswith(_OURS)}


def translated(given: Mapping[str, str]) -> dict[str, str]:
    """The same with our names where only older ones are set. ValueError for a list that is none."""
    found = dict(given)
    for older, ours in NAMES.items():
        value = given.get(older, "")
        # Others use that name too: what is too short is none of ours.
        if value and ours not in given and (older != "SECRET_KEY" or len(value) >= SHORTEST_SECRET):
            found[ours] = value
    if given.get("DEBUG", "").lower() in _TRUE:
        found.setdefault("TAMS_LOG_LEVEL", "debug")
    for older, ours in LISTS.items():
        if given.get(older) and ours not in given:
            found[ours] = json.dumps(_list(older, given[older]))
            # An older deployment had no other database.
            found.setdefault("TAMS_METADATA", "vast")
    if given.get("S3_BUCKET_NAME") and BACKENDS not in given:
        found[BACKENDS] = json.dumps([_backend(given)])
    return found


def spelt(given: Mapping[str, str]) -> dict[str, str]:
    """The older name of each of our variables that is set by that name alone."""
    return {ours: older for older, ours in (NAMES | LISTS).items() if given.get(older) and ours not in given}


def _list(name: str, text: str) -> list[str]:
    """A list, from JSON or from values with commas between."""
    if not text.lstrip().startswith("["):
        return [piece.strip() for piece in text.split(",") if piece.strip()]
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{name}: must be URLs, with commas between or as a JSON list")
    return found


def _backend(given: Mapping[str, str]) -> dict[str, object]:
    """The one bucket of an older deployment as a storage backend; its id is the same at every start."""
    bucket = given["S3_BUCKET_NAME"]
    named = _list("S3_ENDPOINT_URL", given.get("S3_ENDPOINT_URL", ""))
    scheme = "https" if given.get("S3_USE_SSL", "true").lower() in _TRUE else "http"
    found: dict[str, object] = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"s3://{bucket}")),
        "label": bucket,
        "type": "s3",
        "bucket": bucket,
        "default": True,
        "endpoints": [each if "://" in each else f"{scheme}://{each}" for each in named],
    }
    keys = {"access_key": given.get("S3_ACCESS_KEY_ID"), "secret_key": given.get("S3_SECRET_ACCESS_KEY")}
    return found | {name: value for name, value in keys.items() if value}
