"""The rules of authorization as a plain program over sets: written from the rules, not from the proxy.

It keeps a whole little store in dictionaries and says what each request must answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CLASSES = ("a", "b", "v", "shared", "x")
RELATIONS = ("reader", "writer", "deleter", "granter", "denied")
Grant = tuple[str, str, str]
"""Who, relation, class."""


@dataclass
class Flow:
    """A flow, with its segments as object ids by slot of time."""

    id: str
    source: str
    classes: set[str]
    members: list[str] = field(default_factory=list)
    segments: dict[int, str] = field(default_factory=dict)
    label: str = ""


@dataclass
class Media:
    """An object: the slot of time that it fills, and labels of the URLs that clients gave it."""

    id: str
    slot: int
    owner: Flow
    registered: bool = False
    labels: list[str] = field(default_factory=list)


@dataclass
class Model:
    """What is there, and who may do what with each class. `flows` and `sources` in order of creation."""

    grants: set[Grant]
    creators: frozenset[str]
    defaults: dict[str, str]
    admin: str = "admin"
    flows: dict[str, Flow] = field(default_factory=dict)
    sources: dict[str, set[str]] = field(default_factory=dict)
    media: dict[str, Media] = field(default_factory=dict)

    # Permissions

    def can(self, who: str, relation: str, classes: set[str]) -> bool:
        """Whether somebody may do something to what has these classes."""
        if who == self.admin:
            return True
        if any((who, "denied", c) in self.grants for c in classes):
            return False
        return any((who, relation, c) in self.grants for c in classes)

    def any(self, who: str, classes: set[str]) -> bool:
        return any(self.can(who, relation, classes) for relation in ("reader", "writer", "deleter"))

    def status(self, who: str, relation: str, classes: set[str] | None) -> int:
        """200, 403, or 404 for what is hidden or absent."""
        if classes is None or not self.any(who, classes):
            return 404
        return 200 if self.can(who, relation, classes) else 403

    def assigns(self, who: str, name: str) -> bool:
        if who == self.admin:
            return True
        held = any((who, relation, name) in self.grants for relation in ("writer", "granter"))
        return held and (who, "denied", name) not in self.grants

    def may_change(self, who: str, before: set[str], after: set[str]) -> bool:
        if who == self.admin or before == after:
            return True
        gains = any(
            self.can(who, r, after) and not self.can(who, r, before) for r in ("reader", "writer", "deleter")
        )
        freed = any(relation == "denied" and c in before - after for _, relation, c in self.grants)
        return (
            self.can(who, "writer", before)
            and bool(after)
            and all(self.assigns(who, c) for c in before ^ after)
            and not gains
            and not freed
        )

    # What is seen

    def sees(self, who: str, flow_id: str) -> bool:
        return flow_id in self.flows and self.can(who, "reader", self.flows[flow_id].classes)

    def listed(self, who: str) -> list[str]:
        """Flows, newest first."""
        return [f for f in reversed(self.flows) if self.sees(who, f)]

    def listed_sources(self, who: str) -> list[str]:
        return [s for s in reversed(self.sources) if self.can(who, "reader", self.sources[s])]

    def members_seen(self, who: str, flow_id: str) -> list[str]:
        return [m for m in self.flows[flow_id].members if self.sees(who, m)]

    def parents_seen(self, who: str, flow_id: str) -> set[str]:
        return {f.id for f in self.flows.values() if flow_id in f.members and self.sees(who, f.id)}

    def referring(self, object_id: str) -> set[str]:
        return {f.id for f in self.flows.values() if object_id in f.segments.values()}

    def object_status(self, who: str, object_id: str) -> int:
        found = self.media.get(object_id)
        there = found is not None and found.registered and bool(self.referring(object_id))
        if not there:
            return 404
        return 200 if any(self.sees(who, f) for f in self.referring(object_id)) or who == self.admin else 404

    # Writes: the status, and what is there afterwards

    def members_allowed(self, who: str, wanted: list[str]) -> bool:
        return all(self.sees(who, m) for m in wanted)

    def join(self, who: str, source: str) -> int:
        """A flow comes to a source."""
        if source in self.sources:
            return self.status(who, "writer", self.sources[source])
        return 200 if who == self.admin or who in self.creators else 403

    def put(
        self, who: str, flow_id: str, source: str, classes: set[str] | None, wanted: list[str], label: str
    ) -> int:
        """PUT of a flow."""
        flow = self.flows.get(flow_id)
        return (
            self._create(who, flow_id, source, classes, wanted, label)
            if flow is None
            else self._replace(who, flow, source, classes, wanted, label)
        )

    def _create(
        self, who: str, flow_id: str, source: str, classes: set[str] | None, wanted: list[str], label: str
    ) -> int:
        joined = self.join(who, source)
        if joined != 200:
            return joined
        if not classes:
            default = self.defaults.get(who)
            classes = {default} if default is not None and self.assigns(who, default) else set()
            if not classes and who != self.admin:
                return 403
        elif not all(self.assigns(who, c) for c in classes):
            return 403
        if not self.members_allowed(who, wanted):
            return 400
        self.flows[flow_id] = Flow(flow_id, source, set(classes), list(wanted), label=label)
        self.sources.setdefault(source, set(classes))
        return 201

    def _replace(
        self, who: str, flow: Flow, source: str, classes: set[str] | None, wanted: list[str], label: str
    ) -> int:
        status = self.status(who, "writer", flow.classes)
        if status != 200:
            return status
        after = flow.classes if classes is None else classes
        if not self.may_change(who, flow.classes, after):
            return 403
        if source != flow.source:
            joined = self.join(who, source)
            if joined != 200:
                return joined
        if not self.members_allowed(who, wanted):
            return 400
        self.collect(who, flow, wanted)
        flow.classes, flow.label = set(after), label
        if source != flow.source:
            self.sources.setdefault(source, set(after))
            left, flow.source = flow.source, source
            self._leave(left)
        return 204

    def collect(self, who: str, flow: Flow, wanted: list[str]) -> None:
        """Replace the members that are seen; those that are not stay behind their neighbours."""
        result: list[str] = list(wanted)
        place = 0
        for member in flow.members:
            if not self.sees(who, member):
                result.insert(place, member)
                place += 1
            elif member in result:
                place = result.index(member) + 1
        flow.members = result

    def put_collection(self, who: str, flow_id: str, wanted: list[str] | None) -> int:
        """PUT of a flow's collection, None to delete it."""
        flow = self.flows.get(flow_id)
        status = self.status(who, "writer", flow.classes if flow else None)
        if flow is None or status != 200:
            return status
        if wanted is None:
            if self.members_seen(who, flow_id) != flow.members:
                return 403
            flow.members = []
            return 204
        if not self.members_allowed(who, wanted):
            return 400
        self.collect(who, flow, wanted)
        return 204

    def tag(self, who: str, kind: str, name: str, after: set[str]) -> int:
        """PUT of the tag of classes, or DELETE for none."""
        flow = self.flows.get(name) if kind == "flow" else None
        held = self.sources.get(name) if kind == "source" else (flow.classes if flow else None)
        status = self.status(who, "writer", held)
        if held is None or status != 200:
            return status
        if not self.may_change(who, held, after):
            return 403
        held.clear()
        held.update(after)
        return 204

    def register(self, who: str, flow_id: str, object_id: str) -> int:
        """POST of one segment that uses an object at its slot of time."""
        flow = self.flows.get(flow_id)
        status = self.status(who, "writer", flow.classes if flow else None)
        if flow is None or status != 200:
            return status
        found = self.media.get(object_id)
        if found is None or (found.registered and not self.referring(object_id)):
            return 400
        if not found.registered and found.owner is not flow:
            return 400
        if found.registered and self.object_status(who, object_id) != 200:
            return 400
        if found.slot in flow.segments:
            return 400
        found.registered = True
        flow.segments[found.slot] = object_id
        return 201

    def instance(self, who: str, object_id: str) -> int:
        """POST or DELETE of an instance: 200 where it may be."""
        found = self.media.get(object_id)
        refers = self.referring(object_id)
        if found is None or not found.registered or not refers:
            return 404
        if who == self.admin:
            return 200
        first = found.owner
        owned = self.flows.get(first.id) is first and first.id in refers
        owners = [first] if owned else [self.flows[f] for f in refers]
        if all(self.can(who, "writer", f.classes) for f in owners):
            return 200
        known = self.object_status(who, object_id) == 200 or any(self.any(who, f.classes) for f in owners)
        return 403 if known else 404

    def delete(self, who: str, flow_id: str, *, segments_only: bool) -> int:
        """DELETE of a flow, or of its segments."""
        flow = self.flows.get(flow_id)
        status = self.status(who, "deleter", flow.classes if flow else None)
        if flow is None or status != 200:
            return status
        flow.segments = {}
        # What nothing refers to any more is garbage, gone sooner or later: nothing is said of it.
        self.media = {m.id: m for m in self.media.values() if not m.registered or self.referring(m.id)}
        if not segments_only:
            del self.flows[flow_id]
            for other in self.flows.values():
                other.members = [m for m in other.members if m != flow_id]
            self._leave(flow.source)
        return 204

    def _leave(self, source: str) -> None:
        if not any(f.source == source for f in self.flows.values()):
            del self.sources[source]
