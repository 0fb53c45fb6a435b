"""On any model: the lists are what checks say, checks are what an evaluator without any memory says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.embedded import ConditionFailed, ConditionRef, Engine, PolicyError, Tuple
from proxy.policy.embedded.model import (
    Computed,
    Condition,
    Exclusion,
    Intersection,
    Model,
    ParameterType,
    Relation,
    Rewrite,
    This,
    TupleToUserset,
    TypeDefinition,
    TypeRestriction,
    Union,
    leaves,
)
from proxy.policy.embedded.shape import Shape

TYPES = ("group", "doc")
RELATIONS = ("a", "b", "c")
USERS = ("user:1", "user:2", "user:*")
OBJECTS = tuple(f"{name}:{number}" for name in TYPES for number in (1, 2, 3))
USERSETS = tuple(f"{each}#{relation}" for each in OBJECTS for relation in RELATIONS)
CONDITION = Condition("positive", {"x": ParameterType("int")}, "x > 0")


def rewrites(relations: tuple[str, ...], beneath: tuple[str, ...]) -> st.SearchStrategy[Rewrite]:
    """Rewrites over the relations; what an exclusion takes away is over those beneath, if there are any."""
    leaf = st.one_of(
        st.just(This()),
        st.just(This()),
        st.sampled_from(relations).map(Computed),
        st.sampled_from(relations).map(lambda relation: TupleToUserset("parent", relation)),
    )
    taken = [st.sampled_from(beneath).map(Computed)] if beneath else []
    taken += [st.sampled_from(beneath).map(lambda each: TupleToUserset("parent", each))] if beneath else []

    def larger(inner: st.SearchStrategy[Rewrite]) -> st.SearchStrategy[Rewrite]:
        exclusions = [st.tuples(inner, each).map(lambda parts: Exclusion(*parts)) for each in taken]
        return st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Union(tuple(parts))),
            st.lists(inner, min_size=2, max_size=2).map(lambda parts: Intersection(tuple(parts))),
            *exclusions,
        )

    return st.recursive(leaf, larger, max_leaves=4)


def restrictions(relations: tuple[str, ...]) -> tuple[TypeRestriction, ...]:
    return tuple(
        restriction
        for condition in (None, "positive")
        for restriction in (
            TypeRestriction("user", condition=condition),
            TypeRestriction("user", wildcard=True, condition=condition),
            *(TypeRestriction(name, each, condition=condition) for name in TYPES for each in relations),
        )
    )


PARENTS = tuple(
    TypeRestriction(name, condition=condition) for condition in (None, "positive") for name in TYPES
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Layered: a relation leans on itself and those before it, and excludes those before it. Or free."""
    layered = draw(st.sampled_from((True, True, False)))
    types = [TypeDefinition("user", {})]
    for name in TYPES:
        relations = {"parent": Relation("parent", This(), PARENTS)}
        for number, relation in enumerate(RELATIONS):
            own = RELATIONS[: number + 1] if layered else RELATIONS
            beneath = RELATIONS[:number] if layered else RELATIONS
            usersets = draw(st.sampled_from((own, own[:1], own[:-1], ())))
            relations[relation] = Relation(relation, draw(rewrites(own, beneath)), restrictions(usersets))
        types.append(TypeDefinition(name, relations))
    return Model("1.1", tuple(types), {CONDITION.name: CONDITION})


def possible(model: Model) -> list[tuple[str, str, str]]:
    """Users, relations and objects of all tuples that the model allows."""
    found = [(user, "parent", object_) for object_ in OBJECTS for user in OBJECTS]
    for object_ in OBJECTS:
        for relation in RELATIONS:
            declared = model.relation(object_.partition(":")[0], relation)
            assert declared is not None
            if not any(isinstance(each, This) for each in leaves(declared.rewrite)):
                continue
            # Users more than once: most tuples of a real store name one.
            found += [(user, relation, object_) for user in (*USERS, *USERS, *USERS)]
            held = {(each.type, each.relation) for each in declared.restrictions if each.relation}
            found += [
                (f"{each}#{other}", relation, object_)
                for each in OBJECTS
                for name, other in sorted(held)
                if each.startswith(name) and (each, other) != (object_, relation)
            ]
    return found


conditions = st.sampled_from(
    (
        None,
        None,
        None,
        ConditionRef("positive"),
        ConditionRef("positive", {"x": 1}),
        ConditionRef("positive", {"x": 0}),
    )
)


def tuples(model: Model, least: int, most: int) -> st.SearchStrategy[list[Tuple]]:
    each = st.tuples(st.sampled_from(possible(model)), conditions).map(lambda pair: Tuple(*pair[0], pair[1]))
    return st.lists(each, min_size=least, max_size=most, unique_by=lambda tuple_: tuple_.key)


def overlays(model: Model, stored: list[Tuple]) -> st.SearchStrategy[list[Tuple]]:
    """Contextual tuples: new ones, and stored ones under another condition."""
    changed = st.tuples(st.sampled_from(stored), conditions).map(
        lambda pair: replace(pair[0], condition=pair[1])
    )
    some = st.lists(changed, max_size=4, unique_by=lambda tuple_: tuple_.key)
    return st.one_of(tuples(model, 0, 3), some)


@st.composite
def whole(draw: st.DrawFn) -> tuple[Model, list[Tuple], list[Tuple]]:
    model = draw(models())
    stored = draw(tuples(model, 12, 24))
    return model, stored, draw(overlays(model, stored))


worlds = whole()
contexts: st.SearchStrategy[Mapping[str, object]] = st.sampled_from(({}, {"x": 1}, {"x": 0}))
askers = st.sampled_from(USERS[:2]) | st.sampled_from((*USERS, *USERSETS))


def answer(
    engine: Engine,
    user: str,
    relation: str,
    object_: str,
    contextual: list[Tuple],
    context: Mapping[str, object],
) -> bool | None:
    """The check; None when it cannot be answered."""
    try:
        return engine.check(user, relation, object_, contextual=contextual, context=context)
    except ConditionFailed:
        return None


@settings(max_examples=150, deadline=None)
@given(worlds, askers, contexts)
def test_list_objects_is_all_that_checks_are_true_of(
    world: tuple[Model, list[Tuple], list[Tuple]], user: str, context: Mapping[str, object]
) -> None:
    model, stored, contextual = world
    engine = Engine(model, stored)
    question = engine.question(user, contextual=contextual, context=context)
    for name in TYPES:
        lists = {}
        for relation in RELATIONS:
            answers = {
                each: answer(engine, user, relation, each, contextual, context)
                for each in OBJECTS
                if each.startswith(name)
            }
            try:
                listed = engine.list_objects(user, relation, name, contextual=contextual, context=context)
            except ConditionFailed:
                assert None in answers.values()
            else:
                assert listed == {each for each, held in answers.items() if held}
                assert None not in answers.values()
                lists[relation] = listed
        assert question.objects(name, *lists) == tuple(lists.values())


@settings(max_examples=75, deadline=None)
@given(worlds, st.sampled_from(OBJECTS), st.sampled_from(RELATIONS), contexts)
def test_list_users_is_all_that_checks_are_true_of(
    world: tuple[Model, list[Tuple], list[Tuple]],
    object_: str,
    relation: str,
    context: Mapping[str, object],
) -> None:
    model, stored, contextual = world
    engine = Engine(model, stored)
    filters = ["user", *(f"{name}#{each}" for name in TYPES for each in RELATIONS)]
    try:
        listed = engine.list_users(object_, relation, filters, contextual=contextual, context=context)
    except ConditionFailed:
        return
    answers = {
        user: answer(engine, user, relation, object_, contextual, context) for user in (*USERS, *USERSETS)
    }
    assert all(answers[user] for user in listed)
    for user, held in answers.items():
        covered = user.startswith("user:") and "user:*" in listed
        if held and not covered:
            assert user in listed


def without_memory(
    model: Model,
    tuples_: Mapping[tuple[str, str, str], Tuple],
    context: Mapping[str, object],
    user: str,
    node: tuple[str, str],
    path: tuple[tuple[str, str], ...] = (),
) -> tuple[int, bool]:
    """The rules, as plainly as they can be put: 2 yes, 1 unknown, 0 no; and whether a no met a cycle."""
    object_, relation = node
    if user == f"{object_}#{relation}":
        return 2, False
    if node in path:
        return 0, True
    declared = model.relation(object_.partition(":")[0], relation)
    assert declared is not None

    def condition(each: Tuple) -> int:
        if each.condition is None:
            return 2
        values = {**context, **each.condition.context}
        return 1 if "x" not in values else 2 * (int(str(values["x"])) > 0)

    def hop(each: Tuple, beyond: tuple[str, str]) -> tuple[int, bool]:
        truth = condition(each)
        if truth == 0:
            return 0, False
        found, cycle = without_memory(model, tuples_, context, user, beyond, (*path, node))
        return min(truth, found), cycle

    def any_of(found: list[tuple[int, bool]]) -> tuple[int, bool]:
        best = max((truth for truth, _ in found), default=0)
        return best, best < 2 and any(cycle for _, cycle in found)

    def evaluate(rewrite: Rewrite) -> tuple[int, bool]:
        match rewrite:
            case This():
                found = []
                wildcard = "user:*" if user.startswith("user:") else None
                for each in tuples_.values():
                    if (each.object, each.relation) == node:
                        if each.user in (user, wildcard):
                            found.append((condition(each), False))
                        if "#" in each.user:
                            name, _, held = each.user.partition("#")
                            found.append(hop(each, (name, held)))
                return any_of(found)
            case Computed(other):
                return without_memory(model, tuples_, context, user, (object_, other), (*path, node))
            case TupleToUserset(tupleset, other):
                parents = [e for e in tuples_.values() if (e.object, e.relation) == (object_, tupleset)]
                return any_of([hop(each, (each.user, other)) for each in parents])
            case Union(children):
                return any_of([evaluate(child) for child in children])
            case Intersection(children):
                parts = [evaluate(child) for child in children]
                worst = min(truth for truth, _ in parts)
                return worst, worst == 0 and any(cycle for _, cycle in parts)
            case Exclusion(base, subtract):
                kept, kept_cycle = evaluate(base)
                taken, cycle = evaluate(subtract)
                if kept == 0 or cycle:
                    return 0, cycle or kept_cycle
                return min(kept, 2 - taken), False

    return evaluate(declared.rewrite)


@settings(max_examples=150, deadline=None)
@given(worlds, askers, st.sampled_from(OBJECTS), st.sampled_from(RELATIONS), contexts)
def test_a_check_is_what_the_plain_rules_say(
    world: tuple[Model, list[Tuple], list[Tuple]],
    user: str,
    object_: str,
    relation: str,
    context: Mapping[str, object],
) -> None:
    model, stored, contextual = world
    components = Shape(model).beneath([(object_.partition(":")[0], relation)])
    if not all(component.stratified for component in components):
        return  # an exclusion of itself: the rules give no one answer, whatever the order
    merged = {each.key: each for each in (*stored, *contextual)}
    truth, _ = without_memory(model, merged, context, user, (object_, relation))
    found = answer(Engine(model, stored), user, relation, object_, contextual, context)
    assert found is {2: True, 1: None, 0: False}[truth]


@settings(max_examples=75, deadline=None)
@given(worlds, askers, st.sampled_from(OBJECTS), st.sampled_from(RELATIONS), contexts)
def test_an_explanation_gives_the_answer_of_its_check_and_tuples_that_suffice(
    world: tuple[Model, list[Tuple], list[Tuple]],
    user: str,
    object_: str,
    relation: str,
    context: Mapping[str, object],
) -> None:
    model, stored, contextual = world
    engine = Engine(model, stored)
    explanation = engine.explain(user, relation, object_, contextual=contextual, context=context)
    assert explanation.allowed is answer(engine, user, relation, object_, contextual, context)
    known = {each.key for each in (*stored, *contextual)}
    assert {each.key for each in explanation.chain} <= known
    monotone = not any(
        isinstance(part, Exclusion)
        for definition in model.types
        for each in definition.relations.values()
        for part in parts_of(each.rewrite)
    )
    if explanation.allowed and monotone:
        assert Engine(model, explanation.chain).check(user, relation, object_, context=context)


def parts_of(rewrite: Rewrite) -> list[Rewrite]:
    match rewrite:
        case Union(children) | Intersection(children):
            return [rewrite, *(part for child in children for part in parts_of(child))]
        case Exclusion(base, subtract):
            return [rewrite, *parts_of(base), *parts_of(subtract)]
        case _:
            return [rewrite]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_names_are_answered_or_refused(user: str, relation: str, object_: str) -> None:
    model = Model("1.1", (TypeDefinition("user", {}),), {})
    engine = Engine(model, [])
    try:
        assert engine.check(user, relation, object_) is False
    except PolicyError as error:
        assert error.summary
