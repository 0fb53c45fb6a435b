"""Flows: created, replaced, edited, deleted; and their sources with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from store.domain.collections import (
    Item,
    check_members,
    collect,
    flow_ref,
    member_ids,
    recollect_sources,
    source_ref,
)
from store.domain.draft import Draft, settled, with_value, without
from store.errors import BadRequest, Forbidden, NotFound
from store.events import values as events
from store.metadata.protocol import Metadata
from store.metadata.query import Query
from store.metadata.rows import Document, Expect, Kind, Ref, Row
from store.models.common import format_time
from store.models.technical import TECHNICAL_PROPERTIES
from store.params import is_uuid

DERIVED = ("created", "metadata_updated", "segments_updated", "timerange", "collected_by")


@dataclass(frozen=True, slots=True)
class Edit:
    """Who edits, when, and on what they were authorised. `version` is the next `metadata_version`.

    `trusted`: the client's own `created_by` and `updated_by` count; otherwise they are `actor`.
    `owner`: who a webhook is to belong to.
    """

    actor: str | None
    now_ns: int
    version: str
    expect: Expect | None = None
    trusted: bool = False
    owner: bytes | None = None

    @property
    def time(self) -> str:
        """Now, as documents carry it."""
        return format_time(self.now_ns)


def deleting(request_id: str) -> bytes:
    """The private part of a flow that a deletion request removes in the background."""
    return orjson.dumps({"deletion": request_id})


def deletion_of(row: Row) -> str | None:
    """The id of the deletion request that removes a flow in the background, if one does."""
    if row.private is None:
        return None
    found: str | None = orjson.loads(row.private).get("deletion")
    return found


async def put_flow(metadata: Metadata, flow_id: str, body: Document, edit: Edit) -> Document | None:
    """Create or replace a flow; the flow where it was created, None where it was replaced.

    Raises `NotFound` for an id that is none, `BadRequest` for what conflicts (rules 15, 20, 21, 28),
    `Forbidden` for a read-only flow (rule 22).
    """
    if not is_uuid(flow_id):
        raise NotFound("No such flow.")
    if body["id"] != flow_id:
        raise BadRequest("`id` differs from the flow's id in the path.")
    return await settled(lambda: _put_flow(metadata, flow_id, body, edit))


async def _put_flow(metadata: Metadata, flow_id: str, body: Document, edit: Edit) -> Document | None:
    draft = Draft(metadata, edit.expect)
    ref, source = flow_ref(flow_id), source_ref(body["source_id"])
    profile_id = body.get("profile_id") or None
    await draft.load([ref, source, *([Ref(Kind.PROFILE, profile_id)] if profile_id else [])])
    before = draft.get(ref)
    if before is not None:
        _check_editable(draft, ref)
    document = _replaced(before, _technical(draft, before, body), edit)
    if before == document:
        await draft.commit(edit.now_ns)
        return None
    draft.put(ref, document)
    _join_source(draft, before, document, edit)
    await _recollect(draft, flow_id, before, document, edit)
    if before is not None and before["source_id"] != document["source_id"]:
        await _leave_source(draft, before["source_id"], edit)
    _announce_flow(draft, ref, events.FLOW_UPDATED if before else events.FLOW_CREATED, edit)
    await draft.commit(edit.now_ns)
    return None if before else document


def _check_editable(draft: Draft, ref: Ref, *, read_only_too: bool = True) -> None:
    document, row = draft.get(ref), draft.row(ref)
    if document is None or row is None:
        raise NotFound("No such flow.")
    if deletion_of(row) is not None:
        raise Forbidden("The flow is being deleted.")
    if read_only_too and document.get("read_only"):
        raise Forbidden("The flow is read-only.")


def _technical(draft: Draft, before: Document | None, body: Document) -> Document:
    """The body with what its profile gives it (rule 28)."""
    profile_id = body.get("profile_id")
    linked = (before or {}).get("profile_id")
    if profile_id is None and linked and body.get("format"):
        raise BadRequest('The flow is linked to a profile: set `profile_id` to "" to change it freely.')
    if not profile_id:
        return _unlinked(before, without(body, "profile_id"))
    profile = draft.get(Ref(Kind.PROFILE, profile_id))
    if profile is None:
        raise BadRequest("`profile_id` names no profile.")
    return {**body, **profile["flow_metadata"]}


def _unlinked(before: Document | None, body: Document) -> Document:
    """A body without a profile; one that says nothing technical keeps what the flow had."""
    if "format" in body:
        return body
    if before is None:
        raise BadRequest("`format` is missing, and there is no profile to take it from.")
    return {**{name: before[name] for name in TECHNICAL_PROPERTIES if name in before}, **body}


def _replaced(before: Document | None, body: Document, edit: Edit) -> Document:
    """What a PUT leaves: the body, and what the server keeps itself (rules 16-18)."""
    old = before or {}
    document = without(body, *DERIVED, "created_by", "updated_by", "metadata_version")
    document["tags"] = body.get("tags", {})
    said = body.get("metadata_version")
    claimed = _claimed(body, edit)
    kept = {name: old[name] for name in ("collected_by",) if name in old}
    document = with_value({**document, **kept}, "flow_collection", body.get("flow_collection"))
    unchanged = before is not None and document == without(
        old, "created", "metadata_updated", "created_by", "updated_by", "metadata_version"
    )
    unchanged = unchanged and all(old.get(name) == value for name, value in claimed.items())
    if unchanged and said in (None, old.get("metadata_version")):
        return old
    version = said if said is not None and said != old.get("metadata_version") else edit.version
    return {
        **document,
        **_authors(old, claimed, edit),
        "created": old.get("created", edit.time),
        "metadata_updated": edit.time,
        "metadata_version": version,
    }


def _authors(old: Document, claimed: Document, edit: Edit) -> Document:
    """`created_by` and `updated_by`: what a trusted client says, else what was known, and the actor."""
    actor = edit.actor or "anonymous"
    created_by = old.get("created_by") or actor
    return {"created_by": created_by, "updated_by": actor, **claimed}


def _claimed(body: Document, edit: Edit) -> Document:
    """What a trusted client says of who wrote it."""
    names = ("created_by", "updated_by") if edit.trusted else ()
    return {name: body[name] for name in names if body.get(name)}


def _join_source(draft: Draft, before: Document | None, flow: Document, edit: Edit) -> None:
    """Make the flow's source if there is none (rule 19), else check the format (rule 20)."""
    ref = source_ref(flow["source_id"])
    source = draft.get(ref)
    if source is not None:
        if source["format"] != flow["format"]:
            raise BadRequest("`format` differs from the format of the flow's source.")
        if before is None or before["source_id"] != flow["source_id"]:
            draft.touch(ref)
        return
    copied: Document = {name: flow[name] for name in ("label", "description") if name in flow}
    source = {
        "id": flow["source_id"],
        "format": flow["format"],
        **copied,
        "created_by": flow["updated_by"],
        "updated_by": flow["updated_by"],
        "created": edit.time,
        "updated": edit.time,
        "tags": flow["tags"],
    }
    draft.put(ref, source)
    draft.events.append(events.source_event(events.SOURCE_CREATED, source, edit.now_ns))


async def _recollect(
    draft: Draft, flow_id: str, before: Document | None, after: Document | None, edit: Edit
) -> None:
    """Bring all that is derived from collections in step with a flow's change."""
    old, new = before or {}, after or {}
    was: list[Item] = old.get("flow_collection") or []
    now: list[Item] = new.get("flow_collection") or []
    moved = bool(before and after) and old["source_id"] != new["source_id"]
    parents = old.get("collected_by") or []
    if was == now and not (moved and (parents or now)) and not (after is None and parents):
        return
    await draft.load(map(flow_ref, [*member_ids(was), *parents]))
    if was != now:
        await check_members(draft, flow_id, now)
        collect(draft, flow_id, was, now)
    touched = {d["source_id"] for d in (before, after) if d}
    touched |= {doc["source_id"] for p in parents if (doc := draft.get(flow_ref(p)))}
    for source_id in await recollect_sources(draft, touched):
        stamp_source(draft, source_id, edit)


def stamp_source(draft: Draft, source_id: str, edit: Edit) -> None:
    """Mark a source as updated now, and say so."""
    ref = source_ref(source_id)
    source = draft.get(ref)
    if source is None:
        return
    source = {**source, "updated": edit.time, "updated_by": edit.actor or "anonymous"}
    draft.put(ref, source)
    draft.events.append(events.source_event(events.SOURCE_UPDATED, source, edit.now_ns))


async def _leave_source(draft: Draft, source_id: str, edit: Edit) -> None:
    """Delete a source that has no flow any more (rule 30)."""
    ref = source_ref(source_id)
    await draft.load([ref])
    source = draft.get(ref)
    if source is None:
        return
    draft.touch(ref)
    # Whoever joins a source touches it too, so that two flows here tell whether one stays.
    rows, _ = await draft.metadata.page(Query(Kind.FLOW, None, 2, source_id=source_id))
    for row in rows:
        draft.admit(row.ref, row)
    if not any(flow["source_id"] == source_id for flow in draft.documents(Kind.FLOW)):
        draft.remove(ref)
        draft.events.append(events.source_event(events.SOURCE_DELETED, source, edit.now_ns))


def _announce_flow(draft: Draft, ref: Ref, event_type: str, edit: Edit) -> None:
    flow = draft.get(ref)
    if flow is not None:
        source = draft.get(source_ref(flow["source_id"]))
        event = events.flow_event(event_type, flow, source, edit.now_ns, {"flow": flow})
        draft.events.append(event)


async def edit_flow(
    metadata: Metadata,
    flow_id: str,
    edit: Edit,
    apply: Callable[[Document], Document],
    *,
    read_only_too: bool = True,
) -> None:
    """Change a flow's document by a pure function of it; new `metadata_version`, one event.

    Raises `NotFound`, and `Forbidden` for a read-only flow unless `read_only_too` is False.
    """

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        ref = flow_ref(flow_id)
        await draft.load([ref])
        _check_editable(draft, ref, read_only_too=read_only_too)
        before = draft.get(ref) or {}
        after = apply(before)
        if after == before:
            # Nothing changes, yet what the caller was authorised on must still be so.
            await draft.commit(edit.now_ns)
            return
        draft.put(ref, _stamped(after, edit))
        await draft.load([source_ref(after["source_id"])])
        await _recollect(draft, flow_id, before, draft.get(ref), edit)
        _announce_flow(draft, ref, events.FLOW_UPDATED, edit)
        await draft.commit(edit.now_ns)

    await settled(step)


def _stamped(document: Document, edit: Edit) -> Document:
    return {
        **document,
        "metadata_updated": edit.time,
        "metadata_version": edit.version,
        "updated_by": edit.actor or "anonymous",
    }


def set_property(name: str, value: Any) -> Callable[[Document], Document]:
    """Sets one property of a document, drops it for None."""

    def apply(document: Document) -> Document:
        if name == "avg_bit_rate" and document.get("profile_id"):
            raise BadRequest("`avg_bit_rate` comes from the flow's profile: unlink that first.")
        return with_value(document, name, value)

    return apply


def set_tag(name: str, value: str | list[str] | None) -> Callable[[Document], Document]:
    """Sets one tag of a document. None removes it, and raises `NotFound` where there is no such tag."""

    def apply(document: Document) -> Document:
        tags = document.get("tags") or {}
        if value is None:
            if name not in tags:
                raise NotFound("No such tag.")
            return {**document, "tags": without(tags, name)}
        return {**document, "tags": {**tags, name: value}}

    return apply


async def remove_flow(metadata: Metadata, flow_id: str, edit: Edit) -> None:
    """Delete the document of a flow that has no segments left: out of its collections, its source with
    it when it was the last one (rule 30). An absent flow is no error."""

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        ref = flow_ref(flow_id)
        await draft.load([ref])
        flow = draft.get(ref)
        if flow is None:
            return
        await draft.load([source_ref(flow["source_id"])])
        source = draft.get(source_ref(flow["source_id"]))
        body = {"flow_id": flow_id}
        draft.events.append(events.flow_event(events.FLOW_DELETED, flow, source, edit.now_ns, body))
        await draft.load(map(flow_ref, flow.get("collected_by") or ()))
        for parent in flow.get("collected_by") or ():
            _drop_member(draft, flow_ref(parent), flow_id, edit)
        draft.remove(ref)
        await _recollect(draft, flow_id, flow, None, edit)
        await _leave_source(draft, flow["source_id"], edit)
        await draft.commit(edit.now_ns)

    await settled(step)


def _drop_member(draft: Draft, parent: Ref, flow_id: str, edit: Edit) -> None:
    document = draft.get(parent)
    if document is None:
        return
    items = [item for item in document.get("flow_collection") or () if item["id"] != flow_id]
    draft.put(parent, _stamped(with_value(document, "flow_collection", items), edit))
    _announce_flow(draft, parent, events.FLOW_UPDATED, edit)
