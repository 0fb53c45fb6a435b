"""What the proxy must remember about a foreign upstream: which flow an object was allocated for, the classes
of a flow whose deletion was asked for, those of flows and sources that may be gone when their events are
delivered, and whether the upstream was asked to tell of events. TAMS tells none of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import orjson

from proxy.upstream.messages import Remembered
from proxy.upstream.protocol import Ref

KEPT_S = 30 * 86_400
T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS allocated
  (upstream TEXT, object_id TEXT, flow_id TEXT, at_s INTEGER, PRIMARY KEY (upstream, object_id))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions
  (upstream TEXT, id TEXT, classes TEXT, at_s INTEGER, PRIMARY KEY (upstream, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remembered
  (upstream TEXT, kind TEXT, id TEXT, said TEXT, PRIMARY KEY (upstream, kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reborn (upstream TEXT, id TEXT, PRIMARY KEY (upstream, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receiving
  (upstream TEXT PRIMARY KEY, registered INTEGER NOT NULL DEFAULT 0, until_s INTEGER NOT NULL DEFAULT 0)
  WITHOUT ROWID;
"""


class Receiving(NamedTuple):
    """Whether a receiver of events may be registered at the upstream, and until when (Unix seconds) somebody
    listens to live events."""

    registered: bool = False
    until_s: int = 0


class Ledger(Protocol):
    """Remembers for one upstream, across restarts."""

    async def allocate(self, object_ids: Sequence[str], flow_id: str) -> None:
        """Objects were allocated for a flow; the first allocation of an id counts."""
        ...

    async def allocated(self, object_ids: Sequence[str]) -> dict[str, str]:
        """The flow of each object that was allocated through here."""
        ...

    async def forget(self, flow_id: str) -> None:
        """A flow is made: what was allocated for one of that id before is not its own, nor is what that one
        was the first to refer to, if there is known to have been one."""
        ...

    async def reborn(self, flow_ids: Iterable[str]) -> frozenset[str]:
        """Those that have the id of a flow that is gone."""
        ...

    async def delete(self, request_id: str, classes: frozenset[str]) -> None:
        """The deletion of a flow of these classes, or of its segments, goes on as that request."""
        ...

    async def deletion(self, request_id: str) -> frozenset[str] | None:
        """The classes of that flow, None where the request was not made through here."""
        ...

    async def remember(self, ref: Ref, said: Remembered) -> None:
        """A flow or a source as it is now."""
        ...

    async def remembered(self, ref: Ref) -> Remembered | None:
        """A flow or a source as it was last remembered."""
        ...

    async def receiving(self) -> Receiving:
        """How it is with events."""
        ...

    async def register(self, registered: bool) -> None:
        """A receiver is registered from now on, or none any more."""
        ...

    async def listen(self, until_s: int) -> None:
        """Somebody listens to live events until then at least."""
        ...


class SqliteLedger:
    """A ledger in a file, for upstreams told apart by `upstream`. `clock` gives Unix seconds.

    Allocations and deletions are kept for 30 days: longer than any object stays unregistered. What there was
    once is kept for good.
    """

    def __init__(self, path: Path, upstream: str, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._connection = self._thread.submit(_opened, path, clock()).result()

    def close(self) -> None:
        """Close the file."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def allocate(self, object_ids: Sequence[str], flow_id: str) -> None:
        """As `Ledger.allocate`; durable when it returns."""
        rows = [(self._upstream, name, flow_id, int(self._clock())) for name in object_ids]
        await self._do(lambda c: c.executemany("INSERT OR IGNORE INTO allocated VALUES (?, ?, ?, ?)", rows))

    async def allocated(self, object_ids: Sequence[str]) -> dict[str, str]:
        """As `Ledger.allocated`."""
        if not object_ids:
            return {}
        return await self._do(lambda c: self._found(c, object_ids))

    def _found(self, connection: sqlite3.Connection, object_ids: Sequence[str]) -> dict[str, str]:
        asked = "SELECT flow_id FROM allocated WHERE upstream = ? AND object_id = ?"
        rows = {name: connection.execute(asked, (self._upstream, name)).fetchone() for name in object_ids}
        return {name: row[0] for name, row in rows.items() if row is not None}

    async def forget(self, flow_id: str) -> None:
        """As `Ledger.forget`."""
        asked = "UPDATE allocated SET flow_id = '' WHERE upstream = ? AND flow_id = ?"
        marked = "INSERT OR IGNORE INTO reborn SELECT upstream, id FROM remembered"
        marked += " WHERE upstream = ? AND kind = 'flow' AND id = ?"

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(asked, (self._upstream, flow_id))
            connection.execute(marked, (self._upstream, flow_id))

        await self._do(step)

    async def reborn(self, flow_ids: Iterable[str]) -> frozenset[str]:
        """As `Ledger.reborn`."""
        asked = "SELECT 1 FROM reborn WHERE upstream = ? AND id = ?"
        wanted = set(flow_ids)

        def step(connection: sqlite3.Connection) -> frozenset[str]:
            known = (name for name in wanted if connection.execute(asked, (self._upstream, name)).fetchone())
            return frozenset(known)

        return await self._do(step) if wanted else frozenset()

    async def delete(self, request_id: str, classes: frozenset[str]) -> None:
        """As `Ledger.delete`; durable when it returns."""
        row = (self._upstream, request_id, orjson.dumps(sorted(classes)).decode(), int(self._clock()))
        await self._do(lambda c: c.execute("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?, ?)", row))

    async def deletion(self, request_id: str) -> frozenset[str] | None:
        """As `Ledger.deletion`."""
        asked = "SELECT classes FROM deletions WHERE upstream = ? AND id = ?"
        row = await self._do(lambda c: c.execute(asked, (self._upstream, request_id)).fetchone())
        return None if row is None else frozenset(orjson.loads(row[0]))

    async def remember(self, ref: Ref, said: Remembered) -> None:
        """As `Ledger.remember`."""
        text = orjson.dumps([sorted(said.classes), said.source_id, said.collected_by]).decode()
        row = (self._upstream, *ref, text)
        await self._do(lambda c: c.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?, ?, ?)", row))

    async def remembered(self, ref: Ref) -> Remembered | None:
        """As `Ledger.remembered`."""
        asked = "SELECT said FROM remembered WHERE upstream = ? AND kind = ? AND id = ?"
        row = await self._do(lambda c: c.execute(asked, (self._upstream, *ref)).fetchone())
        if row is None:
            return None
        classes, source_id, collected_by = orjson.loads(row[0])
        return Remembered(frozenset(classes), source_id, tuple(collected_by))

    async def receiving(self) -> Receiving:
        """As `Ledger.receiving`."""
        asked = "SELECT registered, until_s FROM receiving WHERE upstream = ?"
        row = await self._do(lambda c: c.execute(asked, (self._upstream,)).fetchone())
        return Receiving() if row is None else Receiving(bool(row[0]), row[1])

    async def register(self, registered: bool) -> None:
        """As `Ledger.register`."""
        await self._set("registered", int(registered))

    async def listen(self, until_s: int) -> None:
        """As `Ledger.listen`."""
        await self._set("until_s", until_s)

    async def _set(self, column: str, value: int) -> None:
        asked = (
            f"INSERT INTO receiving (upstream, {column}) VALUES (?, ?)"
            f" ON CONFLICT (upstream) DO UPDATE SET {column} = excluded.{column}"
        )
        await self._do(lambda c: c.execute(asked, (self._upstream, value)))

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def step() -> T:
            with self._connection:
                return work(self._connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, step)


def _opened(path: Path, now_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    with connection:
        for table in ("allocated", "deletions"):
            connection.execute(f"DELETE FROM {table} WHERE at_s < ?", (int(now_s) - KEPT_S,))
    return connection
