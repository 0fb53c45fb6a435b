"""What there is, what a thing is, away with it, and who may see it: `ls`, `show`, `rm`, `share`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from store.client.tams import Client, Refused, path, said
from store.params import is_uuid
from store.tools.errors import ToolError
from store.tools.probe import FORMAT

PAGE = 100
CLASSES = "auth_classes"
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A kind of thing: where it is listed, and its columns."""

    path: str
    columns: Row
    row: Callable[[Mapping[str, Any]], Row]


def _classes(item: Mapping[str, Any]) -> str:
    found = item.get("tags", {}).get(CLASSES, [])
    return ", ".join([found] if isinstance(found, str) else found) or "-"


def _short(item: Mapping[str, Any], *names: str) -> Row:
    return tuple(str(item.get(name, "-")).removeprefix(FORMAT) for name in names)


LISTINGS = {
    "flows": Listing(
        "/flows",
        ("flow", "label", "format", "media", "classes"),
        lambda f: (
            *_short(f, "id", "label", "format"),
            f.get("container") or f.get("codec", "-"),
            _classes(f),
        ),
    ),
    "sources": Listing(
        "/sources",
        ("source", "label", "format", "classes"),
        lambda s: (*_short(s, "id", "label", "format"), _classes(s)),
    ),
    "segments": Listing(
        "",
        ("timerange", "object", "ts_offset"),
        lambda s: _short(s, "timerange", "object_id", "ts_offset"),
    ),
    "backends": Listing(
        "/service/storage-backends",
        ("backend", "label", "type", "default"),
        lambda b: _short(b, "id", "label", "store_type", "default_storage"),
    ),
    "webhooks": Listing(
        "/service/webhooks",
        ("webhook", "url", "status", "events"),
        lambda w: (*_short(w, "id", "url", "status"), ", ".join(w.get("events", ()))),
    ),
}


def listed(client: Client, where: str, query: Mapping[str, str], limit: int | None) -> list[dict[str, Any]]:
    """Up to so many of a listing; no more pages are asked for than that takes. Raises `Refused`."""
    size = PAGE if limit is None else min(PAGE, limit)
    pages = client.pages(where, {**query, "limit": str(size)})
    return list(islice((item for page in pages for item in page), limit))


def segments_of(flow_id: str) -> str:
    """Where the segments of a flow are listed."""
    return path("flows", flow_id, "segments")


def find(client: Client, id_: str, kinds: Iterable[str] = ("flows", "sources", "objects")) -> tuple[str, Any]:
    """What has this id: "flows", "sources" or "objects", and the thing. Raises `ToolError`, `Refused`."""
    for kind in kinds:
        if kind != "objects" and not is_uuid(id_):
            continue
        query = {"include_timerange": "true"} if kind == "flows" else None
        answer = client.call("GET", path(kind, id_), query=query)
        if answer.status_code == 200:
            return kind, answer.json()
        if answer.status_code != 404:
            raise Refused(f"GET /{kind} is answered {answer.status_code}: {said(answer)}", answer.status_code)
    raise ToolError(f"{id_}: there is no such {' or '.join(kind.removesuffix('s') for kind in kinds)}")


def delete_flow(
    client: Client, flow_id: str, timerange: str | None, wait: Callable[[float], object]
) -> Mapping[str, Any] | None:
    """Delete a flow, or its segments in a timerange; waits for a delete that takes long.

    The finished request for that, None where there was none. Raises `ToolError`, `Refused`.
    """
    where = path("flows", flow_id) if timerange is None else segments_of(flow_id)
    answer = client.call("DELETE", where, query=None if timerange is None else {"timerange": timerange})
    if answer.status_code == 204:
        return None
    if answer.status_code != 202:
        raise Refused(f"DELETE {where} is answered {answer.status_code}: {said(answer)}", answer.status_code)
    request: Mapping[str, Any] = answer.json()
    pause_s = 0.2
    while request.get("status") not in ("done", "error"):
        wait(pause_s)
        pause_s = min(pause_s * 2, 5.0)
        request = client.expect(200, "GET", path("flow-delete-requests", request["id"]))
    if request["status"] == "error":
        raise ToolError(
            f"deleting {flow_id} failed: {request.get('error', {}).get('summary', 'no reason given')}"
        )
    return request


def members_of(client: Client, flow: Mapping[str, Any]) -> list[str]:
    """The ids of the flows that this one collects, and no other flow does."""
    found = []
    for item in flow.get("flow_collection", ()):
        _, member = find(client, item["id"], ("flows",))
        if member.get("collected_by", [flow["id"]]) == [flow["id"]]:
            found.append(str(member["id"]))
    return found


def flows_of(client: Client, source_id: str) -> list[str]:
    """The ids of a source's flows."""
    return [flow["id"] for flow in client.listing("/flows", {"source_id": source_id, "limit": str(PAGE)})]


def related(client: Client, kind: str, thing: Mapping[str, Any], *, only: bool) -> Iterator[tuple[str, str]]:
    """What is shared with a flow or a source: itself, a flow's source, what it collects; kinds and ids."""
    yield kind, thing["id"]
    if only:
        return
    if kind == "flows":
        yield "sources", thing["source_id"]
    for item in thing.get("flow_collection" if kind == "flows" else "source_collection", ()):
        found, member = find(client, item["id"], (kind,))
        yield from related(client, found, member, only=False)


def share(
    client: Client, kind: str, id_: str, change: Callable[[Sequence[str]], list[str]]
) -> tuple[list[str], list[str]]:
    """Change the classes of a flow or a source; those before and after. Raises `Refused`."""
    where = path(kind, id_, "tags", CLASSES)
    answer = client.call("GET", where)
    before: list[str] = []
    if answer.status_code == 200:
        found = answer.json()
        before = [found] if isinstance(found, str) else list(found)
    elif answer.status_code != 404:
        raise Refused(f"GET {where} is answered {answer.status_code}: {said(answer)}", answer.status_code)
    after = change(before)
    if after and after != before:
        client.expect(204, "PUT", where, after)
    elif before and not after:
        client.expect(204, "DELETE", where)
    return before, after
