"""Writes: which facts each needs, and what they allow. Pure; `decide.py` has the rules themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy import body as bodies
from proxy.body import AUTH_CLASSES, Use
from proxy.decide import (
    Caller,
    Refused,
    Verdict,
    backend_verdict,
    change_classes,
    initial_classes,
    instance_verdict,
    judge,
    may_create_source,
)
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.redact import merged
from proxy.rules import Action, Check, Rule, Target
from proxy.upstream.protocol import BackendFact, Expect, Known, ObjectFact, Ref

UNKNOWN_OBJECT = "The object does not exist, or is not available to this flow."
NO_SUCH_MEMBER = "A member of `flow_collection` does not exist."
Classes = frozenset[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A write as it was asked for. `document` is the parsed body, or the error that parsing it gave: it
    is raised only once the caller is known to be allowed to get that far."""

    rule: Rule
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    document: object | BadRequest = None

    @property
    def target(self) -> Ref:
        """The resource that the path names."""
        return (self.rule.target.value, self.params[self.rule.param])

    def parsed(self) -> object:
        """The body. Raises what parsing it raised."""
        if isinstance(self.document, BadRequest):
            raise self.document
        return self.document


@dataclass(frozen=True, slots=True)
class Authorised:
    """What may be forwarded, and on what that rests. `refused`: segments taken out, by their place."""

    body: bytes
    expect: Expect
    refused: Mapping[int, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """All that a write is decided on. `denying`: the classes that deny anyone."""

    caller: Caller
    known: Known
    denying: Classes
    backends: Sequence[BackendFact]


def refs_of(asked: Asked) -> tuple[list[Ref], list[str]]:
    """The resources and the objects to look up before deciding."""
    rule = asked.rule
    if rule.target is Target.OBJECT:
        return [], [asked.params[rule.param]]
    refs: list[Ref] = [] if rule.target in (Target.ADMIN, Target.NOTHING) else [asked.target]
    document = asked.document
    if rule.check is Check.SEGMENTS and isinstance(document, list | dict):
        return refs, _object_ids(document)
    if rule.check is Check.PUT_FLOW and isinstance(document, dict):
        for kind, name in (("source", "source_id"), ("profile", "profile_id")):
            if isinstance(document.get(name), str) and document[name]:
                refs.append((kind, document[name]))
        refs += _flow_refs(document.get("flow_collection"))
    if rule.check is Check.COLLECTION:
        refs += _flow_refs(document)
    return refs, []


def _object_ids(document: list[Any] | dict[str, Any]) -> list[str]:
    items = document if isinstance(document, list) else [document]
    named = (
        item.get(name) for item in items if isinstance(item, dict) for name in ("object_id", "init_object_id")
    )
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _flow_refs(items: object) -> list[Ref]:
    if not isinstance(items, list):
        return []
    return [("flow", i["id"]) for i in items if isinstance(i, dict) and isinstance(i.get("id"), str)]


def later_refs(asked: Asked, known: Known) -> list[Ref]:
    """What the first facts show to be needed too: the present members of a collection to be replaced, the
    flows that an object belongs to."""
    if asked.rule.target is Target.OBJECT:
        return [("flow", flow) for fact in known.objects.values() for flow in fact.flow_ids]
    if asked.rule.check not in (Check.PUT_FLOW, Check.COLLECTION):
        return []
    present = _flow_refs(known.collections.get(asked.params[asked.rule.param]))
    return [ref for ref in present if ref not in known.classes]


def authorise(asked: Asked, ground: Ground) -> Authorised:
    """What of a write may be forwarded.

    Raises `NotFound` for a target that is absent or hidden, `Forbidden`, and `BadRequest` for a body that
    names what the caller cannot see.
    """
    if asked.rule.target is Target.ADMIN:
        if not ground.caller.admin:
            raise Forbidden("This is for administrators.")
        return Authorised(asked.body, Expect())
    if asked.rule.target is Target.OBJECT:
        return _instance(asked, ground)
    classes = ground.known.classes.get(asked.target)
    if asked.rule.check is Check.PUT_FLOW and classes is None:
        return _new_flow(asked, ground)
    enforce(judge(ground.caller, asked.rule.action, classes), asked.rule.target)
    assert classes is not None
    check = _CHECKS.get(asked.rule.check)
    if check is None:
        return Authorised(asked.body, Expect({asked.target: classes}))
    return check(asked, ground, classes)


def enforce(verdict: Verdict, target: Target) -> None:
    """Raise what a verdict means to the caller."""
    if verdict is Verdict.HIDE:
        raise NotFound(f"No such {target.value}.")
    if verdict is Verdict.FORBID:
        raise Forbidden(f"Your permissions on this {target.value} do not reach that far.")


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise Forbidden(reason)


def _tag(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    if asked.params["name"] == AUTH_CLASSES:
        # A DELETE removes the tag whatever body comes with it.
        deleting = asked.rule.operation.startswith("DELETE")
        after = frozenset[str]() if deleting else bodies.classes_in(asked.parsed())
        _refuse(change_classes(ground.caller, classes, after, ground.denying))
    return Authorised(asked.body, Expect({asked.target: classes}))


def _put_flow(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """PUT of a flow that exists (A6, A8-A10)."""
    document = bodies.document_of(asked.parsed())
    flow_id = asked.target[1]
    expected: dict[Ref, Classes | None] = {asked.target: classes}
    given = bodies.given_classes(document)
    after = classes if given is None else given
    _refuse(change_classes(ground.caller, classes, after, ground.denying))
    if given is None and classes:
        document = bodies.with_classes(document, classes)
    if document.get("source_id") != ground.known.source_ids.get(flow_id):
        expected |= _join_source(document, ground)
    expected |= _profile(document, ground)
    document, more, members = _with_collection(flow_id, document, ground)
    return Authorised(orjson.dumps(document), Expect({**expected, **more}, members))


def _new_flow(asked: Asked, ground: Ground) -> Authorised:
    """PUT of a flow that does not exist (A7, A8, A10)."""
    document = bodies.document_of(asked.parsed())
    expected: dict[Ref, Classes | None] = {asked.target: None, **_join_source(document, ground)}
    given = bodies.given_classes(document)
    classes = initial_classes(ground.caller, given or frozenset())
    if isinstance(classes, Refused):
        raise Forbidden(classes.reason)
    if classes:
        document = bodies.with_classes(document, classes)
    expected |= _profile(document, ground)
    document, more, members = _with_collection(asked.target[1], document, ground)
    return Authorised(orjson.dumps(document), Expect({**expected, **more}, members))


def _join_source(document: Mapping[str, Any], ground: Ground) -> dict[Ref, Classes | None]:
    """A flow comes to a source: write on it, or the right to make one (A8)."""
    source_id = document.get("source_id")
    if not isinstance(source_id, str):
        raise BadRequest("`source_id` is missing.")
    ref: Ref = ("source", source_id)
    classes = ground.known.classes.get(ref)
    if classes is not None:
        enforce(judge(ground.caller, Action.WRITE, classes), Target.SOURCE)
    elif not may_create_source(ground.caller):
        raise Forbidden("You may not create sources.")
    return {ref: classes}


def _profile(document: Mapping[str, Any], ground: Ground) -> dict[Ref, Classes | None]:
    """A profile that is used must be readable; an untagged one is everybody's."""
    profile_id = document.get("profile_id")
    if not isinstance(profile_id, str) or not profile_id:
        return {}
    ref: Ref = ("profile", profile_id)
    classes = ground.known.classes.get(ref)
    if classes is None or (classes and not ground.caller.may(Action.READ, classes)):
        raise BadRequest("`profile_id` names no profile.")
    return {ref: classes}


def _with_collection(
    flow_id: str, document: dict[str, Any], ground: Ground
) -> tuple[dict[str, Any], dict[Ref, Classes | None], dict[str, tuple[str, ...]]]:
    """The document with hidden members put back, and what that rests on (A10)."""
    current = ground.known.collections.get(flow_id, [])
    if "flow_collection" not in document and not current:
        return document, {}, {}
    asked = bodies.members_of(document.get("flow_collection", []))
    items, expected, members = _collected(flow_id, asked, current, ground)
    if not items:
        return (
            {name: value for name, value in document.items() if name != "flow_collection"},
            expected,
            members,
        )
    return {**document, "flow_collection": items}, expected, members


def _collected(
    flow_id: str, asked: list[dict[str, Any]], current: list[dict[str, Any]], ground: Ground
) -> tuple[list[dict[str, Any]], dict[Ref, Classes | None], dict[str, tuple[str, ...]]]:
    """A collection as it is to be. Raises `BadRequest` for a member that the caller cannot read."""
    may, known = ground.caller.may, ground.known.classes
    expected: dict[Ref, Classes | None] = {}
    for item in asked:
        ref: Ref = ("flow", item["id"])
        classes = known.get(ref)
        if classes is None or not may(Action.READ, classes):
            raise BadRequest(NO_SUCH_MEMBER)
        expected[ref] = classes
    hidden = frozenset(
        item["id"] for item in current if not may(Action.READ, known.get(("flow", item["id"]), frozenset()))
    )
    members = {flow_id: tuple(item["id"] for item in current)} if current else {}
    return merged(asked, current, hidden), expected, members


def _collection(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    flow_id, target = asked.target[1], {asked.target: classes}
    current = ground.known.collections.get(flow_id, [])
    if asked.rule.operation.startswith("DELETE"):
        _, _, members = _collected(flow_id, [], current, ground)
        if merged([], current, _hidden(current, ground)):
            raise Forbidden("The collection holds flows that you may not see; it cannot be deleted.")
        return Authorised(asked.body, Expect(target, members))
    items, expected, members = _collected(flow_id, bodies.members_of(asked.parsed()), current, ground)
    return Authorised(orjson.dumps(items), Expect({**target, **expected}, members))


def _hidden(current: Iterable[Mapping[str, Any]], ground: Ground) -> Classes:
    may, known = ground.caller.may, ground.known.classes
    return frozenset(
        i["id"] for i in current if not may(Action.READ, known.get(("flow", i["id"]), frozenset()))
    )


def _segments(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """Every object is new and this flow's, or readable, or unknown and brought with its URLs."""
    target: dict[Ref, Classes | None] = {asked.target: classes}
    if ground.caller.admin:
        return Authorised(asked.body, Expect(target))
    document = asked.parsed()
    refused: dict[int, Use] = {}
    references: set[tuple[str, str]] = set()
    unknown: set[str] = set()
    for place, use in enumerate(bodies.uses_of(document)):
        for name, brings in ((use.object_id, use.brings_urls), (use.init_object_id, False)):
            if name is None:
                continue
            fact = ground.known.objects.get(name)
            if not _usable(fact, asked.target[1], brings):
                refused[place] = use
            elif fact is None:
                unknown.add(name)
            elif fact.role != "unused" and fact.witness is not None:
                references.add((name, fact.witness))
                target[("flow", fact.witness)] = fact.witness_classes
    body = asked.body
    if refused and isinstance(document, list):
        body = orjson.dumps([item for place, item in enumerate(document) if place not in refused])
    return Authorised(body, Expect(target, {}, frozenset(references), frozenset(unknown)), refused)


def _usable(fact: ObjectFact | None, flow_id: str, brings_urls: bool) -> bool:
    if fact is None:
        return brings_urls
    if fact.role == "unused":
        return fact.flow_id == flow_id
    return fact.witness is not None


def _storage(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    storage_id = bodies.document_of(asked.parsed()).get("storage_id") if asked.body else None
    _check_backend(storage_id, ground)
    return Authorised(asked.body, Expect({asked.target: classes}))


def _check_backend(storage_id: object, ground: Ground) -> None:
    """Write on the backend that is named, else on the default one: hidden 400, visible 403."""
    for backend in ground.backends:
        if backend.id == storage_id or (storage_id is None and backend.default):
            verdict = backend_verdict(ground.caller, Action.WRITE, backend.classes)
            if verdict is Verdict.FORBID:
                raise Forbidden("You may not write to this storage backend.")
            if verdict is Verdict.ALLOW:
                return
    if storage_id is None:
        raise BadRequest("No storage backend is the default: name one by `storage_id`.")
    raise BadRequest("`storage_id` names no storage backend.")


def _instance(asked: Asked, ground: Ground) -> Authorised:
    object_id = asked.params[asked.rule.param]
    fact = ground.known.objects.get(object_id)
    known = fact is not None and fact.role != "unused"
    owners = {f: ground.known.classes[("flow", f)] for f in (fact.flow_ids if fact else ())}
    readable = fact is not None and fact.witness is not None
    verdict = instance_verdict(ground.caller, owners.values(), readable=readable, known=known)
    enforce(verdict, Target.OBJECT)
    storage_id: object = asked.query.get("storage_id")
    if asked.rule.operation.startswith("POST"):
        storage_id = bodies.document_of(asked.parsed()).get("storage_id")
    if storage_id is not None:
        _check_backend(storage_id, ground)
    classes: dict[Ref, Classes | None] = {("flow", name): held for name, held in owners.items()}
    references = frozenset((object_id, name) for name in owners)
    return Authorised(asked.body, Expect(classes, {}, references))


_Check = Callable[[Asked, Ground, Classes], Authorised]
_CHECKS: dict[Check, _Check] = {
    Check.PUT_FLOW: _put_flow,
    Check.TAG: _tag,
    Check.COLLECTION: _collection,
    Check.SEGMENTS: _segments,
    Check.STORAGE: _storage,
}
