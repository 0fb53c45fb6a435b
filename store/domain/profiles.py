"""Profiles: created once, never changed (AppNote 0020). Rule 29."""

from __future__ import annotations

from store.domain.draft import Draft, settled
from store.domain.flows import Edit
from store.errors import BadRequest, NotFound
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Kind, Ref
from store.params import is_uuid
from store.view import View

UNTAGGED = "*"
"""Stands for the classes of a profile that has none. No class can be called so."""


def everybodys_untagged(view: View | None) -> View | None:
    """A view as it is on profiles: those without classes are there for everybody."""
    if view is None or view.admin:
        return view
    return View(False, view.allow | {UNTAGGED}, view.deny, UNTAGGED)


async def create_profile(metadata: Metadata, profile_id: str, body: Document, edit: Edit) -> Document:
    """Create a profile; what GET will return.

    Raises `NotFound` for an id that is none, `BadRequest` for one that is taken or that the body contradicts.
    """
    if not is_uuid(profile_id):
        raise NotFound("No such profile.")
    if body["id"] != profile_id:
        raise BadRequest("`id` differs from the profile's id in the path.")
    said = body if edit.trusted else {}
    document = {
        **{name: value for name, value in body.items() if name not in ("created", "created_by")},
        "created_by": said.get("created_by") or edit.actor or "anonymous",
        "created": edit.time,
    }
    ref = Ref(Kind.PROFILE, profile_id)

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        await draft.load([ref])
        if draft.get(ref) is not None:
            raise BadRequest("The profile exists already, and profiles do not change.")
        draft.put(ref, document)
        await draft.commit(edit.now_ns)

    await settled(step)
    return document
