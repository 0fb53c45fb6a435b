"""`/service/profiles`."""

from __future__ import annotations

from store.core import Store
from store.domain.profiles import create_profile, everybodys_untagged
from store.http import JSON, Facts, Request, Response, created
from store.metadata.query import Query
from store.metadata.rows import Kind
from store.models.common import classes_of
from store.models.parsing import load, validate
from store.models.profile import ProfilePost
from store.routes.listing import FORMATS, listing, page_of
from store.routes.properties import load_row


async def get_profiles(store: Store, request: Request) -> Response:
    """GET /service/profiles"""
    query = request.query
    wanted = Query(
        Kind.PROFILE,
        label=query.text("label"),
        format=query.choice("format", FORMATS),
        codec=query.mime("codec"),
        **page_of(store, request, everybodys_untagged(request.view)),
    )
    return await listing(store, request, wanted)


async def get_profile(store: Store, request: Request) -> Response:
    """GET /service/profiles/{profileId}"""
    row = await load_row(store, request, Kind.PROFILE, request.params["profileId"])
    return Response(200, [JSON], row.document, Facts(row.classes))


async def post_profile(store: Store, request: Request) -> Response:
    """POST /service/profiles/{profileId}"""
    body = validate(ProfilePost, load(request.body)).document()
    profile = await create_profile(store.metadata, request.params["profileId"], body, store.edit(request))
    return created(profile, Facts(classes_of(profile.get("tags", {}))))
