"""The policy folder: read and checked as a whole, or refused as a whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from proxy.identity.principal import Principal
from proxy.policy.embedded import parse_model
from proxy.policy.embedded.errors import PolicyError
from proxy.policy.embedded.evaluate import Engine
from proxy.policy.embedded.tuples import ConditionRef, Tuple

MODEL, TUPLES, CLASSES = "model.fga", "tuples.yaml", "classes.yaml"
LOCAL = "local"
"""The alias of the built-in issuer."""
FILES = (MODEL, TUPLES, CLASSES)


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
    may change, ascending; `groups`: those that tuples name."""

    version: str
    engine: Engine
    tuples: tuple[Tuple, ...]
    classes: Mapping[str, ClassInfo]
    groups: frozenset[str]
    denying: frozenset[str]
    boundaries: tuple[int, ...]

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


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of the folder does; cheap enough to ask every second."""
    found = []
    for name in FILES:
        try:
            stat = (folder / name).stat()
        except FileNotFoundError:
            continue
        found.append((name, stat.st_mtime_ns ^ stat.st_ino, stat.st_size))
    return tuple(found)


def load(folder: Path) -> Policy:
    """The policy of a folder. Raises `InvalidPolicy` with everything that is wrong."""
    texts, problems = {}, []
    for name in FILES:
        try:
            texts[name] = (folder / name).read_text()
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(f"{name}: {exc}")
    if problems:
        raise InvalidPolicy(problems)
    return parse(texts)


def parse(texts: Mapping[str, str]) -> Policy:
    """The policy that the files' texts make. Raises `InvalidPolicy`."""
    problems: list[str] = []
    tuples: tuple[Tuple, ...] = ()
    classes: Mapping[str, ClassInfo] = {}
    try:
        tuples = read_tuples(texts[TUPLES])
    except InvalidPolicy as exc:
        problems += exc.problems
    try:
        classes = read_classes(texts[CLASSES])
    except InvalidPolicy as exc:
        problems += exc.problems
    try:
        model = parse_model(texts[MODEL])
        engine = Engine(model, tuples)
    except PolicyError as exc:
        problems.append(f"{MODEL}: {exc}")
    if problems:
        raise InvalidPolicy(problems)
    digest = hashlib.sha256("\0".join(texts[name] for name in FILES).encode()).hexdigest()
    groups = {t.object for t in tuples} | {t.user.partition("#")[0] for t in tuples}
    return Policy(
        version=digest[:16],
        engine=engine,
        tuples=tuples,
        classes=classes,
        groups=frozenset(g.partition(":")[2] for g in groups if g.startswith("group:")),
        denying=frozenset(t.object.partition(":")[2] for t in tuples if t.relation == "denied"),
        boundaries=_boundaries(tuples),
    )


def read_tuples(text: str) -> tuple[Tuple, ...]:
    """The tuples of `tuples.yaml`. Raises `InvalidPolicy`."""
    entries = _yaml(TUPLES, text) or []
    if not isinstance(entries, list):
        raise InvalidPolicy([f"{TUPLES}: must be a list of tuples"])
    found, problems = [], []
    for entry in entries:
        where = f"{TUPLES}: line {entry.lc.line + 1}" if hasattr(entry, "lc") else TUPLES
        names = set(entry) if isinstance(entry, dict) else set()
        if not {"user", "relation", "object"} <= names <= {"user", "relation", "object", "condition"}:
            problems.append(f"{where}: an entry has user, relation, object, and perhaps condition")
            continue
        found.append(_tuple(entry))
    if problems:
        raise InvalidPolicy(problems)
    return tuple(found)


def _tuple(entry: Mapping[str, Any]) -> Tuple:
    condition = entry.get("condition")
    ref = ConditionRef(condition["name"], dict(condition.get("context") or {})) if condition else None
    return Tuple(str(entry["user"]), str(entry["relation"]), str(entry["object"]), ref)


def read_classes(text: str) -> dict[str, ClassInfo]:
    """The classes of `classes.yaml`. Raises `InvalidPolicy`."""
    document = _yaml(CLASSES, text) or {}
    entries = document.get("classes") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise InvalidPolicy([f"{CLASSES}: must have `classes`, an object of classes"])
    found = {}
    for name, said in entries.items():
        said = said or {}
        default = said.get("default_for") or {}
        found[str(name)] = ClassInfo(
            label=str(said.get("label", name)),
            description=str(said.get("description", "")),
            default_clients=frozenset(default.get("clients") or ()),
            default_groups=frozenset(default.get("groups") or ()),
            key_prefixes=tuple(said.get("key_prefixes") or ()),
        )
    return found


def _yaml(name: str, text: str) -> Any:
    try:
        return YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as exc:
        line = f" line {exc.problem_mark.line + 1}:" if exc.problem_mark else ""
        raise InvalidPolicy([f"{name}:{line} {exc.problem}"]) from exc


def _boundaries(tuples: Iterable[Tuple]) -> tuple[int, ...]:
    """The times that the tuples' conditions name, in Unix seconds."""
    found = set()
    for each in tuples:
        for value in each.condition.context.values() if each.condition else ():
            if isinstance(value, str):
                try:
                    found.add(int(datetime.fromisoformat(value).timestamp()))
                except ValueError:
                    continue
    return tuple(sorted(found))
