"""kill -9 while the demo's ingest goes on: what was acknowledged is kept, what was not is whole or absent."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import httpx
import pytest

from proxy.demo.client import Client, path
from proxy.demo.ingest import Programme, allocate
from tests.end_to_end.server import Server

POINTS = 20
OBJECTS = 6
CHUNK_BYTES = 8192
FIRST_GUESS_S = 0.01

OPERATIONS = ("create", "allocate", "upload", "register")
MUST = frozenset(("create", "upload", "register"))
"""What was under way at one kill at least; allocating takes too short a time to be sure of."""


@dataclass
class Ingest:
    """One programme's ingest, as far as it is known to have come.

    `acknowledged`: how many segments the server said it had; the one after that may be there unsaid.
    """

    programme: Programme
    objects: list[bytes]
    created: int = 0
    places: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: int = 0

    @property
    def complete(self) -> bool:
        return self.acknowledged == len(self.objects)


@dataclass
class Point:
    """Where to kill: in the so-many-th operation of a kind from now on, a fraction of the way."""

    operation: str
    countdown: int
    fraction: float


class Crashes:
    """Ingests with a client until the server is killed at `point`; `doing` is what was under way then."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server = server
        self._client = client
        self._takes_s = dict.fromkeys(OPERATIONS, FIRST_GUESS_S)
        self.point: Point | None = None
        self.doing = ""

    def go_on(self, ingest: Ingest) -> None:
        """Ingest from where it stands to the end. `httpx.TransportError` when the server dies on the way.

        What was asked before and not answered is asked again; a second time must do no harm.
        """
        while ingest.created < 3:
            body = ingest.programme.flows(["news"])[ingest.created]
            with self._operation("create"):
                answer = self._client.call("PUT", path("flows", body["id"]), body)
            assert answer.status_code in (201, 204), answer.text
            ingest.created += 1
        if not ingest.places:
            with self._operation("allocate"):
                ingest.places = allocate(self._client, ingest.programme, OBJECTS)
        while not ingest.complete:
            self._store(ingest)
            ingest.acknowledged += 1

    def _store(self, ingest: Ingest) -> None:
        number = ingest.acknowledged
        place, data = ingest.places[number], ingest.objects[number]
        with self._operation("upload") as cut:
            uploaded = self._client.upload(place, _chunks(data, cut), len(data))
        flow = path("flows", ingest.programme.multi.flow_id, "segments")
        with self._operation("register"):
            answer = self._client.call("POST", flow, ingest.programme.segment(number, place["object_id"]))
        # 412: the bytes were frozen by a registration, whether that came to its end or not.
        assert uploaded.status_code in (200, 412), uploaded.text
        if answer.status_code != 201:
            # Refused because it had been registered before, unsaid: then it is there, once.
            assert (uploaded.status_code, answer.status_code) == (412, 400), answer.text
            assert len(listed(self._client, ingest)) == number + 1

    @contextmanager
    def _operation(self, kind: str) -> Iterator[Callable[[float], None]]:
        """Around an operation; what it gives kills an upload when it has come to the point's fraction."""
        self.doing = kind
        point = self._reached(kind)
        timer: threading.Timer | None = None
        if point is not None and kind != "upload":
            timer = threading.Timer(point.fraction * self._takes_s[kind], self._server.kill)
            timer.start()

        def cut(done: float) -> None:
            if point is not None and done >= point.fraction:
                self._server.kill()

        began = time.perf_counter()
        try:
            yield cut
            self._takes_s[kind] = time.perf_counter() - began
        finally:
            if timer is not None:
                timer.join()

    def _reached(self, kind: str) -> Point | None:
        if self.point is None or self.point.operation != kind:
            return None
        self.point.countdown -= 1
        return self.point if self.point.countdown == 0 else None


def _chunks(data: bytes, cut: Callable[[float], None]) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
        cut((start + CHUNK_BYTES) / len(data))


def points(random_: random.Random, count: int) -> list[Point]:
    """Each kind of operation in turn, at places drawn by lot."""
    return [
        Point(OPERATIONS[n % len(OPERATIONS)], random_.randint(1, 3), random_.random()) for n in range(count)
    ]


def missing(random_: random.Random, hit: set[str]) -> Iterator[Point]:
    """More points for what no kill came upon, since it was done sooner than the time before."""
    for _ in range(POINTS):
        for operation in sorted(MUST - hit):
            yield Point(operation, random_.randint(1, 3), random_.random())


def new_ingest(random_: random.Random, number: int) -> Ingest:
    objects = [random_.randbytes(random_.randint(1, 200_000)) for _ in range(OBJECTS)]
    return Ingest(Programme.new(f"Programme {number}", 1000 * number), objects)


def listed(client: Client, ingest: Ingest) -> list[dict[str, Any]]:
    query = {"presigned": "true", "include_object_timerange": "true", "limit": "4"}
    return client.listing(path("flows", ingest.programme.multi.flow_id, "segments"), query)


def check(client: Client, ingest: Ingest, *, cut_off: bool) -> None:
    """Everything acknowledged is there and whole; of the rest at most what was in flight."""
    for body in ingest.programme.flows(["news"])[: ingest.created]:
        got = client.expect(200, "GET", path("flows", body["id"]))
        assert {name: got.get(name) for name in body} == body
    if ingest.created < 3:
        return
    segments = listed(client, ingest)
    unsaid = len(segments) - ingest.acknowledged
    assert unsaid in ((0, 1) if cut_off else (0,))
    for number, segment in enumerate(segments):
        expected = ingest.programme.listed(number, ingest.places[number]["object_id"])
        assert {name: segment.get(name) for name in expected} == expected
        assert client.download(segment["get_urls"][0]["url"]) == ingest.objects[number]


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_a_kill_loses_no_acknowledged_segment_and_leaves_nothing_torn(server: Server, seed: int) -> None:
    random_ = random.Random(seed)
    ingests = [new_ingest(random_, 1)]
    hit = set[str]()
    with server.client("newsroom") as client:
        client.login()
        crashes = Crashes(server, client)
        for crashes.point in chain(points(random_, POINTS), missing(random_, hit)):
            with pytest.raises(httpx.TransportError):
                while True:
                    crashes.go_on(ingests[-1])
                    ingests.append(new_ingest(random_, len(ingests) + 1))
            hit.add(crashes.doing)
            server.start()
            check(client, ingests[-1], cut_off=True)
        crashes.point = None
        crashes.go_on(ingests[-1])
        for ingest in ingests:
            assert ingest.complete
            check(client, ingest, cut_off=False)
    assert hit >= MUST
