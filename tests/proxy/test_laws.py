"""Laws of the house that no type checker holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from proxy.rules import EXTENSIONS, MEDIA_PATH, RULES, Check, Target
from store.routes.table import ROUTES
from tests.authorization.test_table import TABLE

ROOT = Path(__file__).parents[2]
SPECIFICATION = ROOT.parent / "shared/tams-api/8.2/TimeAddressableMediaStore.yaml"
METHODS = ("GET", "PUT", "POST", "DELETE")
PURE = ("asked", "body", "bulk", "decide", "facts", "objects", "owner", "redact", "rules", "writes")
"""Modules of `proxy` that decide: values in, values out."""
PURE_IMPORTS = frozenset(
    ("__future__", "collections.abc", "dataclasses", "enum", "re", "typing", "orjson")
    + (
        "proxy.errors",
        "proxy.identity.principal",
        "proxy.policy.protocol",
        "proxy.upstream.protocol",
        "proxy",
    )
) | {f"proxy.{name}" for name in PURE}


def operations(table: Any) -> dict[tuple[str, str], str]:
    """Operation ids by path and method."""
    return {
        (path, method): getattr(found, "operation", None) or found.id
        for path, methods in table.items()
        for method, found in methods.items()
    }


OURS = ("/analytics/", "/vast/", "/api/v1/vast/")
"""Where paths are that the specification does not have."""


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a module names in its imports, packages with what is taken from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_every_operation_of_the_store_has_one_row_and_every_row_an_operation() -> None:
    rows = {place: name for place, name in operations(RULES).items() if place[0] != MEDIA_PATH}
    assert rows == operations(ROUTES)


def test_no_operation_stands_in_two_rows() -> None:
    names = list(operations(RULES).values())
    assert len(names) == len(set(names))


def test_the_rows_are_those_of_the_specification() -> None:
    if not SPECIFICATION.exists():
        pytest.skip("the TAMS specification is not beside the repository")
    document = YAML(typ="safe").load(SPECIFICATION)
    specified = {
        (path, method): found[method.lower()]["operationId"]
        for path, found in document["paths"].items()
        for method in METHODS
        if method.lower() in found
    }
    rows = {place: name for place, name in operations(RULES).items() if place[0] != MEDIA_PATH}
    ours = {place for place, name in rows.items() if place[0].startswith(OURS) or name in EXTENSIONS}
    assert {place: name for place, name in rows.items() if place not in ours} == specified


def test_the_actors_are_tried_on_every_row() -> None:
    assert {row.operation for row in TABLE} == set(operations(RULES).values())


def test_the_rows_make_sense() -> None:
    untargeted = (Target.NOTHING, Target.ADMIN, Target.LIST, Target.BACKENDS)
    for (path, method), rule in ((p, r) for p, r in _rows()):
        assert rule.scopes, rule
        assert f"{{{rule.param}}}" in path if rule.param else rule.target in untargeted, rule
        assert method != "GET" or rule.check is Check.NOTHING, rule


def _rows() -> Iterator[tuple[tuple[str, str], Any]]:
    for path, methods in RULES.items():
        for method, rule in methods.items():
            yield (path, method), rule


@pytest.mark.parametrize("name", PURE)
def test_what_decides_does_no_input_or_output(name: str) -> None:
    found = {each for each in imports_of(ROOT / "proxy" / f"{name}.py")}
    # `from proxy.body import Use` names proxy.body and proxy.body.Use: one of the two must be known.
    unknown = {
        each for each in found if each not in PURE_IMPORTS and each.rpartition(".")[0] not in PURE_IMPORTS
    }
    assert not unknown


def test_the_store_never_imports_the_proxy() -> None:
    guilty = [p for p in modules("store") if any(i.split(".")[0] == "proxy" for i in imports_of(p))]
    assert not guilty


CALLERS = ("proxy/commands/token.py", "proxy/demo/client.py", "proxy/demo/media.py")
"""What calls a server over the network, with the client that `store` ships for that."""


def test_the_proxy_imports_the_store_in_its_composition_root_alone() -> None:
    found = {
        p.relative_to(ROOT).as_posix(): {i for i in imports_of(p) if i.split(".")[0] == "store"}
        for p in modules("proxy")
    }
    guilty = {name for name, imported in found.items() if imported}
    assert guilty == {"proxy/app.py", "proxy/adapters.py", *CALLERS}
    for name in CALLERS:
        assert all(i.startswith("store.client") for i in found[name])


def test_modules_stay_short() -> None:
    long = {
        p.relative_to(ROOT).as_posix(): n
        for p in modules("proxy")
        if (n := len(p.read_text().split("\n"))) > 400
    }
    assert not long
