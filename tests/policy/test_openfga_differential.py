"""The embedded evaluator and a real OpenFGA server give the same answers to random questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proxy.policy.embedded import Engine, PolicyError, Tuple, parse_model
from proxy.policy.embedded.model import Exclusion, Intersection, Model, Relation, Rewrite, This, Union, leaves
from proxy.policy.embedded.model_json import to_json
from proxy.policy.embedded.shape import Shape
from proxy.policy.embedded.validate import validate
from proxy.policy.openfga_api import key_of
from tests.policy.openfga_server import running
from tests.policy.test_evaluate_properties import (
    OBJECTS,
    RELATIONS,
    TYPES,
    askers,
    contexts,
    models,
    overlays,
    tuples,
)

CASES_OF_A_WORLD = 20
SLOW_WORLDS = 110
"""Of which those that a server takes, at 20 questions each, are over 2,000."""


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    # Shorter than the time after which a list is cut off without a word: too late is an error, and soon.
    with running("--request-timeout", "300ms") as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@dataclass(frozen=True)
class Question:
    kind: str
    user: str
    relation: str
    object: str
    contextual: tuple[Tuple, ...]
    context: Mapping[str, object]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Model, list[Tuple], list[Question]]:
    model = draw(models().map(tidy).filter(is_plain))
    stored = draw(tuples(model, 12, 24))
    # One that replaces a stored tuple is not asked about: a server of 1.18.1 may count the stored one too.
    keys = {each.key for each in stored}
    questions = [
        Question(
            draw(st.sampled_from(("check", "check", "list"))),
            draw(askers),
            draw(st.sampled_from(RELATIONS)),
            draw(st.sampled_from(OBJECTS)),
            tuple(each for each in draw(overlays(model, stored)) if each.key not in keys),
            draw(contexts),
        )
        for _ in range(CASES_OF_A_WORLD)
    ]
    return model, stored, questions


def tidy(model: Model) -> Model:
    """The model without restrictions where no tuple can be: a server refuses those."""

    def tidied(each: Relation) -> Relation:
        direct = any(isinstance(leaf, This) for leaf in leaves(each.rewrite))
        return each if direct else replace(each, restrictions=())

    types = tuple(
        replace(kind, relations={name: tidied(each) for name, each in kind.relations.items()})
        for kind in model.types
    )
    return replace(model, types=types)


def is_plain(model: Model) -> bool:
    """Whether the model is valid, and no exclusion leans on itself: there a server's answer depends on which
    of its branches returns first."""
    if validate(model):
        return False
    nodes = [(name, relation) for name in TYPES for relation in RELATIONS]
    return all(component.stratified for component in Shape(model).beneath(nodes))


def circles(model: Model) -> bool:
    """Whether tuples may run in a circle beneath the subtracted side of an exclusion.

    We then always deny. Whether a server has met the circle depends on how it resolves the relation, and, of
    `a and b` with b in a circle, on which of the two says no first.
    """
    shape = Shape(model)
    return any(
        component.recursive
        for definition in model.types
        for relation in definition.relations.values()
        for subtract in subtracted(relation.rewrite)
        for component in shape.beneath(shape.leans_on(subtract, definition.name, relation.name))
    )


def subtracted(rewrite: Rewrite) -> Iterator[Rewrite]:
    """The subtracted sides of the exclusions of a rewrite."""
    match rewrite:
        case Exclusion(base, subtract):
            yield subtract
            yield from subtracted(base)
            yield from subtracted(subtract)
        case Union(children) | Intersection(children):
            for child in children:
                yield from subtracted(child)


class Refusal(Exception):
    """An answer of the server that is none: its status and text."""


class TooLate(Exception):
    """A server gives up on some circles of tuples."""


class Remote:
    """The server, with one model and its tuples."""

    def __init__(self, client: httpx.Client, model: Model, stored: list[Tuple]) -> None:
        self._client = client
        self._store = self._post("/stores", {"name": "random"})["id"]
        answer = self._post(f"/stores/{self._store}/authorization-models", to_json(model))
        self._model = answer["authorization_model_id"]
        keys = {"tuple_keys": [key_of(each) for each in stored]}
        self._post(f"/stores/{self._store}/write", {"writes": keys, "authorization_model_id": self._model})

    def close(self) -> None:
        self._client.delete(f"/stores/{self._store}").raise_for_status()

    def ask(self, question: Question) -> object:
        body: dict[str, Any] = {
            "authorization_model_id": self._model,
            "contextual_tuples": {"tuple_keys": [key_of(each) for each in question.contextual]},
            "context": dict(question.context),
        }
        try:
            if question.kind == "check":
                key = {"user": question.user, "relation": question.relation, "object": question.object}
                return self._post(f"/stores/{self._store}/check", {"tuple_key": key, **body})["allowed"]
            body |= {"user": question.user, "relation": question.relation}
            body["type"] = question.object.partition(":")[0]
            return frozenset(self._post(f"/stores/{self._store}/list-objects", body)["objects"])
        except Refusal as exc:
            if "deadline_exceeded" in str(exc):
                raise TooLate from exc
            assert exc.args[0] == 400, exc
            return None

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self._client.post(path, json=body)
        if answer.status_code >= 300:
            raise Refusal(answer.status_code, answer.text)
        return answer.json()


def embedded(engine: Engine, question: Question) -> object:
    more: dict[str, Any] = {"contextual": question.contextual, "context": question.context}
    try:
        if question.kind == "check":
            return engine.check(question.user, question.relation, question.object, **more)
        kind = question.object.partition(":")[0]
        return engine.list_objects(question.user, question.relation, kind, **more)
    except PolicyError:
        return None


@dataclass
class Tally:
    """How many questions were asked, and of how many one side alone knew the answer."""

    asked: int = 0
    unknown: int = 0


def compare(client: httpx.Client, world: tuple[Model, list[Tuple], list[Question]], tally: Tally) -> None:
    """Ask both everything."""
    model, stored, questions = world
    try:
        remote = Remote(client, model, stored)
    except Refusal as exc:
        # A server refuses more models than the language does, those that may loop among them.
        assert "invalid_authorization_model" in str(exc), exc
        return
    engine = Engine(model, stored)
    lenient = circles(model)
    try:
        for question in questions:
            try:
                ours, theirs = embedded(engine, question), remote.ask(question)
                agreed = agree(engine, remote, question, ours, theirs, lenient)
            except TooLate:
                continue
            assert agreed, f"{question}: embedded {ours}, server {theirs}"
            tally.asked += 1
            tally.unknown += ours != theirs
    finally:
        remote.close()


def agree(
    engine: Engine, remote: Remote, question: Question, ours: object, theirs: object, lenient: bool
) -> bool:
    """Whether the answers are the same, or differ as they may.

    `lenient`: we may deny what a server allows, for a circle of tuples. Else they may differ only where a
    condition lacks its parameter. A server then answers or fails by the branch that it finds first, and may
    fail over a condition that the answer does not hang on. So where we do not know, it may know; where we
    know, it may fail, and an allow of ours must then be what both say whatever the parameter is.
    """
    if ours == theirs or (lenient and stricter(ours, theirs)):
        return True
    if ours is None:
        return not question.context
    if theirs is not None:
        return False
    if isinstance(ours, frozenset):
        kind = question.object.partition(":")[0]
        for each in (each for each in OBJECTS if each.startswith(kind)):
            check = replace(question, kind="check", object=each)
            if not agree(engine, remote, check, each in ours, remote.ask(check), lenient):
                return False
        return True
    if question.context:
        return False
    given = [replace(question, context={"x": x}) for x in (0, 1)] if ours else []
    return all(embedded(engine, each) is True is remote.ask(each) for each in given)


def stricter(ours: object, theirs: object) -> bool:
    """Whether we deny what a server allows."""
    if isinstance(ours, frozenset) and isinstance(theirs, frozenset):
        return ours < theirs
    return ours is False and theirs is True


CIRCLE_BESIDE_A_BRANCH = """
model
  schema 1.1
type user
type doc
  relations
    define a: [user]
type group
  relations
    define parent: [group, doc]
    define a: [user] {word} a from parent
    define b: [user] but not a
"""


@pytest.mark.parametrize("word", ["and", "or"])
def test_a_circle_in_what_is_subtracted_denies_in_every_order(word: str) -> None:
    model = parse_model(CIRCLE_BESIDE_A_BRANCH.replace("{word}", word))
    stored = [Tuple("group:1", "parent", "group:1"), Tuple("user:1", "b", "group:1")]
    engine = Engine(model, stored)
    assert circles(model)
    assert not circles(parse_model(CIRCLE_BESIDE_A_BRANCH.replace("{word} a from parent", "")))
    assert engine.check("user:1", "b", "group:1") is False
    assert engine.list_objects("user:1", "b", "group") == frozenset()


@given(st.data())
@settings(max_examples=1)
def test_worlds_are_various(data: st.DataObject) -> None:
    model, stored, questions = data.draw(worlds())
    assert not validate(model)
    assert len(stored) >= 12 and len(questions) == CASES_OF_A_WORLD


@pytest.mark.slow
def test_random_policies_give_the_same_answers(server: httpx.Client) -> None:
    tally = Tally()

    @settings(
        max_examples=SLOW_WORLDS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(worlds())
    def run(world: tuple[Model, list[Tuple], list[Question]]) -> None:
        compare(server, world, tally)

    run()
    assert tally.asked >= 2_000
    assert tally.unknown <= tally.asked // 20
