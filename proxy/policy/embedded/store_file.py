"""OpenFGA's store files (`store.fga.yaml`): a model, tuples, and tests of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from proxy.policy.embedded.errors import PolicyError
from proxy.policy.embedded.evaluate import Engine
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.tuples import ConditionRef, Tuple

_TUPLE = {"user", "relation", "object", "condition"}
_STORE = {"name", "model", "model_file", "tuples", "tuple_file", "tuple_files", "tests"}
_TEST = {"name", "description", "tuples", "tuple_file", "tuple_files", "check", "list_objects", "list_users"}
_ASSERTIONS = {
    "check": {"user", "users", "object", "objects", "context", "assertions"},
    "list_objects": {"user", "type", "context", "assertions"},
    "list_users": {"object", "user_filter", "context", "assertions"},
}

_REQUIRED = {
    "check": {"assertions"},
    "list_objects": {"user", "type", "assertions"},
    "list_users": {"object", "user_filter", "assertions"},
}


class InvalidStoreFile(PolicyError):
    """A store or tuple file does not have the shape OpenFGA gives it; the summary says where."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One expectation of a test: the question in words, how to ask it, and the answer wanted."""

    question: str
    ask: Callable[[Engine, Sequence[Tuple]], object]
    wanted: object


@dataclass(frozen=True, slots=True)
class Case:
    """A test of a store file; its own tuples come on top of the store's."""

    name: str
    tuples: tuple[Tuple, ...]
    assertions: tuple[Assertion, ...]


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A store file with its tuple files, read. `model_file` is as it stands in it, relative to it."""

    name: str
    model: str | None
    model_file: str | None
    tuples: tuple[Tuple, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An assertion that did not come true. `found` is the answer, or the error that came instead."""

    case: str
    question: str
    wanted: object
    found: object

    def __str__(self) -> str:
        return f"{self.case}: {self.question}: wanted {_shown(self.wanted)}, found {_shown(self.found)}"


def read_tuples(value: object, where: str = "tuples") -> tuple[Tuple, ...]:
    """The tuples of a parsed tuple file: a list of user, relation, object and perhaps condition."""
    return tuple(_tuple(each, f"{where}[{number}]") for number, each in enumerate(_list(value, where)))


def read_store(value: object, read_file: Callable[[str], object]) -> StoreFile:
    """A parsed store file. `read_file` gives a tuple file, parsed, by its name there.

    Raises `InvalidStoreFile` for missing or unknown keys, and whatever `read_file` raises.
    """
    store = _mapping(value, "store", _STORE)
    if "model" not in store and "model_file" not in store:
        raise InvalidStoreFile("store: 'model' or 'model_file' must be there")
    tests = _list(store.get("tests") or [], "tests")
    return StoreFile(
        str(store.get("name", "")),
        _text(store["model"], "model") if "model" in store else None,
        _text(store["model_file"], "model_file") if "model_file" in store else None,
        _tuples_of(store, "store", read_file),
        tuple(_case(each, f"tests[{number}]", read_file) for number, each in enumerate(tests)),
    )


def run_cases(model: Model, tuples: Iterable[Tuple], cases: Iterable[Case]) -> list[Failure]:
    """Ask everything the cases ask. Raises `PolicyError` when model or tuples cannot be used at all."""
    engine = Engine(model, tuples)
    failures = []
    for case in cases:
        for assertion in case.assertions:
            try:
                found = assertion.ask(engine, case.tuples)
            except PolicyError as error:
                found = error
            if found != assertion.wanted:
                failures.append(Failure(case.name, assertion.question, assertion.wanted, found))
    return failures


def _shown(value: object) -> str:
    return ", ".join(sorted(value)) or "nobody" if isinstance(value, frozenset) else str(value)


def _mapping(
    value: object, where: str, allowed: set[str] | None = None, required: Iterable[str] = ()
) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidStoreFile(f"{where}: expected a mapping")
    unknown = [key for key in value if allowed is not None and key not in allowed]
    missing = [key for key in required if key not in value]
    if unknown or missing:
        faults = [f"unknown '{key}'" for key in unknown] + [f"missing '{key}'" for key in missing]
        raise InvalidStoreFile(f"{where}: {', '.join(faults)}")
    return dict(value)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidStoreFile(f"{where}: expected a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidStoreFile(f"{where}: expected a string, found {value!r:.80}")
    return value


def _tuples_of(value: Mapping[str, Any], where: str, read_file: Callable[[str], object]) -> tuple[Tuple, ...]:
    names = [value["tuple_file"]] if value.get("tuple_file") else []
    names += _list(value.get("tuple_files") or [], f"{where}.tuple_files")
    tuples = read_tuples(value.get("tuples") or [], f"{where}.tuples")
    for name in names:
        tuples += read_tuples(read_file(_text(name, f"{where}.tuple_file")), name)
    return tuples


def _tuple(value: object, where: str) -> Tuple:
    fields = _mapping(value, where, _TUPLE, ("user", "relation", "object"))
    user, relation, object_ = (_text(fields[key], where) for key in ("user", "relation", "object"))
    if fields.get("condition") is None:
        return Tuple(user, relation, object_)
    condition = _mapping(fields["condition"], f"{where}.condition", {"name", "context"}, ("name",))
    context = _mapping(condition.get("context") or {}, f"{where}.condition.context")
    return Tuple(user, relation, object_, ConditionRef(_text(condition["name"], where), context))


def _case(value: object, where: str, read_file: Callable[[str], object]) -> Case:
    test = _mapping(value, where, _TEST)
    assertions: list[Assertion] = []
    for kind, read in (("check", _check), ("list_objects", _list_objects), ("list_users", _list_users)):
        for number, each in enumerate(_list(test.get(kind) or [], f"{where}.{kind}")):
            place = f"{where}.{kind}[{number}]"
            fields = _mapping(each, place, _ASSERTIONS[kind], sorted(_REQUIRED[kind]))
            wanted = _mapping(fields["assertions"], f"{place}.assertions")
            context = _mapping(fields.get("context") or {}, f"{place}.context")
            for relation, answer in wanted.items():
                assertions += read(fields, relation, answer, context, place)
    name = str(test.get("name", where))
    return Case(name, _tuples_of(test, where, read_file), tuple(assertions))


def _one_or_more(fields: dict[str, Any], one: str, more: str, where: str) -> list[str]:
    values = [fields[one]] if one in fields else _list(fields.get(more), f"{where}.{more}")
    return [_text(value, f"{where}.{one}") for value in values]


def _check(
    fields: dict[str, Any], relation: str, wanted: object, context: dict[str, Any], where: str
) -> Iterator[Assertion]:
    if not isinstance(wanted, bool):
        raise InvalidStoreFile(f"{where}.assertions.{relation}: expected true or false")
    for user in _one_or_more(fields, "user", "users", where):
        for object_ in _one_or_more(fields, "object", "objects", where):
            ask = partial(_ask_check, user, relation, object_, context)
            yield Assertion(f"is {user} {relation} of {object_}", ask, wanted)


def _ask_check(
    user: str, relation: str, object_: str, context: dict[str, Any], engine: Engine, tuples: Sequence[Tuple]
) -> object:
    return engine.check(user, relation, object_, contextual=tuples, context=context)


def _list_objects(
    fields: dict[str, Any], relation: str, wanted: object, context: dict[str, Any], where: str
) -> Iterator[Assertion]:
    user, type_name = _text(fields["user"], where), _text(fields["type"], where)

    def ask(engine: Engine, tuples: Sequence[Tuple]) -> object:
        return engine.list_objects(user, relation, type_name, contextual=tuples, context=context)

    names = _list(wanted or [], f"{where}.assertions.{relation}")
    yield Assertion(f"every {type_name} that {user} is {relation} of", ask, frozenset(names))


def _list_users(
    fields: dict[str, Any], relation: str, wanted: object, context: dict[str, Any], where: str
) -> Iterator[Assertion]:
    object_ = _text(fields["object"], where)
    filters = []
    for each in _list(fields["user_filter"], f"{where}.user_filter"):
        one = _mapping(each, f"{where}.user_filter", {"type", "relation"}, ("type",))
        filters.append(f"{one['type']}#{one['relation']}" if one.get("relation") else str(one["type"]))

    def ask(engine: Engine, tuples: Sequence[Tuple]) -> object:
        return engine.list_users(object_, relation, filters, contextual=tuples, context=context)

    users = _mapping(wanted or {}, f"{where}.assertions.{relation}", {"users"})
    names = _list(users.get("users") or [], f"{where}.assertions.{relation}.users")
    yield Assertion(f"every {', '.join(filters)} that is {relation} of {object_}", ask, frozenset(names))
