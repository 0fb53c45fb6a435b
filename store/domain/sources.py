"""Sources: made by their flows, edited on their own."""

from __future__ import annotations

from collections.abc import Callable

from store.domain.collections import source_ref
from store.domain.draft import Draft, settled
from store.domain.flows import Edit, stamp_source
from store.errors import NotFound
from store.metadata.protocol import Metadata
from store.metadata.rows import Document


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
