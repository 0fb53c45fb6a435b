"""Writes: what the facts allow of each. Pure; `decide.py` has the rules themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from proxy import body as bodies
from proxy import objects
from proxy.asked import Asked, Authorised, Classes, Expected, Ground, Spread, enforce, refuse
from proxy.body import AUTH_CLASSES
from proxy.decide import Refused, change_classes, initial_classes, judge, may_create_source
from proxy.errors import BadRequest, Forbidden
from proxy.redact import merged
from proxy.rules import Action, Check, Target
from proxy.upstream.protocol import Expect, Ref

NO_SUCH_MEMBER = "A member of `flow_collection` does not exist."
NO_SUCH_WATCHED = "A list of ids names something that does not exist."
NO_PROFILE = "`profile_id` names no profile."
Items = list[dict[str, Any]]


def authorise(asked: Asked, ground: Ground) -> Authorised:
    """What of a write may be forwarded.

    Raises `NotFound` for a target that is absent or hidden, `Forbidden`, and `BadRequest` for a body that
    names what the caller cannot see.
    """
    rule = asked.rule
    if rule.target is Target.OBJECT:
        return objects.instance(asked, ground)
    if rule.target is Target.ADMIN:
        refuse(None if ground.caller.admin else "This is for administrators.")
        return Authorised(asked.body, Expect())
    if rule.check is Check.NEW_WEBHOOK:
        return _new_webhook(asked, ground)
    if rule.check is Check.NEW_SOURCE:
        return _new_source(asked, ground)
    classes = ground.known.classes.get(asked.target)
    if rule.check is Check.NEW_PROFILE:
        return _new_profile(asked, ground)
    if rule.check is Check.PUT_FLOW and classes is None:
        return _new_flow(asked, ground)
    enforce(judge(ground.caller, rule.action, classes), rule.target)
    assert classes is not None
    check = _CHECKS.get(rule.check)
    if check is None:
        return Authorised(asked.body, Expect({asked.target: classes}))
    return check(asked, ground, classes)


def _tag(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    expect = Expect({asked.target: classes})
    if asked.params["name"] != AUTH_CLASSES:
        return Authorised(asked.body, expect)
    after = frozenset[str]() if asked.deletes else bodies.classes_in(asked.parsed())
    refuse(change_classes(ground.caller, classes, after, ground.denying))
    return Authorised(asked.body, expect, spreads=_changed(asked.target, classes, after))


def _changed(ref: Ref, before: Classes, after: Classes) -> tuple[Spread, ...]:
    return (Spread(ref, after - before, before - after, below=True),) if before != after else ()


def _put_flow(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """PUT of a flow that exists (A6, A8-A10)."""
    document, flow_id = bodies.document_of(asked.parsed()), asked.target[1]
    expected: Expected = {asked.target: classes}
    given = bodies.given_classes(document)
    after = classes if given is None else given
    refuse(change_classes(ground.caller, classes, after, ground.denying))
    if given is None and classes:
        document = bodies.with_classes(document, classes)
    spreads = _changed(asked.target, classes, after)
    if document.get("source_id") != ground.known.source_ids.get(flow_id):
        joined = _join_source(document, ground)
        expected |= joined
        spreads += _followers([asked.target], *joined.values())
    if document.get("profile_id") != ground.known.profile_ids.get(flow_id):
        expected |= _profile(document, ground)
    so_far = Authorised(b"", Expect(expected), spreads=spreads)
    return _with_collection(asked, ground, document, after, so_far)


def _new_flow(asked: Asked, ground: Ground) -> Authorised:
    """PUT of a flow that does not exist (A7, A8, A10)."""
    document = bodies.document_of(asked.parsed())
    joined = _join_source(document, ground)
    document, classes = _created(document, ground)
    expected = {asked.target: None, **joined, **_profile(document, ground)}
    spreads = _followers([asked.target], *joined.values())
    so_far = Authorised(b"", Expect(expected), spreads=spreads)
    return _with_collection(asked, ground, document, classes, so_far)


def _created(document: dict[str, Any], ground: Ground) -> tuple[dict[str, Any], Classes]:
    """Something new with the classes it is to have (A7)."""
    classes = initial_classes(ground.caller, bodies.given_classes(document) or frozenset())
    if isinstance(classes, Refused):
        raise Forbidden(classes.reason)
    return (bodies.with_classes(document, classes) if classes else document), classes


def _join_source(document: Mapping[str, Any], ground: Ground) -> Expected:
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


def _followers(refs: Sequence[Ref], classes: Classes | None) -> tuple[Spread, ...]:
    """Resources that are to have the classes of what they have joined."""
    return tuple(Spread(ref, classes) for ref in refs) if classes else ()


def _profile(document: Mapping[str, Any], ground: Ground) -> Expected:
    """A profile that is used must be readable; an untagged one is everybody's."""
    profile_id = document.get("profile_id")
    if not isinstance(profile_id, str) or not profile_id:
        return {}
    ref: Ref = ("profile", profile_id)
    classes = ground.known.classes.get(ref)
    if classes is None or (classes and not ground.caller.may(Action.READ, classes)):
        raise BadRequest(NO_PROFILE)
    return {ref: classes}


def _with_collection(
    asked: Asked, ground: Ground, document: dict[str, Any], classes: Classes, so_far: Authorised
) -> Authorised:
    """A PUT of a flow with the hidden members of its collection put back, and what that rests on (A10)."""
    wanted = bodies.members_of(document.get("flow_collection", []))
    items, more = _collected(asked.target[1], wanted, ground)
    if items:
        document = {**document, "flow_collection": items}
    elif "flow_collection" in document:
        document = {name: value for name, value in document.items() if name != "flow_collection"}
    expect = Expect({**more.classes, **so_far.expect.classes}, more.members)
    spreads = so_far.spreads + _joining(asked.target[1], wanted, classes, ground)
    return Authorised(orjson.dumps(document), expect, spreads=spreads)


def _joining(flow_id: str, wanted: Items, classes: Classes, ground: Ground) -> tuple[Spread, ...]:
    present = {item["id"] for item in ground.known.collections.get(flow_id, ())}
    return _followers([("flow", i["id"]) for i in wanted if i["id"] not in present], classes)


def _collected(flow_id: str, wanted: Items, ground: Ground) -> tuple[Items, Expect]:
    """A collection as it is to be, and what that rests on.

    Raises `BadRequest` for a member that the caller cannot read.
    """
    may, known = ground.caller.may, ground.known.classes
    current = ground.known.collections.get(flow_id, [])
    expected: Expected = {("flow", item["id"]): known.get(("flow", item["id"])) for item in current}
    hidden = frozenset(
        id for (_, id), classes in expected.items() if not may(Action.READ, classes or frozenset())
    )
    for item in wanted:
        ref: Ref = ("flow", item["id"])
        classes = known.get(ref)
        if classes is None or not may(Action.READ, classes):
            raise BadRequest(NO_SUCH_MEMBER)
        expected[ref] = classes
    members = {flow_id: tuple(item["id"] for item in current)}
    return merged(wanted, current, hidden), Expect(expected, members)


def _collection(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """PUT and DELETE of a flow's collection (A10)."""
    wanted = [] if asked.deletes else bodies.members_of(asked.parsed())
    items, rests = _collected(asked.target[1], wanted, ground)
    expect = Expect({**rests.classes, asked.target: classes}, rests.members)
    if not asked.deletes:
        spreads = _joining(asked.target[1], wanted, classes, ground)
        return Authorised(orjson.dumps(items), expect, spreads=spreads)
    refuse("The collection holds flows that you may not see; it cannot be deleted." if items else None)
    return Authorised(asked.body, expect)


def _new_profile(asked: Asked, ground: Ground) -> Authorised:
    """Administrators and creators; that the id is taken is for the store to say."""
    refuse(None if may_create_source(ground.caller) else "You may not create profiles.")
    given = bodies.given_classes(bodies.document_of(asked.parsed())) or frozenset()
    if not all(ground.caller.may_assign(name) for name in given):
        raise Forbidden("You may not put on every one of these classes.")
    return Authorised(asked.body, Expect())


def _new_source(asked: Asked, ground: Ground) -> Authorised:
    """As the source of a new flow (A7, A8), without the flow."""
    refuse(None if may_create_source(ground.caller) else "You may not create sources.")
    document, _ = _created(bodies.document_of(asked.parsed()), ground)
    source_id = document.get("id")
    if not isinstance(source_id, str):
        return Authorised(orjson.dumps(document), Expect())
    ref: Ref = ("source", source_id)
    if ref in ground.known.classes:
        raise BadRequest("`id` is that of a source already.")
    return Authorised(orjson.dumps(document), Expect({ref: None}))


def _put_source(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """All of its properties at once; its classes stay where the body says nothing of them."""
    document = bodies.document_of(asked.parsed())
    given = bodies.given_classes(document)
    after = classes if given is None else given
    refuse(change_classes(ground.caller, classes, after, ground.denying))
    if given is None and classes:
        document = bodies.with_classes(document, classes)
    spreads = _changed(asked.target, classes, after)
    return Authorised(orjson.dumps(document), Expect({asked.target: classes}), spreads=spreads)


def _watched(document: Mapping[str, Any], ground: Ground) -> None:
    """What a webhook is to tell of must be readable, each by itself. Raises `BadRequest`."""
    caller, known = ground.caller, ground.known.classes
    refs = bodies.watched_ids(document)
    if caller.admin:
        return
    if not all(ref in known and caller.may(Action.READ, known[ref]) for ref in refs):
        raise BadRequest(NO_SUCH_WATCHED)


def _new_webhook(asked: Asked, ground: Ground) -> Authorised:
    document, _ = _created(bodies.document_of(asked.parsed()), ground)
    _watched(document, ground)
    return Authorised(orjson.dumps(document), Expect())


def _put_webhook(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """As a new one; its classes stay where the body says nothing of them, else change as any."""
    document = bodies.document_of(asked.parsed())
    given = bodies.given_classes(document)
    refuse(change_classes(ground.caller, classes, classes if given is None else given, ground.denying))
    _watched(document, ground)
    if given is None and classes:
        document = bodies.with_classes(document, classes)
    return Authorised(orjson.dumps(document), Expect({asked.target: classes}))


_Check = Callable[[Asked, Ground, Classes], Authorised]
_CHECKS: dict[Check, _Check] = {
    Check.PUT_FLOW: _put_flow,
    Check.TAG: _tag,
    Check.COLLECTION: _collection,
    Check.SEGMENTS: objects.segments,
    Check.STORAGE: objects.storage,
    Check.PUT_WEBHOOK: _put_webhook,
    Check.PUT_SOURCE: _put_source,
}
