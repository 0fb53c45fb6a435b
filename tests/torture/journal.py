"""Clients that note what they were told: after a crash, all of it must be true.

Each works on its own until the server is gone (`Gone`). What was asked and not answered may have been done
or not; `check` accepts either, notes which, and raises `Broken` for anything else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Protocol

import httpx

from proxy.demo.client import Client, Refused, path
from proxy.demo.ingest import Programme, allocate
from store.client import RestStore, StoreError
from tests.torture.report import Broken

KEYS = 40
FLOWS = 8
SEGMENTS = 3
FINISHED_WITHIN_S = 60


class Gone(Exception):
    """The server went away in the middle of a call."""


class Worker(Protocol):
    """A client with a journal. `acknowledged`: how many of its writes it was told had been done."""

    acknowledged: int

    def step(self) -> None:
        """One piece of work. Raises `Gone`."""
        ...

    def check(self) -> None:
        """Compare the server with the journal. Raises `Broken`."""
        ...


class KeyWorker:
    """Overwrites and deletes objects by key."""

    def __init__(self, url: str, key: str, prefix: str, random_: random.Random) -> None:
        self._store = RestStore.create(f"{url}/store", key, timeout=60, max_retries=0)
        self._prefix = prefix
        self._random = random_
        self._may_be: dict[str, set[bytes | None]] = {}
        self.acknowledged = 0

    def step(self) -> None:
        name = f"{self._prefix}{self._random.randrange(KEYS)}"
        new = self._content()
        before = self._may_be.get(name, {None})
        self._may_be[name] = before | {new}
        with _gone():
            if new is None:
                self._delete(name, before)
            else:
                self._store.put(name, new)
        self._may_be[name] = {new}
        self.acknowledged += 1

    def write(self, count: int) -> None:
        """So many pieces of work, while all is well."""
        for _ in range(count):
            self.step()

    def try_to_write(self, count: int, refusals: Set[int], size_bytes: int = 5) -> int:
        """Try to write while little or nothing can be kept; how often that was refused.

        Raises `Broken` when a write is refused with another status than these.
        """
        refused = 0
        for number in range(count):
            name, new = f"{self._prefix}{number}", self._random.randbytes(size_bytes)
            before = self._may_be.get(name, {None})
            self._may_be[name] = before | {new}
            status = self._status_of_put(name, new)
            if status == 200:
                self._may_be[name] = {new}
            elif status in refusals:
                refused += 1
            else:
                raise Broken(f"a write that cannot be kept is answered {status}")
        return refused

    def writable(self) -> bool:
        """Whether a write is done again."""
        name, new = f"{self._prefix}again", b"again"
        self._may_be[name] = {None, new}
        return self._status_of_put(name, new) == 200

    def check(self) -> None:
        with _gone():
            listed = set(self._store.keys(self._prefix))
            for name, may_be in self._may_be.items():
                found = self._read(name)
                if found not in may_be:
                    raise Broken(f"{name}: {_told(found)}, and could be {[_told(one) for one in may_be]}")
                if (found is not None) != (name in listed):
                    raise Broken(f"{name}: listed differently from what can be read")
                self._may_be[name] = {found}

    def _status_of_put(self, name: str, content: bytes) -> int:
        try:
            self._store.put(name, content)
        except StoreError as exc:
            return exc.status
        return 200

    def _content(self) -> bytes | None:
        kind = self._random.random()
        if kind < 0.2:
            return None
        return self._random.randbytes(self._random.randrange(200 if kind < 0.7 else 300_000))

    def _delete(self, name: str, before: set[bytes | None]) -> None:
        try:
            self._store.delete(name)
        except KeyError:
            if None not in before:
                raise Broken(f"{name}: is not there to be deleted") from None

    def _read(self, name: str) -> bytes | None:
        try:
            return self._store.get(name)
        except KeyError:
            return None


class FlowWorker:
    """Creates flows with media, and deletes them again.

    A deletion that was acknowledged comes to its end, if later; what is left keeps its bytes.
    """

    def __init__(self, client: Client, random_: random.Random) -> None:
        self._client = client
        self._random = random_
        self._kept: list[tuple[Programme, list[bytes]]] = []
        self._going: list[Programme] = []
        self._unsure: list[Programme] = []
        self.created: set[str] = set()
        self.acknowledged = 0

    def step(self) -> None:
        with _gone():
            if len(self._kept) >= FLOWS and self._random.random() < 0.6:
                self._delete(*self._kept.pop(self._random.randrange(len(self._kept))))
            else:
                self.make()

    def check(self) -> None:
        with _gone():
            for programme in self._unsure:
                # Whatever came of it: deleting it again must work, or find nothing.
                self._ended(programme, self._ask_away(programme))
            self._unsure.clear()
            for programme in self._going:
                self._await_absence(programme)
            self._going.clear()
            for programme, objects in self._kept:
                self._compare(programme, objects)

    def make(self) -> None:
        """Create a programme's flows, and store its media."""
        programme = Programme.new("Torture", 0)
        objects = [self._random.randbytes(self._random.randrange(1, 60_000)) for _ in range(SEGMENTS)]
        self._unsure.append(programme)
        for body in programme.flows(["news"]):
            self._client.expect(201, "PUT", path("flows", body["id"]), body)
            self.created.add(body["id"])
            self.acknowledged += 1
        flow = path("flows", programme.multi.flow_id, "segments")
        for number, place in enumerate(allocate(self._client, programme, SEGMENTS)):
            uploaded = self._client.upload(place, objects[number], len(objects[number]))
            if uploaded.status_code != 200:
                raise Broken(f"an upload is answered {uploaded.status_code}")
            self._client.expect(201, "POST", flow, programme.segment(number, place["object_id"]))
            self.acknowledged += 2
        self._unsure.remove(programme)
        self._kept.append((programme, objects))

    def _delete(self, programme: Programme, objects: list[bytes]) -> None:
        self._unsure.append(programme)
        self._ended(programme, self._ask_away(programme))
        self._unsure.remove(programme)
        self.acknowledged += 1

    def _ask_away(self, programme: Programme) -> int:
        return self._client.call("DELETE", path("flows", programme.multi.flow_id)).status_code

    def _ended(self, programme: Programme, status: int) -> None:
        if status not in (202, 204, 404):
            raise Broken(f"a deletion is answered {status}")
        self._going.append(programme)

    def _await_absence(self, programme: Programme) -> None:
        until = time.monotonic() + FINISHED_WITHIN_S
        while self._client.call("GET", path("flows", programme.multi.flow_id)).status_code != 404:
            if time.monotonic() > until:
                raise Broken("a flow is still there though its deletion was acknowledged")
            time.sleep(0.1)

    def _compare(self, programme: Programme, objects: list[bytes]) -> None:
        flow = path("flows", programme.multi.flow_id)
        if self._client.call("GET", flow).status_code != 200:
            raise Broken("a flow that was acknowledged is lost")
        listed = self._client.listing(f"{flow}/segments", {"presigned": "true"})
        if len(listed) != len(objects):
            raise Broken(f"{len(listed)} segments of {len(objects)} that were acknowledged")
        for segment, expected in zip(listed, objects, strict=True):
            if self._client.download(segment["get_urls"][0]["url"]) != expected:
                raise Broken("the bytes of an acknowledged segment are not those that were uploaded")


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as exc:
        raise Gone from exc
    except StoreError as exc:
        if exc.status:
            raise Broken(f"{exc.status}: {exc.message}") from exc
        raise Gone from exc
    except Refused as exc:
        failure = exc.__cause__ and exc.__cause__.__cause__
        if not isinstance(failure, httpx.TransportError):
            raise
        # Killed while it was asked for a token.
        raise Gone from exc


def _told(content: bytes | None) -> str:
    return "absent" if content is None else f"{len(content)} bytes"
