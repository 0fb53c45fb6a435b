"""The published specification, when it lies beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

SPEC = Path(__file__).resolve().parents[3] / "shared" / "tams-api" / "8.2"


@pytest.fixture(scope="session")
def spec() -> Path:
    """The folder of TAMS 8.2, with `schemas` and `examples`."""
    if not SPEC.is_dir():
        pytest.skip("the TAMS 8.2 specification is not beside the checkout")
    return SPEC


@pytest.fixture(scope="session")
def example(spec: Path) -> Callable[[str], Any]:
    """The published example of that name, read anew each time."""
    return lambda name: json.loads((spec / "examples" / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def oracle(spec: Path) -> Callable[[str], Draft202012Validator]:
    """A validator of the published schema of that name, independent of our models."""
    schemas = {path.name: json.loads(path.read_text()) for path in (spec / "schemas").glob("*.json")}
    resources = [(name, Resource(contents, DRAFT202012)) for name, contents in schemas.items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return lambda name: Draft202012Validator(schemas[f"{name}.json"], registry=registry)
