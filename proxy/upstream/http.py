"""A TAMS elsewhere, behind the upstream protocol.

What the embedded store gives in one transaction is asked for here in as few calls as can be: one for a
resource and its properties, whose classes are in the body; one more for segments, after them. Writes look
again right before they go out; between that look and the write another one can slip in, which nothing in
TAMS can prevent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from proxy.errors import BadRequest, NotSupported, UpstreamTimeout
from proxy.rules import EXTENSIONS
from proxy.upstream.answers import Answer, refusal
from proxy.upstream.changes import Changes
from proxy.upstream.client import SENT
from proxy.upstream.lookups import Known
from proxy.upstream.parts import TEMPLATES, Parts, lacking
from proxy.upstream.protocol import MediaFact, Ref, Request, View
from proxy.upstream.reads import Reads
from proxy.upstream.urls import Backend


class HttpUpstream:
    """An `Upstream` over HTTP. `deadline_s`: how long one call may take with all that it asks for."""

    def __init__(self, parts: Parts, deadline_s: float) -> None:
        self._parts = parts
        self._reads = Reads(parts)
        self._changes = Changes(parts)
        self._deadline_s = deadline_s

    async def call(self, request: Request) -> Answer:
        """Perform an operation. Raises `errors.NotSupported` for what the upstream lacks."""
        operation = request.operation
        if operation not in TEMPLATES or "webhooks" in operation:
            raise NotSupported("Webhooks are not kept upstream.")
        sent: list[None] = []
        counting = SENT.set(sent)
        try:
            return await self._answer(request)
        finally:
            SENT.reset(counting)
            request.more_calls = max(len(sent) - 1, 0)

    async def _answer(self, request: Request) -> Answer:
        operation = request.operation
        async with _Deadline(self._deadline_s):
            said = await self.lacks(operation)
            if said is not None:
                raise NotSupported(said)
            features = await self._parts.features()
            lacks = features.lacks_of(operation, dict(request.query))
            if lacks is not None:
                raise NotSupported(f"The upstream lacks {lacks}.")
            try:
                if operation.startswith("GET_"):
                    return await self._reads.answer(request)
                return await self._changes.answer(request)
            except BadRequest as exc:
                # Of the request alone, whatever it names: the same with and without the resource.
                return refusal(400, exc.summary, self._parts.clock.stamp())

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        """As `protocol.Upstream.look_up`; each resource is a call, many of them at once."""
        async with _Deadline(self._deadline_s):
            return await self._parts.lookups.look_up(refs, objects, view)

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        """Nothing: media of a foreign upstream are reached by the URLs that it gives out."""
        return None

    async def backends(self) -> Sequence[Backend]:
        """All storage backends, at most five seconds old."""
        async with _Deadline(self._deadline_s):
            return await self._parts.backends()

    async def lacks(self, operation: str) -> str | None:
        """As `protocol.Upstream.lacks`: what is ours alone, and what its version does not have."""
        if operation in EXTENSIONS:
            return lacking(operation)
        async with _Deadline(self._deadline_s):
            found = (await self._parts.features()).lacks(operation)
        return None if found is None else f"The upstream lacks {found}."

    async def check(self) -> None:
        """Raise what keeps the upstream from being used."""
        async with _Deadline(self._deadline_s):
            await self._parts.features()

    async def close(self) -> None:
        """Close its connections."""
        await self._parts.client.close()


class _Deadline:
    """A time limit whose end is an `UpstreamTimeout`."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: object
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, exc, None)
        except TimeoutError as late:
            raise UpstreamTimeout("The upstream did not answer in time.") from late
