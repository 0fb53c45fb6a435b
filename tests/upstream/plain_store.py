"""What the plain upstream holds: TAMS as 7.0 has it, in dictionaries, with few checks.

None is made that the proxy has to: whose an object is, what a collection names, which classes there are. A
source begins with what its first flow says and ends with its last flow. Objects name the flow that used them
first for good, though it be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from store.timerange import TimeRange

Document = dict[str, Any]
BACKENDS: list[Document] = [
    {"id": "11111111-1111-4111-8111-111111111111", "label": "open", "default_storage": True},
    {
        "id": "22222222-2222-4222-8222-222222222222",
        "label": "hidden",
        "tags": {"auth_classes": ["v"]},
    },
]
PLAIN_FILTERS = ("label", "format", "codec", "source_id")
INHERITED = ("label", "description", "tags", "created_by", "updated_by")
KINDS: Mapping[str, type | tuple[type, ...]] = {
    "label": str,
    "description": str,
    "max_bit_rate": int,
    "avg_bit_rate": int,
    "read_only": bool,
    "flow_collection": list,
    "tags": dict,
    "source_id": str,
    "format": str,
}


class No(Exception):
    """What is asked for is refused, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Media:
    """An object. `urls`: those that clients brought. `first`: the flow that used it first."""

    backend: Document | None
    urls: list[Document] = field(default_factory=list)
    first: str | None = None


@dataclass
class Held:
    """Flows, sources, segments by flow, objects."""

    url: str = ""
    backends: list[Document] = field(default_factory=lambda: list(BACKENDS))
    flows: dict[str, Document] = field(default_factory=dict)
    sources: dict[str, Document] = field(default_factory=dict)
    segments: dict[str, list[Document]] = field(default_factory=dict)
    objects: dict[str, Media] = field(default_factory=dict)

    def tell(self, kind: str, event: Document) -> None:
        """Told of every event, to be passed on by who can."""

    # What there is

    def flow(self, name: str) -> Document:
        """A flow, with what collects it."""
        found = self._of(self.flows, name)
        parents = [f["id"] for f in self.flows.values() if name in _members(f)]
        return {**found, "collected_by": parents} if parents else dict(found)

    def source(self, name: str) -> Document:
        """A source, with what its flows say of collections."""
        found = dict(self._of(self.sources, name))
        members: dict[str, Document] = {}
        parents: dict[str, None] = {}
        for flow in self.flows.values():
            for item in flow.get("flow_collection") or []:
                child = self.flows.get(item["id"])
                if child is None:
                    continue
                if flow["source_id"] == name:
                    members[child["source_id"]] = {**item, "id": child["source_id"]}
                if child["source_id"] == name:
                    parents[flow["source_id"]] = None
        if members:
            found["source_collection"] = list(members.values())
        return {**found, "collected_by": list(parents)} if parents else found

    def listed(self, kind: str, query: Mapping[str, str]) -> list[str]:
        """The ids of flows or sources, oldest first. A filter by tag compares one plain value; what this
        version has no filter for is passed over."""
        held = self.flows if kind == "flows" else self.sources
        return [name for name, found in held.items() if _passes(found, query)]

    def referring(self, name: str) -> list[str]:
        """The flows that use an object."""
        return [
            flow
            for flow, segments in self.segments.items()
            if flow in self.flows and any(s["object_id"] == name for s in segments)
        ]

    def object(self, name: str, query: Mapping[str, str]) -> tuple[Document, list[str]]:
        """An object, and the flows that use it."""
        flows = self.referring(name)
        if not flows:
            raise No(404)
        kept = self.objects.get(name) or Media(None)
        found = {"id": name, "get_urls": self._urls(name, [], query)}
        return found if kept.first is None else {**found, "first_referenced_by_flow": kept.first}, flows

    def segments_of(self, flow_id: str, query: Mapping[str, str]) -> list[Document]:
        """Segments in order of time; none of a flow that there is not."""
        found = sorted(self._chosen(flow_id, query), key=lambda s: _range(s).start_ns or 0)
        if query.get("reverse_order") == "true":
            found.reverse()
        return [
            {**s, "get_urls": self._urls(s["object_id"], s.get("get_urls", []), query)}
            if s["object_id"] in self.objects
            else s
            for s in found
        ]

    def _chosen(self, flow_id: str, query: Mapping[str, str]) -> list[Document]:
        found = self.segments.get(flow_id, [])
        if "timerange" in query:
            wanted = TimeRange.parse(query["timerange"])
            found = [s for s in found if _range(s).overlaps(wanted)]
        if "object_id" in query:
            found = [s for s in found if s["object_id"] == query["object_id"]]
        return list(found)

    def _urls(self, name: str, given: Iterable[Document], query: Mapping[str, str]) -> list[Document]:
        kept = self.objects.get(name)
        found = [*given, *(kept.urls if kept else [])]
        if kept is not None and kept.backend is not None and query.get("presigned") != "false":
            told = {"label": kept.backend["label"], "storage_id": kept.backend["id"], "controlled": True}
            found.insert(0, {"url": f"{self.url}/media/{name}?sig=1", "presigned": True, **told})
        for asked, key in (("accept_get_urls", "label"), ("accept_storage_ids", "storage_id")):
            if asked in query:
                found = [url for url in found if url.get(key) in query[asked].split(",")]
        if query.get("verbose_storage") == "true":
            return found
        return [{k: v for k, v in url.items() if k not in ("storage_id", "controlled")} for url in found]

    # What changes

    def _open(self, kind: str, name: str) -> Document:
        """What may be changed, for a flow may be read only."""
        found = self._of(self.flows if kind == "flows" else self.sources, name)
        if kind == "flows" and found.get("read_only"):
            raise No(403)
        return found

    def put_flow(self, name: str, document: Document) -> bool:
        """Make or replace a flow; whether it is new."""
        if document["id"] != name:
            raise No(400)
        for key in ("source_id", "format"):
            document[key]
        for key, value in document.items():
            _check(key, value)
        before = self._open("flows", name) if name in self.flows else None
        self.flows[name] = document
        source = document["source_id"]
        if source not in self.sources:
            self.sources[source] = {"id": source, "format": document["format"]} | {
                key: document[key] for key in INHERITED if key in document
            }
            self.tell("sources/created", {"source": self.source(source)})
        self.tell(f"flows/{'created' if before is None else 'updated'}", {"flow": self.flow(name)})
        if before is not None and before["source_id"] != source:
            self._leave(before["source_id"])
        return before is None

    def put(self, kind: str, name: str, key: str, value: Any) -> None:
        """Set a property."""
        found = self._of(self.flows, name) if key == "read_only" else self._open(kind, name)
        _check(key, value)
        found[key] = value
        self._updated(kind, name)

    def drop(self, kind: str, name: str, key: str) -> None:
        """Take a property away."""
        self._open(kind, name).pop(key, None)
        self._updated(kind, name)

    def tag(self, kind: str, name: str, tag: str, value: Any) -> None:
        """Set a tag, or take it away for None."""
        found = self._open(kind, name)
        tags = dict(found.get("tags") or {})
        if value is None:
            if tags.pop(tag, None) is None:
                raise No(404)
        elif isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            tags[tag] = value
        else:
            raise No(400)
        found["tags"] = tags
        self._updated(kind, name)

    def delete_flow(self, name: str) -> None:
        """Delete a flow with its segments."""
        source = self._open("flows", name)["source_id"]
        self.delete_segments(name, {})
        del self.flows[name]
        for other in self.flows.values():
            if name in _members(other):
                other["flow_collection"] = [m for m in other["flow_collection"] if m["id"] != name]
        self.tell("flows/deleted", {"flow_id": name})
        self._leave(source)

    def delete_segments(self, flow_id: str, query: Mapping[str, str]) -> None:
        """Delete segments, and what nothing uses any more."""
        self._open("flows", flow_id)
        chosen = self._chosen(flow_id, query)
        self.segments[flow_id] = [s for s in self.segments.get(flow_id, []) if s not in chosen]
        for name in {s["object_id"] for s in chosen}:
            if not self.referring(name):
                self.objects.pop(name, None)
        if chosen:
            self.tell("flows/segments_deleted", {"flow_id": flow_id, "timerange": "_"})

    def allocate(self, asked: Document, fresh: Callable[[], str]) -> list[Document]:
        """Where to upload new objects, or ones that there are already: nobody looks."""
        names = asked.get("object_ids") or [fresh() for _ in range(asked.get("limit", 1))]
        wanted = asked.get("storage_id")
        found = [b for b in self.backends if (b["id"] == wanted if wanted else b.get("default_storage"))]
        if not found:
            raise No(400)
        objects = []
        for name in names:
            self.objects.setdefault(name, Media(found[0]))
            url = {"url": f"{self.url}/media/{name}?sig=1", "content-type": "video/mp2t"}
            objects.append({"object_id": name, "put_url": url})
        return objects

    def add(self, flow_id: str, segment: Document) -> None:
        """Add a segment."""
        self._open("flows", flow_id)
        name, extent = segment["object_id"], TimeRange.parse(segment["timerange"])
        brought = [{**url, "controlled": False} for url in segment.pop("get_urls", [])]
        there = name in self.objects or bool(self.referring(name))
        if not there and not brought:
            raise No(400)
        if any(_range(s).overlaps(extent) for s in self.segments.get(flow_id, [])):
            raise No(400)
        kept = self.objects.setdefault(name, Media(None))
        kept.urls += brought
        kept.first = kept.first or flow_id
        self.segments.setdefault(flow_id, []).append(segment)
        shown = {**segment, "get_urls": self._urls(name, [], {})}
        self.tell("flows/segments_added", {"flow_id": flow_id, "segments": [shown]})

    def _of(self, held: dict[str, Document], name: str) -> Document:
        if name not in held:
            raise No(404)
        return held[name]

    def _leave(self, source: str) -> None:
        if source in self.sources and not any(f["source_id"] == source for f in self.flows.values()):
            del self.sources[source]
            self.tell("sources/deleted", {"source_id": source})

    def _updated(self, kind: str, name: str) -> None:
        one = self.flow if kind == "flows" else self.source
        self.tell(f"{kind}/updated", {kind[:-1]: one(name)})


def _check(key: str, value: Any) -> None:
    wanted = KINDS.get(key)
    if wanted is not None and (not isinstance(value, wanted) or (wanted is int and value is True)):
        raise No(400)
    if key == "flow_collection" and not all(isinstance(m["id"], str) for m in value):
        raise No(400)


def _members(flow: Document) -> list[str]:
    return [item["id"] for item in flow.get("flow_collection") or []]


def _range(segment: Document) -> TimeRange:
    return TimeRange.parse(segment["timerange"])


def _passes(document: Document, query: Mapping[str, str]) -> bool:
    tags = document.get("tags") or {}
    for name, value in query.items():
        if name in PLAIN_FILTERS and document.get(name) != value:
            return False
        if name.startswith("tag.") and tags.get(name[4:]) != value:
            return False
        if name.startswith("tag_exists.") and (name[11:] in tags) is not (value == "true"):
            return False
    return True
