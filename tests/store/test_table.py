"""The table of operations against the specification's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from store.routes.table import OPERATIONS, ROUTES

SPEC = Path(__file__).resolve().parents[3] / "shared" / "tams-api" / "8.2" / "TimeAddressableMediaStore.yaml"


@pytest.fixture(scope="module")
def published() -> dict[tuple[str, str], str]:
    """The operationId of every path and method of the specification."""
    if not SPEC.is_file():
        pytest.skip("the TAMS 8.2 specification is not beside the checkout")
    document: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    return {
        (path, method.upper()): operation["operationId"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_every_operation_of_the_specification_has_one_route_of_its_id(
    published: dict[tuple[str, str], str],
) -> None:
    ours = {
        (path, method): operation.id
        for path, methods in ROUTES.items()
        for method, operation in methods.items()
    }
    wanted = {place: name for place, name in published.items() if place[1] != "HEAD"}
    assert {place: ours.get(place) for place in wanted} == wanted
    assert len(OPERATIONS) == sum(len(methods) for methods in ROUTES.values())


def test_every_get_of_the_specification_has_its_head(published: dict[tuple[str, str], str]) -> None:
    """rule 1"""
    for (path, method), name in published.items():
        if method == "HEAD":
            assert ROUTES[path]["GET"].id == name.replace("HEAD_", "GET_")
