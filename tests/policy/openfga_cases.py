"""OpenFGA's own test cases, read from the folder beside the checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "openfga-tests"

needs_cases = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="OpenFGA's test cases (../shared/openfga-tests) are not here"
)


@cache
def load(name: str) -> Any:
    """A YAML file of cases; None where the folder is absent."""
    path = FOLDER / name
    if not path.is_file():
        return None
    return YAML(typ="safe").load(path)


def named(cases: list[dict[str, Any]] | None) -> list[Any]:
    """Cases as parameters of a test, by name and position."""
    return [pytest.param(case, id=f"{number}-{case['name']}") for number, case in enumerate(cases or ())]
