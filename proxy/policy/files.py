"""The policy folder: read and checked as a whole, or refused as a whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from proxy.identity.clients import Client, parse_clients
from proxy.identity.principal import Principal
from proxy.policy.embedded import parse_model
from proxy.policy.embedded.errors import ConditionFailed, InvalidModel, InvalidTuple, PolicyError
from proxy.policy.embedded.evaluate import Engine
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.store_file import read_tuples as tuples_of
from proxy.policy.embedded.tuples import Tuple, check_tuple
from proxy.policy.marked import Marked, NotYaml, read
from proxy.policy.slips import slips

MODEL, TUPLES, CLASSES, CLIENTS = "model.fga", "tuples.yaml", "classes.yaml", "clients.yaml"
LOCAL = "local"
"""The alias of the built-in issuer."""
FILES = (MODEL, TUPLES, CLASSES)
WATCHED = (*FILES, CLIENTS)

ASKED = {
    "auth_class": ("can_read", "can_write", "can_delete", "can_grant", "is_denied"),
    "service": ("can_administer", "can_create"),
    "group": ("member",),
}
"""What the proxy asks of a model, whatever else it defines."""

T = TypeVar("T")
_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CLASS_KEYS = {"label", "description", "default_for", "key_prefixes"}
_DEFAULT_KEYS = {"clients", "groups"}


class InvalidPolicy(Exception):
    """The folder is no policy. `problems`: each with its file, where known its line, and what is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """What `classes.yaml` says of a class."""

    label: str
    description: str
    default_clients: frozenset[str]
    default_groups: frozenset[str]
    key_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """One state of the folder. `version` names it; `boundaries`: Unix times at which a condition's answer
    may change, ascending; `groups`: those that tuples name; `warnings`: what is probably not meant."""

    version: str
    engine: Engine
    tuples: tuple[Tuple, ...]
    classes: Mapping[str, ClassInfo]
    groups: frozenset[str]
    denying: frozenset[str]
    boundaries: tuple[float, ...]
    warnings: tuple[str, ...] = ()

    def defaults(self, principal: Principal) -> frozenset[str]:
        """The classes of what a caller creates without naming any: its client's, else its groups'.

        Clients of the built-in issuer stand in `classes.yaml` by their id, others as `<alias>/<id>`: a
        foreign client that happens to have a known name is not that client.
        """
        local = principal.issuer == LOCAL
        client = principal.client if local else f"{principal.issuer}/{principal.client}"
        own = {name for name, info in self.classes.items() if client in info.default_clients}
        if own:
            return frozenset(own)
        held = principal.groups
        return frozenset(
            name for name, info in self.classes.items() if not held.isdisjoint(info.default_groups)
        )


Signature = tuple[tuple[str, int, int, int], ...]


def signature(folder: Path) -> Signature:
    """What changes when a file of the folder does, cheap enough to ask often: per file its name, time of
    change in ns, inode and size."""
    found = []
    for name in WATCHED:
        try:
            stat = (folder / name).stat()
        except OSError:
            continue
        found.append((name, stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return tuple(found)


def load(folder: Path) -> Policy:
    """The policy of a folder. Raises `InvalidPolicy` with everything that is wrong."""
    texts, problems = {}, []
    for name in WATCHED:
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            if name in FILES:
                problems.append(f"{name}: is not in {folder}; put it back")
        except OSError as exc:
            problems.append(f"{name}: cannot be read: {exc.strerror}")
        except UnicodeDecodeError as exc:
            problems.append(f"{name}: is not UTF-8: {exc.reason} at byte {exc.start}")
    if problems:
        raise InvalidPolicy(problems)
    return parse(texts)


def parse(texts: Mapping[str, str]) -> Policy:
    """The policy that the files' texts make; `clients.yaml` may be absent. Raises `InvalidPolicy`."""
    problems: list[str] = []
    model = _collect(problems, lambda: read_model(texts[MODEL]))
    placed = _collect(problems, lambda: read_placed(texts[TUPLES]))
    classes = _collect(problems, lambda: read_classes(texts[CLASSES]))
    clients = _collect(problems, lambda: _read_clients(texts.get(CLIENTS)))
    engine = None
    if model is not None and placed is not None:
        engine = _collect(problems, lambda: _engine(model, placed))
    if problems or engine is None or placed is None or classes is None or clients is None:
        raise InvalidPolicy(problems)
    tuples = tuple(each for _, each in placed)
    groups = groups_of(tuples)
    return Policy(
        version=version_of(texts),
        engine=engine,
        tuples=tuples,
        classes=classes,
        groups=groups,
        denying=denying_of(tuples),
        boundaries=tuple(moment.timestamp() for moment in engine.moments),
        warnings=tuple(slips(tuples, classes, clients, groups)),
    )


def version_of(texts: Mapping[str, str]) -> str:
    """The name of a state of the folder: its files' digest."""
    return hashlib.sha256("\0".join(texts[name] for name in FILES).encode()).hexdigest()[:16]


def time_context(now: float) -> dict[str, object]:
    """What conditions are told of the time, and all that they are told."""
    return {"current_time": datetime.fromtimestamp(now, UTC).isoformat()}


def groups_of(tuples: Iterable[Tuple]) -> frozenset[str]:
    """The groups that tuples name, on either side."""
    names = (name for t in tuples for name in (t.object, t.user.partition("#")[0]))
    return frozenset(name.partition(":")[2] for name in names if name.startswith("group:"))


def denying_of(tuples: Iterable[Tuple]) -> frozenset[str]:
    """The classes that deny anyone."""
    return frozenset(t.object.partition(":")[2] for t in tuples if t.relation == "denied")


def boundaries_of(tuples: Iterable[Tuple]) -> tuple[float, ...]:
    """The times that tuples' conditions name, in Unix seconds, ascending."""
    found = set()
    for each in tuples:
        for value in each.condition.context.values() if each.condition else ():
            try:
                moment = datetime.fromisoformat(value) if isinstance(value, str) else None
            except ValueError:
                continue
            if moment is not None and moment.tzinfo is not None:
                found.add(moment.timestamp())
    return tuple(sorted(found))


def read_model(text: str) -> Model:
    """The model of `model.fga`, which must define what the proxy asks for. Raises `InvalidPolicy`."""
    try:
        model = parse_model(text, MODEL)
    except InvalidModel as exc:
        raise InvalidPolicy(str(problem) for problem in exc.problems) from exc
    problems = [
        f"{MODEL}: type {kind} must define {relation}, which the proxy asks for"
        for kind, relations in ASKED.items()
        for relation in relations
        if model.relation(kind, relation) is None
    ]
    if problems:
        raise InvalidPolicy(problems)
    try:
        check_tuple(model, Tuple("user:local/anyone", "member", "group:any"))
    except InvalidTuple as exc:
        raise InvalidPolicy(
            [f"{MODEL}: member of group must take [user]: a token's groups are such"]
        ) from exc
    return model


def read_placed(text: str) -> list[tuple[int, Tuple]]:
    """The tuples of `tuples.yaml`, each with its line. Raises `InvalidPolicy`."""
    document = _yaml(TUPLES, text)
    if not isinstance(document.value, list | None):
        raise InvalidPolicy([f"{TUPLES}:{document.line}: must be a list of tuples (`- user: ...`)"])
    found, problems = [], []
    for entry in document.value or []:
        try:
            (read_one,) = tuples_of([entry.plain()])
        except PolicyError as exc:
            what = exc.summary.removeprefix("tuples[0]").lstrip(":. ")
            problems.append(
                f"{TUPLES}:{entry.line}: {what}; an entry has user, relation, object, and perhaps"
                " condition with name and context"
            )
            continue
        kind, _, name = read_one.object.partition(":")
        if kind == "auth_class" and not _CLASS.fullmatch(name):
            problems.append(f"{TUPLES}:{entry.line}: {_not_a_class(name)}")
        found.append((entry.line, read_one))
    if problems:
        raise InvalidPolicy(problems)
    return found


def read_classes(text: str) -> dict[str, ClassInfo]:
    """The classes of `classes.yaml`. Raises `InvalidPolicy`."""
    document = _yaml(CLASSES, text)
    problems: list[str] = []
    top = _fields(document, "the file", {"classes"}, problems)
    entries = top.get("classes")
    if entries is None or not isinstance(entries.value, dict | None):
        problems.append(f"{CLASSES}:{document.line}: must have `classes`, an object of classes")
        raise InvalidPolicy(problems)
    found = {}
    for name, entry in (entries.value or {}).items():
        if not _CLASS.fullmatch(name):
            problems.append(f"{CLASSES}:{entry.line}: {_not_a_class(name)}")
        found[name] = _class(name, entry, problems)
    if problems:
        raise InvalidPolicy(problems)
    return found


def _class(name: str, entry: Marked, problems: list[str]) -> ClassInfo:
    fields = _fields(entry, f"class {name}", _CLASS_KEYS, problems)
    default = fields.get("default_for", Marked(None, entry.line))
    defaults = _fields(default, f"default_for of class {name}", _DEFAULT_KEYS, problems)
    return ClassInfo(
        label=_text(fields, "label", name, problems),
        description=_text(fields, "description", "", problems),
        default_clients=frozenset(_texts(defaults, "clients", problems)),
        default_groups=frozenset(_texts(defaults, "groups", problems)),
        key_prefixes=_texts(fields, "key_prefixes", problems),
    )


def _fields(entry: Marked, what: str, known: set[str], problems: list[str]) -> dict[str, Marked]:
    if entry.value is None:
        return {}
    if not isinstance(entry.value, dict):
        problems.append(f"{CLASSES}:{entry.line}: {what} must be an object with {', '.join(sorted(known))}")
        return {}
    for key, value in entry.value.items():
        if key not in known:
            problems.append(
                f"{CLASSES}:{value.line}: {what} has the unknown key {key!r}; known are "
                + ", ".join(sorted(known))
            )
    return entry.value


def _text(fields: Mapping[str, Marked], key: str, default: str, problems: list[str]) -> str:
    given = fields.get(key)
    if given is None or given.value is None:
        return default
    if isinstance(given.value, list | dict):
        problems.append(f"{CLASSES}:{given.line}: `{key}` must be a text")
        return default
    return str(given.value)


def _texts(fields: Mapping[str, Marked], key: str, problems: list[str]) -> tuple[str, ...]:
    given = fields.get(key)
    if given is None or given.value is None:
        return ()
    values = given.plain()
    if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
        problems.append(f"{CLASSES}:{given.line}: `{key}` must be a list of texts")
        return ()
    return tuple(values)


def _read_clients(text: str | None) -> Mapping[str, Client]:
    try:
        return {} if text is None else parse_clients(text.encode())
    except ValueError as exc:
        raise InvalidPolicy([f"{CLIENTS}: {exc}"]) from exc


def _engine(model: Model, placed: list[tuple[int, Tuple]]) -> Engine:
    try:
        engine = Engine(model, [each for _, each in placed])
    except PolicyError as exc:
        raise InvalidPolicy(_misfits(model, placed) or [f"{MODEL}: {exc.summary}"]) from exc
    problems = list(_unanswerable(engine, placed))
    if problems:
        raise InvalidPolicy(problems)
    return engine


def _unanswerable(engine: Engine, placed: list[tuple[int, Tuple]]) -> Iterator[str]:
    """The tuples whose conditions ask for more than themselves and the time, which is all that they get:
    each would leave all whom it names without an answer."""
    told = time_context(0)
    for line, each in placed:
        try:
            engine.check_answerable(each, told)
        except ConditionFailed as exc:
            yield f"{TUPLES}:{line}: {each}: {exc.summary}; state it in the tuple's context"


def _misfits(model: Model, placed: list[tuple[int, Tuple]]) -> list[str]:
    """The tuples that do not fit, with their lines; only asked for when something does not."""
    problems = []
    seen: dict[tuple[str, str, str], tuple[int, Tuple]] = {}
    for line, each in placed:
        first_line, first = seen.setdefault(each.key, (line, each))
        if first != each:
            problems.append(
                f"{TUPLES}:{line}: {each} stands in line {first_line} with another condition; keep one"
            )
        try:
            check_tuple(model, each)
            if each.condition is not None:
                Engine(model, [each])
        except PolicyError as exc:
            problems.append(f"{TUPLES}:{line}: {exc.summary}")
    return problems


def check_class(name: str) -> str:
    """The name, which can be a class's. ValueError otherwise."""
    if not _CLASS.fullmatch(name):
        raise ValueError(_not_a_class(name))
    return name


def _not_a_class(name: str) -> str:
    return f"{name!r} cannot be a class; use 1 to 128 of A-Z a-z 0-9 _ . -"


def _yaml(name: str, text: str) -> Marked:
    try:
        return read(text)
    except NotYaml as exc:
        raise InvalidPolicy([f"{name}:{exc.line}: {exc}"]) from exc


def _collect(problems: list[str], make: Callable[[], T]) -> T | None:
    """What `make` makes; None, and its problems noted, where it is invalid."""
    try:
        return make()
    except InvalidPolicy as exc:
        problems += exc.problems
        return None
