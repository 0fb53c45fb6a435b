"""Relationship tuples: what may be one, and an immutable index of many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.policy.embedded.errors import InvalidTuple
from proxy.policy.embedded.model import Model, This, leaves

MAX_OBJECT_CHARS = 256
MAX_USER_CHARS = 512

# No blanks and no control characters, in no part.
_CLEAN = r"\s\x00-\x1f\x7f-\x9f"
_OBJECT = re.compile(rf"[^{_CLEAN}:#]+:[^{_CLEAN}:#]+")
_USER = re.compile(rf"([^{_CLEAN}:#]+):([^{_CLEAN}:#]+)(?:#([^{_CLEAN}:#@*]+))?")
_OBJECT_ID = re.compile(rf"[^{_CLEAN}:#*][^{_CLEAN}:#]*")


@dataclass(frozen=True, slots=True)
class ConditionRef:
    """A tuple's condition: its name, and the values that the tuple fixes (they win over the request's)."""

    name: str
    context: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Tuple:
    """`user` has `relation` to `object`. User: `type:id`, `type:*` or `type:id#relation`."""

    user: str
    relation: str
    object: str
    condition: ConditionRef | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same tuple: its condition does not."""
        return self.object, self.relation, self.user

    def __str__(self) -> str:
        with_condition = f" with {self.condition.name}" if self.condition else ""
        return f"({self.user}, {self.relation}, {self.object}{with_condition})"


def is_object_id(text: str) -> bool:
    """Whether OpenFGA's server takes this as the id of an object: no blank, `:` or `#`, no leading `*`.

    Percent signs pass, so percent-encoded principals are legal ids (the editor's linter is narrower).
    """
    return _OBJECT_ID.fullmatch(text) is not None


def is_object(text: str) -> bool:
    """Whether it is one object, `type:id`; `type:*` is none."""
    return len(text) <= MAX_OBJECT_CHARS and bool(_OBJECT.fullmatch(text)) and not text.endswith(":*")


def is_user(text: str) -> bool:
    """Whether it is `type:id`, `type:*` or `type:id#relation`; `type:*#relation` is none."""
    if len(text) > MAX_USER_CHARS:
        return False
    found = _USER.fullmatch(text)
    return found is not None and not ("*" in found[2] and found[3])


def type_of(name: str) -> str:
    """The type of an object or a user."""
    return name.partition(":")[0]


def check_tuple(model: Model, tuple_: Tuple) -> None:
    """Raise `InvalidTuple` unless the model allows it: its type restrictions, its condition's name."""
    if not is_object(tuple_.object):
        raise InvalidTuple(f"{tuple_}: not an object: {tuple_.object!r}")
    if not is_user(tuple_.user):
        raise InvalidTuple(f"{tuple_}: not a user: {tuple_.user!r}")
    if tuple_.user == f"{tuple_.object}#{tuple_.relation}":
        raise InvalidTuple(f"{tuple_}: it is so without a tuple")
    type_name = type_of(tuple_.object)
    if type_name not in model.by_name:
        raise InvalidTuple(f"{tuple_}: the model has no type '{type_name}'")
    relation = model.relation(type_name, tuple_.relation)
    if relation is None:
        raise InvalidTuple(f"{tuple_}: type '{type_name}' has no relation '{tuple_.relation}'")
    if not any(isinstance(leaf, This) for leaf in leaves(relation.rewrite)):
        raise InvalidTuple(f"{tuple_}: '{tuple_.relation}' of '{type_name}' is computed, it takes no tuples")
    name, _, userset = tuple_.user.partition("#")
    wildcard = name.endswith(":*")
    fitting = [
        restriction
        for restriction in relation.restrictions
        if restriction.type == type_of(name)
        and restriction.wildcard == wildcard
        and restriction.relation == (userset or None)
    ]
    condition = tuple_.condition.name if tuple_.condition else None
    if not fitting:
        allowed = ", ".join(str(restriction) for restriction in relation.restrictions)
        raise InvalidTuple(f"{tuple_}: '{tuple_.relation}' of '{type_name}' takes only [{allowed}]")
    if all(restriction.condition != condition for restriction in fitting):
        allowed = ", ".join(str(restriction) for restriction in fitting)
        raise InvalidTuple(f"{tuple_}: its condition does not fit [{allowed}]")


class Tuples:
    """An immutable index of tuples. Every tuple given must fit the model (`check_tuple`)."""

    def __init__(self, tuples: Iterable[Tuple]) -> None:
        self.by_key: dict[tuple[str, str, str], Tuple] = {each.key: each for each in tuples}
        # Per object and relation: users, and apart from them the usersets, which alone lead on.
        self.users: dict[tuple[str, str], list[Tuple]] = {}
        self.usersets: dict[tuple[str, str], list[Tuple]] = {}
        # Per user, relation and type of object, for the way back from a user to its objects.
        self.grants: dict[tuple[str, str, str], list[Tuple]] = {}
        self.objects: dict[str, set[str]] = {}
        for each in self.by_key.values():
            index = self.usersets if "#" in each.user else self.users
            index.setdefault((each.object, each.relation), []).append(each)
            type_name = type_of(each.object)
            self.grants.setdefault((each.user, each.relation, type_name), []).append(each)
            self.objects.setdefault(type_name, set()).add(each.object)

    def __len__(self) -> int:
        return len(self.by_key)


class View:
    """The stored tuples with contextual ones laid over: one of the same key replaces the stored one."""

    def __init__(self, stored: Tuples, contextual: Tuples | None = None) -> None:
        self._stored = stored
        self._over = contextual if contextual is not None and len(contextual) else None

    def get(self, object_: str, relation: str, user: str) -> Tuple | None:
        """The tuple of this key, if there is one."""
        key = (object_, relation, user)
        if self._over is not None and key in self._over.by_key:
            return self._over.by_key[key]
        return self._stored.by_key.get(key)

    def users(self, object_: str, relation: str) -> Iterable[Tuple]:
        """The tuples that name a user, an object or a wildcard."""
        stored = self._stored.users.get((object_, relation), ())
        over = None if self._over is None else self._over.users.get((object_, relation))
        return self._merge(stored, over) if over else stored

    def usersets(self, object_: str, relation: str) -> Iterable[Tuple]:
        """The tuples that name a userset."""
        stored = self._stored.usersets.get((object_, relation), ())
        over = None if self._over is None else self._over.usersets.get((object_, relation))
        return self._merge(stored, over) if over else stored

    def grants(self, user: str, relation: str, type_name: str) -> Iterable[Tuple]:
        """The tuples by which a user, spelled exactly so, has the relation to objects of the type."""
        stored = self._stored.grants.get((user, relation, type_name), ())
        over = None if self._over is None else self._over.grants.get((user, relation, type_name))
        return self._merge(stored, over) if over else stored

    def objects(self, type_name: str) -> frozenset[str]:
        """Every object of the type that a tuple is about."""
        over = self._over.objects.get(type_name, ()) if self._over is not None else ()
        return frozenset(self._stored.objects.get(type_name, ())).union(over)

    def _merge(self, stored: Iterable[Tuple], over: Iterable[Tuple]) -> Iterator[Tuple]:
        # Tuples of one key are always found under the same entry of an index: those of other entries replace
        # nothing here.
        assert self._over is not None
        replaced = self._over.by_key
        for each in stored:
            if each.key not in replaced:
                yield each
        yield from over
