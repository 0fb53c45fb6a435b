"""The configuration language passes OpenFGA's own cases: syntax, semantics, JSON, modules, manifests, stores.

Wording of syntax errors: OpenFGA's are its parser generator's ("mismatched input ... expecting {...}") and
tell that parser's recovery, one fault often several times. Here such an error is compared by the place of
the first; every other message is compared word for word.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from proxy.policy.embedded import Engine, InvalidModel, Problem, parse_model
from proxy.policy.embedded.dsl import parse
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.model_json import from_json, to_json
from proxy.policy.embedded.modules import combine, parse_manifest
from proxy.policy.embedded.render import to_dsl
from proxy.policy.embedded.store_file import InvalidStoreFile, read_store, run_cases
from proxy.policy.embedded.tuples import is_object_id
from proxy.policy.embedded.validate import validate
from tests.policy.openfga_cases import FOLDER, load, named, needs_cases

pytestmark = needs_cases

EXCLUDED = {
    "transformer/*/authorization-model.dot": "drawings of OpenFGA's weighted graph, which nothing here has",
    "invalid: comma (regression - '-' must stay a literal, not a range)": (
        "the editor's grammar of object ids; the server takes a comma, and percent signs, which we write"
    ),
    "dsl-semantic-validation-cases.yaml: skip, and no errors": (
        "OpenFGA skips them itself: its server refuses these loops of computed relations, as we do"
    ),
    "fga-mod-transformer-cases.yaml: the extent of the whole list of contents": "nothing here points at it",
}

_GENERATED = re.compile(r"^(extraneous|mismatched) input|^no viable alternative|^missing '")

Place = tuple[str, int, int, int]


def folders(name: str) -> list[Any]:
    found = sorted((FOLDER / "dsl" / name).iterdir()) if FOLDER.is_dir() else []
    return [pytest.param(folder, id=folder.name) for folder in found]


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        model = parse(text).model
    except InvalidModel as invalid:
        return invalid.problems
    return tuple(validate(model))


def place(problem: Problem) -> Place:
    assert problem.span is not None
    return problem.message, problem.span.line, problem.span.start, problem.span.end


def expected_place(error: dict[str, Any]) -> Place:
    return error["msg"], error["line"]["start"], error["column"]["start"], error["column"]["end"]


# Text


@pytest.mark.parametrize("case", named(load("dsl/dsl-syntax-validation-cases.yaml")))
def test_syntax(case: dict[str, Any]) -> None:
    expected = case.get("expected_errors") or []
    if not expected:
        parse(case["dsl"])
        return
    with pytest.raises(InvalidModel) as invalid:
        parse(case["dsl"])
    found = [place(problem) for problem in invalid.value.problems]
    if _GENERATED.match(expected[0]["msg"]):
        assert found[0][1:] == expected_place(expected[0])[1:]
    else:
        assert found == [expected_place(error) for error in expected]
    assert {problem.kind for problem in invalid.value.problems} == {"syntax"}


@pytest.mark.parametrize("case", named(load("dsl/dsl-semantic-validation-cases.yaml")))
def test_semantics(case: dict[str, Any]) -> None:
    if case.get("skip") and not case["expected_errors"]:
        pytest.skip(EXCLUDED["dsl-semantic-validation-cases.yaml: skip, and no errors"])
    found = problems_of(case["dsl"])
    expected = case["expected_errors"]
    assert sorted(map(place, found)) == sorted(map(expected_place, expected))
    kinds = {(error["msg"], error["metadata"]["errorType"]) for error in expected}
    assert {(problem.message, problem.kind) for problem in found} == kinds


@pytest.mark.parametrize("folder", folders("transformer"))
def test_a_model_becomes_json_and_text_again(folder: Path) -> None:
    text = (folder / "authorization-model.fga").read_text(encoding="utf-8")
    document = json.loads((folder / "authorization-model.json").read_text(encoding="utf-8"))
    model = parse(text).model
    assert to_json(model) == document
    assert from_json(document) == from_json(to_json(model))
    assert to_dsl(from_json(document)) == text


@pytest.mark.parametrize("case", named(load("dsl/json-validation-cases.yaml")))
def test_json_semantics(case: dict[str, Any]) -> None:
    found = validate(from_json(json.loads(case["json"])))
    expected = case["expected_errors"] or []
    assert [(problem.message, problem.kind) for problem in found] == [
        (error["msg"], error["metadata"]["errorType"]) for error in expected
    ]


@pytest.mark.parametrize("case", named(load("dsl/json-syntax-transformer-validation-cases.yaml")))
def test_json_that_the_language_can_and_cannot_say(case: dict[str, Any]) -> None:
    model = from_json(json.loads(case["json"]))
    if case.get("valid", True):
        text = to_dsl(model)
        assert to_dsl(parse(text).model) == text
        return
    with pytest.raises(InvalidModel) as invalid:
        to_dsl(model)
    assert [problem.message for problem in invalid.value.problems] == [case["error_message"]]


@pytest.mark.parametrize("case", named(load("dsl/object-id-validation-cases.yaml")))
def test_object_ids(case: dict[str, Any]) -> None:
    if case["name"] in EXCLUDED:
        pytest.skip(EXCLUDED[case["name"]])
    assert is_object_id(case["object_id"]) is case["valid"]


# Modules


def module_texts(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder / "module").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((folder / "module").rglob("*.fga"))
    }


@pytest.mark.parametrize("folder", folders("transformer-module"))
def test_modules(folder: Path) -> None:
    errors = folder / "expected_errors.json"
    if errors.is_file():
        compare_module_errors(folder, json.loads(errors.read_text(encoding="utf-8")))
        return
    document = json.loads((folder / "authorization-model.json").read_text(encoding="utf-8"))
    model = from_json(document)
    if (folder / "module").is_dir():
        assert to_json(combine(module_texts(folder))) == document
        assert to_dsl(model) == (folder / "combined.fga").read_text(encoding="utf-8")
        sourced = (folder / "combined-sourceinfo.fga").read_text(encoding="utf-8")
        assert to_dsl(model, source_info=True) == sourced
    names = json.loads((folder / "expected_modules.json").read_text(encoding="utf-8"))
    assert list(model.modules) == names


def compare_module_errors(folder: Path, expected: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidModel) as invalid:
        combine(module_texts(folder))

    def shown(message: str, rest: tuple[Any, ...]) -> tuple[Any, ...]:
        return ("syntax" if _GENERATED.match(message) else message, *rest)

    wanted = [shown(error["msg"], (error["file"], *expected_place(error)[1:])) for error in expected]
    found = [
        (
            "syntax" if problem.message.startswith("found ") else problem.message,
            problem.file,
            *place(problem)[1:],
        )
        for problem in invalid.value.problems
    ]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("case", named(load("dsl/fga-mod-transformer-cases.yaml")))
def test_manifest(case: dict[str, Any]) -> None:
    if "expected_errors" in case:
        with pytest.raises(InvalidModel) as invalid:
            parse_manifest(case["modFile"])
        found = [place(problem) for problem in invalid.value.problems]
        assert found == [expected_place(error) for error in case["expected_errors"]]
        return
    manifest = parse_manifest(case["modFile"])
    document = json.loads(case["json"])
    located = [manifest.schema, *manifest.contents]
    assert [(each.value, each.span.line, each.span.start, each.span.end) for each in located] == [
        (each["value"], each["line"]["start"], each["column"]["start"], each["column"]["end"])
        for each in [document["schema"], *document["contents"]["value"]]
    ]


# Stores


def no_file(name: str) -> object:
    raise AssertionError(f"no case has tuple files: {name}")


def model_of_store(folder: Path, inline: str | None, file: str | None) -> Model:
    if inline is not None:
        return parse_model(inline)
    assert file is not None
    return parse_model((folder / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", folders("stores"))
def test_stores(folder: Path) -> None:
    value = YAML(typ="safe").load(folder / "store.fga.yaml")
    errors = folder / "expected_errors.json"
    if not errors.is_file():
        store = read_store(value, no_file)
        model = model_of_store(folder, store.model, store.model_file)
        assert run_cases(model, store.tuples, store.cases) == []
        assert store.cases
        return
    with pytest.raises(InvalidStoreFile) as invalid:
        read_store(value, no_file)
    for error in json.loads(errors.read_text(encoding="utf-8"))[:1]:
        about = (error.get("params") or {}).get("additionalProperty") or "model_file"
        assert about in invalid.value.summary


@pytest.mark.parametrize("folder", folders("transformer"))
def test_the_conditions_of_a_model_compile(folder: Path) -> None:
    model = parse((folder / "authorization-model.fga").read_text(encoding="utf-8")).model
    if folder.name == "11-multiple-conditions":
        with pytest.raises(InvalidModel, match="document_attributes"):
            Engine(model, [])
    else:
        assert Engine(model, []).model is model
