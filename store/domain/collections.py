"""Collections: flows collect flows, and sources collect sources because their flows do (ADR0018).

`flow_collection` is what clients write; `source_collection` and both `collected_by` are derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from store.domain.draft import Draft, with_value
from store.errors import BadRequest
from store.metadata.protocol import Metadata
from store.metadata.query import Position, Query
from store.metadata.rows import Document, Kind, Ref, Row

Item = dict[str, Any]
_PAGE = 500


def flow_ref(flow_id: str) -> Ref:
    """Names a flow."""
    return Ref(Kind.FLOW, flow_id)


def source_ref(source_id: str) -> Ref:
    """Names a source."""
    return Ref(Kind.SOURCE, source_id)


def member_ids(items: Iterable[Item]) -> list[str]:
    """The ids of collection items, in order."""
    return [item["id"] for item in items]


async def check_members(draft: Draft, flow_id: str, items: Sequence[Item]) -> None:
    """Load a collection's members. Raises `BadRequest` when one does not exist, stands in it twice, or
    would make a cycle (rule 21)."""
    ids = member_ids(items)
    if len(set(ids)) != len(ids):
        raise BadRequest("A flow stands in `flow_collection` more than once.")
    if flow_id in ids:
        raise BadRequest("A flow cannot collect itself.")
    await draft.load(map(flow_ref, ids))
    if any(draft.get(flow_ref(member)) is None for member in ids):
        raise BadRequest("A member of `flow_collection` does not exist.")
    if not set(ids).isdisjoint(await _ancestors(draft, flow_id)):
        raise BadRequest("`flow_collection` would make a cycle.")


async def _ancestors(draft: Draft, flow_id: str) -> set[str]:
    """All flows that collect this one, directly or not."""
    found: set[str] = set()
    edge = [flow_id]
    while edge:
        await draft.load(map(flow_ref, edge))
        parents = {p for f in edge for p in (draft.get(flow_ref(f)) or {}).get("collected_by", ())}
        edge = sorted(parents - found)
        found |= parents
    return found


def collect(draft: Draft, flow_id: str, before: Sequence[Item], after: Sequence[Item]) -> None:
    """Keep `collected_by` of the members in step with a flow's collection; members must be loaded."""
    old, new = set(member_ids(before)), set(member_ids(after))
    for member in sorted(old ^ new):
        _mark(draft, flow_ref(member), flow_id, member in new)


def _mark(draft: Draft, ref: Ref, parent: str, collected: bool) -> None:
    document = draft.get(ref)
    if document is None:
        return
    parents = [p for p in document.get("collected_by") or () if p != parent]
    draft.put(ref, with_value(document, "collected_by", [*parents, parent] if collected else parents))


async def recollect_sources(draft: Draft, source_ids: Iterable[str]) -> set[str]:
    """Derive `source_collection` of sources anew from their flows as they stand in the draft, and
    `collected_by` of the sources collected. Returns the ids of sources whose collection changed.

    Raises `BadRequest` where the flows of one source collect the same sources in other roles or in
    another order (rule 20).
    """
    changed: set[str] = set()
    for source_id in sorted(set(source_ids)):
        ref = source_ref(source_id)
        await draft.load([ref])
        source = draft.get(ref)
        collections = await _collections(draft, source_id)
        items = merged(collections)
        before = (draft.row(ref) is not None and source or {}).get("source_collection") or []
        await draft.load(source_ref(item["id"]) for item in (*before, *items))
        for member in sorted(set(member_ids(before)) ^ set(member_ids(items))):
            _mark(draft, source_ref(member), source_id, member in set(member_ids(items)))
        if source is not None and before != items:
            current = draft.get(ref) or source
            draft.put(ref, with_value(current, "source_collection", items))
            changed.add(source_id)
        elif source is not None:
            draft.touch(ref)
    return changed


async def _collections(draft: Draft, source_id: str) -> list[list[Item]]:
    """The collections of a source's flows, each as source items."""
    flows = [doc for doc in await flows_of(draft, source_id) if doc.get("flow_collection")]
    flows.sort(key=lambda doc: (doc.get("created", ""), doc["id"]))
    await draft.load(flow_ref(m) for doc in flows for m in member_ids(doc["flow_collection"]))
    return [_as_sources(draft, doc["flow_collection"]) for doc in flows]


async def flows_of(draft: Draft, source_id: str) -> list[Document]:
    """The flows of a source as they stand in the draft."""
    for row in await all_rows(draft.metadata, Query(Kind.FLOW, None, _PAGE, source_id=source_id)):
        draft.admit(row.ref, row)
    return [doc for doc in draft.documents(Kind.FLOW) if doc["source_id"] == source_id]


async def all_rows(metadata: Metadata, query: Query) -> list[Row]:
    """Every row of a listing ordered by creation, page after page."""
    found: list[Row] = []
    while True:
        rows, more = await metadata.page(query)
        found += rows
        if not more:
            return found
        query = replace(query, after=Position(rows[-1].created_ns, rows[-1].id))


def _as_sources(draft: Draft, items: Sequence[Item]) -> list[Item]:
    """Flow collection items as items of their sources; two flows of one source become one item."""
    found: dict[str, Item] = {}
    for item in items:
        member = draft.get(flow_ref(item["id"]))
        if member is None:
            continue
        role = {"role": item["role"]} if "role" in item else {}
        found.setdefault(member["source_id"], {"id": member["source_id"], **role})
    return list(found.values())


def merged(collections: Iterable[Sequence[Item]]) -> list[Item]:
    """One ordered collection of what several say. Raises `BadRequest` where they contradict."""
    whole: list[Item] = []
    for collection in collections:
        roles = {item["id"]: item["role"] for item in whole if "role" in item}
        if any(
            roles.get(item["id"], item.get("role")) != item.get("role", roles.get(item["id"]))
            for item in collection
        ):
            raise BadRequest("The role of a collected flow conflicts with other flows of the source.")
        said = set(member_ids(collection))
        shared = [known for known in member_ids(whole) if known in said]
        if shared != [item["id"] for item in collection if item["id"] in set(shared)]:
            raise BadRequest("The order of `flow_collection` conflicts with other flows of the source.")
        roles |= {item["id"]: item["role"] for item in collection if "role" in item}
        ids = _spliced(member_ids(whole), member_ids(collection))
        whole = [{"id": i, "role": roles[i]} if i in roles else {"id": i} for i in ids]
    return whole


def _spliced(whole: Sequence[str], more: Sequence[str]) -> list[str]:
    """`whole` with what `more` adds, each new id right behind its predecessor in `more`."""
    result, place = list(whole), 0
    for item in more:
        if item in result:
            place = result.index(item) + 1
        else:
            result.insert(place, item)
            place += 1
    return result
