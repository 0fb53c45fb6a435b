"""The published OpenAPI document in one piece: references to other files replaced by what they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def inlined(path: Path) -> dict[str, Any]:
    """The document at `path`; references within it stay."""
    document: dict[str, Any] = _resolved(yaml.safe_load(path.read_text()), path.parent)
    return document


def _resolved(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_resolved(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str) or reference.startswith("#"):
        # What is elsewhere is for people only.
        return {name: _resolved(item, folder) for name, item in value.items() if name != "examples"}
    target = folder / reference
    beside = {name: item for name, item in value.items() if name not in ("$ref", "description", "default")}
    found = _resolved(json.loads(target.read_text()), target.parent)
    return {**found, **_resolved(beside, folder)} if isinstance(found, dict) else found
