"""Changes of classes that go on to the flows of a source and the members of a collection (A11)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.asked import Classes, Spread
from proxy.body import AUTH_CLASSES
from proxy.decide import Caller, Verdict, change_classes, judge
from proxy.rules import Action
from proxy.upstream.protocol import Expect, Ref, Request, Upstream, View

TRIES = 3
PAGE = 1000
_OPERATIONS = {"flow": ("flows-flowId", "flowId"), "source": ("sources-sourceId", "sourceId")}
Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Propagation:
    """Passes changes on, to `most` resources for one request."""

    most: int = 1000

    async def run(
        self,
        upstream: Upstream,
        caller: Caller,
        view: View,
        denying: Classes,
        actor: str,
        spreads: Iterable[Spread],
    ) -> list[Step]:
        """Pass changes on, one resource after the other, each as if the caller had made the change there.

        It ends at the first that the caller may not change or that the store refuses; what the caller
        does not see is as if it were not there. No resource is visited twice. Returns what was done, for
        the decision record.
        """
        work = _Work(upstream, caller, view, denying, actor)
        return await work.run(spreads, self.most)


class _Work:
    """One request's propagation."""

    def __init__(self, upstream: Upstream, caller: Caller, view: View, denying: Classes, actor: str) -> None:
        self._upstream = upstream
        self._caller = caller
        self._view = view
        self._denying = denying
        self._actor = actor

    async def run(self, spreads: Iterable[Spread], most: int) -> list[Step]:
        steps: list[Step] = []
        queue = deque(spreads)
        visited: set[Ref] = set()
        while queue:
            spread = queue.popleft()
            if not spread.below:
                if spread.ref in visited:
                    continue
                if len(visited) == most:
                    steps.append({"stopped": f"at {most} resources"})
                    return steps
                visited.add(spread.ref)
                changed = await self._follow(spread, steps)
                if changed is None:
                    return steps
                if not changed:
                    continue
            else:
                visited.add(spread.ref)
            queue += [
                Spread(ref, spread.added, spread.removed)
                for ref in await self._parts(spread.ref, most)
                if ref not in visited
            ]
        return steps

    async def _parts(self, ref: Ref, most: int) -> list[Ref]:
        """The members of a flow, the flows of a source that the caller sees."""
        kind, name = ref
        if kind == "flow":
            known = await self._upstream.look_up([ref], (), self._view)
            return [("flow", item["id"]) for item in known.collections.get(name, ())]
        found: list[Ref] = []
        page: str | None = None
        while len(found) <= most:
            query = [("source_id", name), ("limit", str(PAGE)), *([("page", page)] if page else ())]
            response = await self._upstream.call(
                Request("GET_flows", "/flows", {}, query, view=self._view, actor=self._actor)
            )
            if response.status != 200:
                break
            found += [("flow", item["id"]) for item in orjson.loads(response.body)]
            page = dict(response.headers).get("x-paging-nextkey")
            if page is None:
                break
        return found

    async def _follow(self, spread: Spread, steps: list[Step]) -> bool | None:
        """Change one resource: True when it was, False when there was nothing to do, None at a refusal."""
        for _ in range(TRIES):
            known = await self._upstream.look_up([spread.ref], (), self._view)
            before = known.classes.get(spread.ref)
            if before is None or judge(self._caller, Action.WRITE, before) is Verdict.HIDE:
                return False
            after = (before - spread.removed) | spread.added
            if after == before:
                return False
            problem = change_classes(self._caller, before, after, self._denying)
            status = 403 if problem else await self._put(spread.ref, before, after)
            if status == 409:
                continue
            done = status < 300
            steps.append(
                {
                    "resource": "/".join(spread.ref),
                    "before": sorted(before),
                    "after": sorted(after),
                    "verdict": "allow" if done else "deny",
                    "reason": problem or "",
                    "status": status,
                }
            )
            return True if done else None
        steps.append({"resource": "/".join(spread.ref), "verdict": "error", "status": 409})
        return None

    async def _put(self, ref: Ref, before: Classes, after: Classes) -> int:
        """Write the classes if they are still as they were decided on; the status of the answer."""
        stem, param = _OPERATIONS[ref[0]]
        method = "PUT" if after else "DELETE"
        response = await self._upstream.call(
            Request(
                f"{method}_{stem}-tags-name",
                f"/{ref[0]}s/{ref[1]}/tags/{AUTH_CLASSES}",
                {param: ref[1], "name": AUTH_CLASSES},
                (),
                orjson.dumps(sorted(after)),
                self._view,
                Expect({ref: before}),
                self._actor,
            )
        )
        return response.status
