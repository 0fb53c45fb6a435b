"""Streams by name: made, described, listed and deleted, as the flows that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from store.errors import BadRequest, NotFound
from store.metadata.rows import Document
from store.streams.flows import (
    FORMAT,
    STREAM_TAG,
    Stream,
    described,
    document_of,
    flow_id_of,
    sid_of,
)
from store.streams.streams import Streams
from store.streams.visiting import Answer, Asking, Refused, Visitor

PAGE = 1000
DERIVED = frozenset(("created", "metadata_updated", "segments_updated", "timerange", "collected_by"))
ABSENT = "No such stream."


@dataclass(frozen=True, slots=True)
class Wish:
    """A stream as it is to be; None is left as it is. `replace`: what there is goes."""

    description: str | None = None
    meta: Mapping[str, Any] | None = None
    max_len: int | None = None
    replace: bool = False


async def documents(visitor: Visitor, query: Sequence[tuple[str, str]]) -> list[Document]:
    """All flows of a listing that the visitor may read."""
    found: list[Document] = []
    page: list[tuple[str, str]] = []
    while True:
        pairs = [*query, ("limit", str(PAGE)), *page]
        answer = checked(await visitor.call(Asking("GET_flows", "GET", "/flows", {}, pairs)))
        found += orjson.loads(answer.body)
        key = next((value for name, value in answer.headers if name == "x-paging-nextkey"), None)
        if key is None:
            return found
        page = [("page", key)]


async def ids(visitor: Visitor) -> list[str]:
    """The ids of the streams that the visitor may read, in order."""
    query = [(f"tag_exists.{STREAM_TAG}", "true"), ("format", FORMAT)]
    found = (sid_of(document) for document in await documents(visitor, query))
    return sorted(sid for sid in found if sid is not None)


async def document(visitor: Visitor, flow_id: str) -> Document | None:
    """A flow, None where there is none for the visitor."""
    answer = await visitor.call(asking("GET", flow_id))
    if answer.status == 404:
        return None
    found: Document = orjson.loads(checked(answer).body)
    return found


async def describe(visitor: Visitor, sid: str) -> dict[str, Any] | None:
    """A stream as clients are told of it, None where there is none for the visitor."""
    found = await document(visitor, flow_id_of(sid))
    return described(found) if found is not None and sid_of(found) == sid else None


async def exists(visitor: Visitor, flow_id: str) -> bool:
    """Whether there is a flow, for a visitor that may write it. Raises `Refused` for one that may not."""
    try:
        await visitor.check(flow_id, write=True)
    except NotFound:
        return False
    except Refused as exc:
        if exc.status != 404:
            raise
        return False
    return True


async def put(visitor: Visitor, sid: str, wish: Wish, *, merge: bool) -> dict[str, Any]:
    """Make a stream, or change one that is there: only by `wish.replace`, unless it is to `merge`."""
    flow_id = flow_id_of(sid)
    before = await document(visitor, flow_id) if await exists(visitor, flow_id) else None
    if before is None:
        body = document_of(sid, wish.description, wish.meta or {}, wish.max_len)
    else:
        if sid_of(before) != sid:
            raise BadRequest("The stream's id is taken by a flow that is no stream.")
        if not merge and not wish.replace:
            raise BadRequest("The stream exists already; `override` changes it.")
        body = _changed(before, sid, wish)
    await put_document(visitor, flow_id, body)
    return described(body)


def _changed(before: Document, sid: str, wish: Wish) -> Document:
    """A flow with what the wish says of its stream; all else of it stays."""
    old = described(before)
    if wish.replace:
        description, meta, max_len = wish.description, dict(wish.meta or {}), wish.max_len
    else:
        description = old["description"] if wish.description is None else wish.description
        meta = {**(old["metadata"] if isinstance(old["metadata"], dict) else {}), **(wish.meta or {})}
        max_len = old["max_len"] if wish.max_len is None else wish.max_len
    new = document_of(sid, description, meta, max_len)
    kept = {name: value for name, value in before.items() if name not in DERIVED and name != "description"}
    ours = set(document_of(sid, None, {"any": 0}, 1)["tags"])
    tags = {name: value for name, value in (before.get("tags") or {}).items() if name not in ours}
    had = STREAM_TAG in (before.get("tags") or {})
    mine = new["tags"] if had else {name: value for name, value in new["tags"].items() if name != STREAM_TAG}
    told = {} if description is None else {"description": description}
    return {**kept, **told, "tags": {**tags, **mine}}


async def put_document(visitor: Visitor, flow_id: str, body: Document) -> None:
    """Put a flow as the visitor."""
    answer = await visitor.call(asking("PUT", flow_id, orjson.dumps(body)))
    if answer.status == 404:
        raise NotFound(ABSENT)
    checked(answer)


async def ensure(streams: Streams, visitor: Visitor, sid: str) -> Stream:
    """A stream to push to, made where there is none. Raises `Refused` and `errors.Error`."""
    flow_id = flow_id_of(sid)
    if not await exists(visitor, flow_id):
        await put_document(visitor, flow_id, document_of(sid, None, {}, None))
    return await writable(streams, visitor, sid)


async def writable(streams: Streams, visitor: Visitor, sid: str) -> Stream:
    """A stream that the visitor may push to."""
    await visitor.check(flow_id_of(sid), write=True)
    stream = await streams.find(sid)
    if stream.read_only:
        raise Refused(403, "The stream is read-only.")
    return stream


async def readable(streams: Streams, visitor: Visitor, sid: str) -> Stream:
    """A stream that the visitor may pull."""
    await visitor.check(flow_id_of(sid), write=False)
    return await streams.find(sid)


async def delete(streams: Streams, visitor: Visitor, sid: str) -> None:
    """Delete a stream with all its entries. Raises `errors.NotFound`."""
    flow_id = flow_id_of(sid)
    try:
        stream = await streams.find(sid)
    except NotFound:
        stream = None
    answer = await visitor.call(asking("DELETE", flow_id))
    if answer.status == 404 or stream is None:
        raise NotFound(ABSENT)
    checked(answer)
    await streams.forget(stream)


def asking(method: str, flow_id: str, body: bytes = b"") -> Asking:
    """A call of an operation on a flow."""
    return Asking(f"{method}_flows-flowId", method, f"/flows/{flow_id}", {"flowId": flow_id}, (), body)


def checked(answer: Answer) -> Answer:
    """An answer that is none of a refusal. Raises `Refused`."""
    if answer.status < 400:
        return answer
    try:
        detail = str(orjson.loads(answer.body)["summary"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = "The request was refused."
    kept = [pair for pair in answer.headers if pair[0] in ("retry-after", "www-authenticate")]
    raise Refused(answer.status, detail, kept)
