"""The evaluator: checks and lists over one model and one set of tuples.

Semantics are OpenFGA's. Everything is pure and synchronous: no clock (a condition's time comes in through
`context`), no I/O, no state that an answer leaves behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property

from proxy.policy.embedded.conditions import Conditions
from proxy.policy.embedded.errors import (
    ConditionFailed,
    InvalidQuery,
    InvalidTuple,
    TooDeep,
    UnknownRelation,
    UnknownType,
)
from proxy.policy.embedded.explain import Explanation, explain
from proxy.policy.embedded.forward import Forward, Query, Truth
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.reverse import Reverse
from proxy.policy.embedded.shape import Shape
from proxy.policy.embedded.tuples import Tuple, Tuples, View, check_tuple, is_object, is_user, type_of
from proxy.policy.embedded.users import users_of

_NOTHING: Mapping[str, object] = {}


@contextmanager
def _bounded() -> Iterator[None]:
    """Hops are limited, steps within one object are not: a model may chain more than Python stacks."""
    try:
        yield
    except RecursionError as error:
        raise TooDeep("the model's definitions lie too deep in each other") from error


class Question:
    """One user in one set of circumstances of whom several things are asked; what they share is done once."""

    def __init__(self, engine: Engine, user: str, view: View, context: Mapping[str, object]) -> None:
        engine._check_user(user)
        self._engine = engine
        self._user = user
        self._view = view
        self._context = context

    def holds(self, relation: str, object: str) -> bool:
        """As `Engine.check`."""
        self._engine._check_object(object, relation)
        query = self._query()
        with _bounded():
            outcome = Forward(query).node(object, relation)
        if outcome.truth is Truth.UNKNOWN:
            raise query.failure or TooDeep("no answer")
        return outcome.truth is Truth.YES

    def objects(self, type: str, *relations: str) -> tuple[frozenset[str], ...]:
        """As `Engine.list_objects`, of each of the relations; what they lean on in common is built once."""
        for relation in relations:
            self._engine._check_relation(type, relation)
        query = self._query()
        reverse = Reverse(query, self._engine._shape)
        found = []
        for relation in relations:
            with _bounded():
                reach = reverse.objects(type, relation)
            if reach.unknown:
                raise query.failure or TooDeep("no answer")
            found.append(frozenset(reach.hops))
        return tuple(found)

    def explain(self, relation: str, object: str) -> Explanation:
        """As `Engine.explain`."""
        self._engine._check_object(object, relation)
        with _bounded():
            return explain(self._query(), object, relation)

    def _query(self) -> Query:
        return Query(self._engine.model, self._engine._conditions, self._view, self._user, self._context)


class Engine:
    """Answers questions about one model and its tuples. Immutable; may be shared between threads."""

    def __init__(self, model: Model, tuples: Iterable[Tuple], *, strict: bool = True) -> None:
        """Compile the model's conditions and index the tuples.

        Raises `InvalidModel` for a condition that does not compile. A tuple that does not fit the model
        raises `InvalidTuple`, as does one given twice with different conditions; not `strict`, it is left
        out, as a server leaves out tuples of an earlier model.
        """
        self.model = model
        self._conditions = Conditions(model)
        self._stored = Tuples(self._fitting(tuples, strict))

    def check(
        self,
        user: str,
        relation: str,
        object: str,
        *,
        contextual: Sequence[Tuple] = (),
        context: Mapping[str, object] = _NOTHING,
    ) -> bool:
        """Whether the user holds the relation to the object.

        Raises `InvalidQuery` for names the model does not know, `InvalidTuple` for contextual tuples that do
        not fit, `ConditionFailed` or `TooDeep` where the answer hangs on what cannot be known.
        """
        return self.question(user, contextual=contextual, context=context).holds(relation, object)

    def list_objects(
        self,
        user: str,
        relation: str,
        type: str,
        *,
        contextual: Sequence[Tuple] = (),
        context: Mapping[str, object] = _NOTHING,
    ) -> frozenset[str]:
        """All objects of the type, as `type:id`, of which `check` is true; never only some.

        Raises as `check`: one object whose answer cannot be known fails the list.
        """
        (found,) = self.question(user, contextual=contextual, context=context).objects(type, relation)
        return found

    def question(
        self, user: str, *, contextual: Sequence[Tuple] = (), context: Mapping[str, object] = _NOTHING
    ) -> Question:
        """What is to be asked several times of one user in the same circumstances. Raises as `check`."""
        return Question(self, user, self._view(contextual), context)

    def list_users(
        self,
        object: str,
        relation: str,
        user_filters: Sequence[str],
        *,
        contextual: Sequence[Tuple] = (),
        context: Mapping[str, object] = _NOTHING,
    ) -> frozenset[str]:
        """The users of the filters, each `type` or `type#relation`, of which `check` is true.

        `type:*` stands for all of a type; beside it only those are listed that tuples also name. Raises as
        `check`, and for any condition on the way that cannot be evaluated.
        """
        if not is_object(object):
            raise InvalidQuery(f"not an object: {object!r}")
        self._check_relation(type_of(object), relation)
        for each in user_filters:
            name, _, held = each.partition("#")
            if name not in self.model.by_name:
                raise UnknownType(f"the model has no type '{name}'")
            if held and self.model.relation(name, held) is None:
                raise UnknownRelation(f"type '{name}' has no relation '{held}'")
        view = self._view(contextual)
        with _bounded():
            return users_of(self.model, self._conditions, view, object, relation, user_filters, context)

    def explain(
        self,
        user: str,
        relation: str,
        object: str,
        *,
        contextual: Sequence[Tuple] = (),
        context: Mapping[str, object] = _NOTHING,
    ) -> Explanation:
        """Why `check` answers as it does: what grants, or what is missing. Raises for bad names only."""
        return self.question(user, contextual=contextual, context=context).explain(relation, object)

    def check_answerable(self, tuple_: Tuple, context: Mapping[str, object]) -> None:
        """Raise `ConditionFailed` where the tuple and questions of this context together leave a parameter
        of the tuple's condition out, or give one of another type."""
        if tuple_.condition is not None:
            self._conditions.bind(tuple_.condition, context)

    def has_ended(self, tuple_: Tuple, moment: datetime) -> bool:
        """Whether all timestamps of the tuple's condition lie behind a moment, at which it does not hold."""
        if tuple_.condition is None:
            return False
        stated = list(self._conditions.timestamps(tuple_.condition))
        if not stated or max(stated) > moment:
            return False
        try:
            return not self._conditions.holds(tuple_.condition, {"current_time": moment.isoformat()})
        except ConditionFailed:
            return False

    @cached_property
    def moments(self) -> tuple[datetime, ...]:
        """The timestamps that stored tuples' conditions carry, sorted: where answers may change with time.

        An answer taken at one moment holds until the next of these, unless a condition counts durations.
        """
        found: set[datetime] = set()
        for each in self._stored.by_key.values():
            if each.condition is not None:
                found.update(self._conditions.timestamps(each.condition))
        return tuple(sorted(found))

    @cached_property
    def _shape(self) -> Shape:
        return Shape(self.model)

    def _fitting(self, tuples: Iterable[Tuple], strict: bool) -> list[Tuple]:
        fitting: dict[tuple[str, str, str], Tuple] = {}
        for each in tuples:
            try:
                check_tuple(self.model, each)
                self._conditions.check_context(each)
                if fitting.setdefault(each.key, each) != each:
                    raise InvalidTuple(f"{each} is given twice, with different conditions")
            except InvalidTuple:
                if strict:
                    raise
        return list(fitting.values())

    def _view(self, contextual: Sequence[Tuple]) -> View:
        if not contextual:
            return View(self._stored)
        return View(self._stored, Tuples(self._fitting(contextual, strict=True)))

    def _check_user(self, user: str) -> None:
        if not is_user(user):
            raise InvalidQuery(f"not a user: {user!r}")
        name, _, held = user.partition("#")
        if type_of(name) not in self.model.by_name:
            raise InvalidQuery(f"the model has no type '{type_of(name)}' for {user!r}")
        if held and self.model.relation(type_of(name), held) is None:
            raise InvalidQuery(f"type '{type_of(name)}' has no relation '{held}' for {user!r}")

    def _check_object(self, object_: str, relation: str) -> None:
        if not is_object(object_):
            raise InvalidQuery(f"not an object: {object_!r}")
        self._check_relation(type_of(object_), relation)

    def _check_relation(self, type_name: str, relation: str) -> None:
        if type_name not in self.model.by_name:
            raise UnknownType(f"the model has no type '{type_name}'")
        if self.model.relation(type_name, relation) is None:
            raise UnknownRelation(f"type '{type_name}' has no relation '{relation}'")
