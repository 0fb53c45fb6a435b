"""Sources: made by their flows, edited on their own."""

from __future__ import annotations

from collections.abc import Callable

from store.domain.collections import source_ref
from store.domain.draft import Draft, settled, without
from store.domain.flows import Edit, stamp_source
from store.errors import BadRequest, Forbidden, NotFound
from store.events import values as events
from store.metadata.protocol import Metadata
from store.metadata.query import Query
from store.metadata.rows import Document, Kind


async def create_source(metadata: Metadata, body: Document, edit: Edit) -> Document:
    """Make a source that has no flow yet. Raises `BadRequest` for an id that is taken."""

    async def step() -> Document:
        draft = Draft(metadata, edit.expect)
        ref = source_ref(body["id"])
        await draft.load([ref])
        if draft.get(ref) is not None:
            raise BadRequest("`id` is that of a source already.")
        actor = edit.actor or "anonymous"
        source = {
            **body,
            "created_by": actor,
            "updated_by": actor,
            "created": edit.time,
            "updated": edit.time,
            "tags": body.get("tags", {}),
        }
        draft.put(ref, source)
        draft.events.append(events.source_event(events.SOURCE_CREATED, source, edit.now_ns))
        await draft.commit(edit.now_ns)
        return source

    return await settled(step)


def replaced(body: Document) -> Callable[[Document], Document]:
    """Gives a source what a body says of it. Raises `BadRequest` for another id or format."""

    def apply(before: Document) -> Document:
        for name in ("id", "format"):
            if body[name] != before[name]:
                raise BadRequest(f"`{name}` differs from that of the source.")
        said: Document = {name: body[name] for name in ("label", "description") if name in body}
        return {**without(before, "label", "description"), **said, "tags": body.get("tags", {})}

    return apply


async def delete_source(metadata: Metadata, source_id: str, edit: Edit) -> None:
    """Delete a source that has no flow. Raises `NotFound`, and `Forbidden` while it has any."""

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        ref = source_ref(source_id)
        await draft.load([ref])
        source = draft.get(ref)
        if source is None:
            raise NotFound("No such source.")
        # Whoever joins a source writes it too, so that one of the two comes too late.
        rows, _ = await metadata.page(Query(Kind.FLOW, None, 1, source_id=source_id))
        if rows:
            raise Forbidden("The source has flows: it goes with the last of them.")
        draft.remove(ref)
        draft.events.append(events.source_event(events.SOURCE_DELETED, source, edit.now_ns))
        await draft.commit(edit.now_ns)

    await settled(step)


async def edit_source(
    metadata: Metadata, source_id: str, edit: Edit, apply: Callable[[Document], Document]
) -> None:
    """Change a source's document by a pure function of it, one event. Raises `NotFound`."""

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        ref = source_ref(source_id)
        await draft.load([ref])
        before = draft.get(ref)
        if before is None:
            raise NotFound("No such source.")
        after = apply(before)
        if after != before:
            draft.put(ref, after)
            stamp_source(draft, source_id, edit)
        # Where nothing changes, what the caller was authorised on must still be so.
        await draft.commit(edit.now_ns)

    await settled(step)
