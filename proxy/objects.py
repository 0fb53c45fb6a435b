"""Writes that name objects: segments, storage, instances, and uploads to unsigned URLs. Pure."""

from __future__ import annotations

import orjson

from proxy import body as bodies
from proxy.asked import Asked, Authorised, Classes, Expected, Ground, enforce
from proxy.body import Use
from proxy.decide import Caller, Verdict, backend_verdict, instance_verdict
from proxy.errors import BadRequest, Forbidden, NotFound, Unavailable
from proxy.rules import Action, Target
from proxy.upstream.protocol import BackendFact, Expect, ObjectFact

UNKNOWN_OBJECT = "The object does not exist, or is not available to this flow."
NO_BACKEND = "`storage_id` names no storage backend."
NO_INSTANCE = "`label` names no uncontrolled instance of the object."
NO_MEDIA = "No such media."
UNUSED = "unused"


def segments(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """Every object is new and this flow's, or readable, or unknown and brought with its URLs."""
    document = asked.parsed()
    uses = bodies.uses_of(document, asked.limits.segments)
    target: Expected = {asked.target: classes}
    if ground.caller.admin:
        return Authorised(asked.body, Expect(target))
    refused: dict[int, tuple[Use, str]] = {}
    references: set[tuple[str, str]] = set()
    unknown: set[str] = set()
    for place, use in enumerate(uses):
        problem = use.problem or _problem(use, asked.target[1], ground, unknown)
        if problem is not None:
            refused[place] = (use, problem)
            continue
        for name in (use.object_id, use.init_object_id):
            if name is None:
                continue
            fact = ground.known.objects.get(name)
            if fact is None:
                unknown.add(name)
            elif fact.witness is not None:
                references.add((name, fact.witness))
                target[("flow", fact.witness)] = fact.witness_classes
    body = asked.body
    if refused and isinstance(document, list):
        body = orjson.dumps([item for place, item in enumerate(document) if place not in refused])
    return Authorised(body, Expect(target, {}, frozenset(references), frozenset(unknown)), refused)


def _problem(use: Use, flow_id: str, ground: Ground, brought: set[str]) -> str | None:
    """Why a segment may not use its objects. `brought`: ids that come with URLs earlier in the request."""
    known = ground.known.objects
    brings = use.brings_urls or use.object_id in brought
    usable = _usable(known.get(use.object_id), flow_id, brings) and (
        use.init_object_id is None
        or _usable(known.get(use.init_object_id), flow_id, use.init_object_id in brought)
    )
    return None if usable else UNKNOWN_OBJECT


def _usable(fact: ObjectFact | None, flow_id: str, brings_urls: bool) -> bool:
    if fact is None:
        return brings_urls
    if fact.role == UNUSED:
        return flow_id in fact.flow_ids
    return fact.witness is not None


def storage(asked: Asked, ground: Ground, classes: Classes) -> Authorised:
    """Write on the backend that is named, else on the default one."""
    storage_id = bodies.document_of(asked.parsed()).get("storage_id") if asked.body else None
    _check_backend(storage_id, ground)
    return Authorised(asked.body, Expect({asked.target: classes}))


def _check_backend(storage_id: object, ground: Ground, hidden: str = NO_BACKEND) -> None:
    """Hidden 400, visible 403; None is the default backend. `hidden`: what is said of an absent one."""
    for backend in ground.backends:
        if backend.default if storage_id is None else backend.id == storage_id:
            verdict = backend_verdict(ground.caller, Action.WRITE, backend.classes)
            if verdict is Verdict.ALLOW:
                return
            if verdict is Verdict.FORBID:
                raise Forbidden("You may not write to this storage backend.")
            break
    if storage_id is None:
        raise BadRequest("No storage backend is the default: name one by `storage_id`.")
    raise BadRequest(hidden)


def instance(asked: Asked, ground: Ground) -> Authorised:
    """Write on the flow that first referred to the object (once that is gone, on all that do), and on the
    backend where the instance is or is to be."""
    object_id = asked.params[asked.rule.param]
    fact = ground.known.objects.get(object_id)
    registered = fact is not None and fact.role != UNUSED
    names = fact.flow_ids if fact is not None else ()
    owners = {name: ground.known.classes.get(("flow", name)) for name in names}
    held = {name: classes for name, classes in owners.items() if classes is not None}
    if registered and len(held) < len(owners):
        raise Unavailable("A flow of the object has just gone. Try again.", retry_after_s=1)
    readable = fact is not None and fact.witness is not None
    verdict = instance_verdict(ground.caller, held.values(), readable=readable, known=registered)
    enforce(verdict, Target.OBJECT)
    _check_instance(asked, ground)
    references = frozenset((object_id, name) for name in held)
    return Authorised(asked.body, Expect({("flow", n): c for n, c in held.items()}, {}, references))


def _check_instance(asked: Asked, ground: Ground) -> None:
    if not asked.deletes:
        storage_id = bodies.document_of(asked.parsed()).get("storage_id")
        if storage_id is not None:
            _check_backend(storage_id, ground)
        return
    named = asked.said("storage_id")
    if named is not None:
        _check_backend(named, ground)
    label = asked.said("label")
    for backend in ground.backends:
        if label is not None and backend.label == label:
            _check_backend(backend.id, ground, NO_INSTANCE)


def media_verdict(
    caller: Caller, action: Action, fact: ObjectFact | None, flow: Classes | None, backend: BackendFact
) -> Verdict:
    """The verdict on the bytes behind an unsigned URL: reading needs a readable flow that refers to the
    object, an upload write on the flow that it is allocated to (`flow`: its classes); both the same on the
    backend."""
    if fact is None:
        return Verdict.HIDE
    on_backend = backend_verdict(caller, action, backend.classes)
    if on_backend is Verdict.HIDE:
        return Verdict.HIDE
    if action is Action.READ:
        return on_backend if caller.admin or fact.witness is not None else Verdict.HIDE
    if flow is None:
        return Verdict.ALLOW if caller.admin else Verdict.HIDE
    if caller.may(action, flow):
        return on_backend
    return Verdict.FORBID if caller.actions(flow) else Verdict.HIDE


def backend_named(backends: tuple[BackendFact, ...], name: str) -> BackendFact:
    """A backend by its id. Raises `NotFound`."""
    for backend in backends:
        if backend.id == name:
            return backend
    raise NotFound(NO_MEDIA)
