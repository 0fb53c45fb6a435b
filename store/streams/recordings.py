"""Recordings: a time range of streams, kept as a flow of several essences that collects theirs.

What is recorded is what the streams keep: a recording names it and copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from store.errors import BadRequest, NotFound
from store.metadata.rows import Document
from store.streams import catalogue
from store.streams.flows import FORMAT, STREAM_TAG, check_sid, sid_of
from store.streams.ids import text_of
from store.streams.replies import Asked, Reply, reply
from store.streams.streams import Streams
from store.streams.visiting import Visitor
from store.timerange import NS_PER_S

ID_TAG, START_TAG, STOP_TAG = "recording_id", "recording_start_ns", "recording_stop_ns"
MULTI = "urn:x-nmos:format:multi"
ABSENT = "No such recording."


async def get_all(streams: Streams, asked: Asked) -> Reply:
    """GET /recordings"""
    found = await listed(asked.visitor)
    if asked.query.flag("info"):
        return reply([described(document) for document in found])
    return reply([id_of(document) for document in found])


async def get_current(streams: Streams, asked: Asked) -> Reply:
    """GET /recordings/current: null when nothing is being recorded."""
    found = await current(asked.visitor)
    return reply(None if found is None else described(found))


async def get_one(streams: Streams, asked: Asked) -> Reply:
    """GET /recordings/{id}"""
    return reply(described(await named(asked.visitor, asked.found.params["rid"])))


async def start(streams: Streams, asked: Asked) -> Reply:
    """PUT /recordings/start"""
    now_ns = streams.now_ns()
    rid = asked.query.text("rec_id") or f"{datetime.fromtimestamp(now_ns // NS_PER_S, UTC):%Y.%m.%d-%H.%M.%S}"
    check_sid(rid)
    if await current(asked.visitor) is not None:
        raise BadRequest("Something is being recorded already.")
    await _check_new(asked.visitor, rid)
    flow_id = streams.new_id()
    document: Document = {
        "id": flow_id,
        "source_id": streams.new_id(),
        "format": MULTI,
        "label": rid,
        "tags": {ID_TAG: rid, START_TAG: str(now_ns)},
    }
    await catalogue.put_document(asked.visitor, flow_id, document)
    return reply(described(document))


async def stop(streams: Streams, asked: Asked) -> Reply:
    """PUT /recordings/stop"""
    found = await current(asked.visitor)
    if found is None:
        raise BadRequest("Nothing is being recorded.")
    stop_ns = streams.now_ns()
    members = await _recorded(streams, asked.visitor, _ns(found, START_TAG), stop_ns)
    collection = [{"id": member["id"], "role": str(sid_of(member))} for member in members]
    changed = {
        **_kept(found),
        "tags": {**found["tags"], STOP_TAG: str(stop_ns)},
        **({"flow_collection": collection} if collection else {}),
    }
    await catalogue.put_document(asked.visitor, found["id"], changed)
    return reply(described(changed))


async def rename(streams: Streams, asked: Asked) -> Reply:
    """PUT /recordings/{id}/rename/{new}"""
    new = check_sid(asked.found.params["new"])
    found = await named(asked.visitor, asked.found.params["rid"])
    await _check_new(asked.visitor, new)
    changed = {**_kept(found), "label": new, "tags": {**found["tags"], ID_TAG: new}}
    await catalogue.put_document(asked.visitor, found["id"], changed)
    return reply(described(changed))


async def delete(streams: Streams, asked: Asked) -> Reply:
    """DELETE /recordings/{id}: the streams keep their entries."""
    found = await named(asked.visitor, asked.found.params["rid"])
    catalogue.checked(await asked.visitor.call(catalogue.asking("DELETE", found["id"])))
    return reply(True)


async def listed(visitor: Visitor) -> list[Document]:
    """The recordings that the visitor may read, oldest first."""
    query = [(f"tag_exists.{ID_TAG}", "true"), ("format", MULTI)]
    found = [document for document in await catalogue.documents(visitor, query) if _is_recording(document)]
    return sorted(found, key=lambda document: (_ns(document, START_TAG), document["id"]))


async def current(visitor: Visitor) -> Document | None:
    """What is being recorded now."""
    running = [document for document in await listed(visitor) if STOP_TAG not in document["tags"]]
    return running[-1] if running else None


async def named(visitor: Visitor, rid: str) -> Document:
    """A recording. Raises `errors.NotFound`."""
    query = [(f"tag.{ID_TAG}", check_sid(rid)), ("format", MULTI)]
    found = [document for document in await catalogue.documents(visitor, query) if _is_recording(document)]
    if not found:
        raise NotFound(ABSENT)
    return min(found, key=lambda document: (_ns(document, START_TAG), document["id"]))


def described(document: Document) -> dict[str, Any]:
    """A recording as clients are told of it. Times are Unix seconds and ids of entries."""
    start_ns = _ns(document, START_TAG)
    stop_ns = _ns(document, STOP_TAG) if STOP_TAG in document["tags"] else None
    return {
        "id": id_of(document),
        "start": text_of(start_ns),
        "stop": None if stop_ns is None else text_of(stop_ns),
        "duration": None if stop_ns is None else (stop_ns - start_ns) / NS_PER_S,
        "streams": [item["role"] for item in document.get("flow_collection") or ()],
    }


def span(document: Document) -> tuple[int, int | None]:
    """From which entry to which a recording goes, both in it; None while it is going on."""
    return _ns(document, START_TAG), _ns(document, STOP_TAG) if STOP_TAG in document["tags"] else None


def members(document: Document) -> list[str]:
    """The ids of the recorded streams."""
    return [item["role"] for item in document.get("flow_collection") or ()]


def id_of(document: Document) -> str:
    """A recording's id."""
    return str(document["tags"][ID_TAG])


async def _recorded(streams: Streams, visitor: Visitor, start_ns: int, stop_ns: int) -> Sequence[Document]:
    """The flows of the streams that the visitor may read and that had entries meanwhile."""
    query = [(f"tag_exists.{STREAM_TAG}", "true"), ("format", FORMAT)]
    found = []
    for document in await catalogue.documents(visitor, query):
        sid = sid_of(document)
        if sid is None:
            continue
        try:
            page = await streams.read(await streams.find(sid), start_ns - 1, 1, 1)
        except NotFound:
            continue
        if page.ids and page.ids[0] <= stop_ns:
            found.append(document)
    return found


async def _check_new(visitor: Visitor, rid: str) -> None:
    try:
        await named(visitor, rid)
    except NotFound:
        return
    raise BadRequest("There is a recording of this id already.")


def _kept(document: Document) -> Document:
    """What of a flow goes into its next PUT."""
    document = orjson.loads(orjson.dumps(document))
    return {name: value for name, value in document.items() if name not in catalogue.DERIVED}


def _is_recording(document: Document) -> bool:
    tags = document.get("tags") or {}
    stop = tags.get(STOP_TAG, "0")
    return all(isinstance(tags.get(name), str) for name in (ID_TAG, START_TAG)) and all(
        isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20
        for text in (tags[START_TAG], stop)
    )


def _ns(document: Document, tag: str) -> int:
    return int(document["tags"][tag])
