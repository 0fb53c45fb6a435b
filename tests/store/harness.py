"""A running store to test against, and short ways to put things into it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from store.app import Running, StoreApp, run_store
from store.core import Store
from store.keeping import BackendSettings
from store.settings import StoreSettings
from store.timerange import NS_PER_S, TimeRange
from store.work.jobs import JOBS

LOCAL = "11111111-1111-4111-8111-111111111111"
ARCHIVE = "22222222-2222-4222-8222-222222222222"
UNLABELLED = "33333333-3333-4333-8333-333333333333"
BACKENDS: tuple[dict[str, Any], ...] = (
    {"id": LOCAL, "label": "local", "default": True, "tags": {"site": "london", "tier": ["hot", "fast"]}},
    {"id": ARCHIVE, "label": "archive", "tags": {"site": "salford"}, "provider": "shelf", "region": "north"},
    {"id": UNLABELLED},
)
VIDEO = {"frame_width": 1280, "frame_height": 720, "frame_rate": {"numerator": 25}}
KEY = b"k" * 32
_ids = itertools.count(1)


def new_id() -> str:
    """A UUID that nothing has yet."""
    return str(uuid.UUID(int=next(_ids), version=4))


def video(flow_id: str | None = None, source_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A video flow; a property that is None is left out."""
    flow = {
        "id": flow_id or new_id(),
        "source_id": source_id or new_id(),
        "format": "urn:x-nmos:format:video",
        "codec": "video/h264",
        "container": "video/mp2t",
        "essence_parameters": VIDEO,
        **more,
    }
    return {name: value for name, value in flow.items() if value is not None}


def multi(flow_id: str | None = None, source_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A flow of several essences."""
    flow = video(flow_id, source_id, format="urn:x-nmos:format:multi", codec=None, essence_parameters=None)
    return {**flow, **more}


def seconds(start: int, stop: int) -> str:
    """The timerange from one second up to, and without, another."""
    return str(TimeRange(start * NS_PER_S, stop * NS_PER_S))


@dataclass
class Tams:
    """A client of a running store, and the store itself for what no client can do."""

    running: Running
    client: httpx.AsyncClient
    settings: StoreSettings
    later_ns: int = 0

    @property
    def store(self) -> Store:
        """The store, its clock put forward by `later_ns`."""
        store = self.running.store
        return replace(store, now_ns=lambda: self.running.store.now_ns() + self.later_ns)

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any call."""
        return await self.client.request(method, path, **more)

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        """The JSON at a path; parameters whose names are no identifiers go into the path."""
        response = await self.client.get(path, params=params or None)
        assert response.status_code == status, response.text
        return response.json()

    async def put(self, path: str, document: Any, status: int = 204) -> httpx.Response:
        """PUT JSON."""
        response = await self.client.put(path, json=document)
        assert response.status_code == status, response.text
        return response

    async def post(self, path: str, document: Any = None, status: int = 201) -> httpx.Response:
        """POST JSON, or nothing."""
        body = {} if document is None else {"json": document}
        response = await self.client.post(path, **body)
        assert response.status_code == status, response.text
        return response

    async def delete(self, path: str, status: int = 204) -> httpx.Response:
        """DELETE."""
        response = await self.client.delete(path)
        assert response.status_code == status, response.text
        return response

    async def flow(self, **more: Any) -> dict[str, Any]:
        """A video flow that was put."""
        flow = video(**more)
        await self.put(f"/flows/{flow['id']}", flow, 201)
        return flow

    async def collection(self, *members: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A multi flow that was put and collects others."""
        items = [{"id": member["id"], "role": f"r{number}"} for number, member in enumerate(members)]
        flow = multi(flow_collection=items, **more)
        await self.put(f"/flows/{flow['id']}", flow, 201)
        return flow

    async def upload(self, flow_id: str, data: bytes | None = b"bytes", **post: Any) -> str:
        """The id of a new object of a flow, its bytes uploaded unless they are None."""
        asked = post or {"limit": 1}
        if "object_ids" not in asked:
            asked["limit"] = 1
        answer = (await self.post(f"/flows/{flow_id}/storage", asked)).json()
        given = answer["media_objects"][0]
        if data is not None:
            put = given["put_url"]
            sent = await self.client.put(
                put["url"], content=data, headers={"Content-Type": put["content-type"]}
            )
            assert sent.status_code == 200, sent.text
        return str(given["object_id"])

    async def segment(self, flow_id: str, timerange: str, object_id: str | None = None, **more: Any) -> str:
        """Register a segment, on a new object unless one is named; the object's id."""
        object_id = object_id or await self.upload(flow_id)
        body = {"object_id": object_id, "timerange": timerange, **more}
        await self.post(f"/flows/{flow_id}/segments", body)
        return object_id

    async def segments(self, flow_id: str, **params: Any) -> list[dict[str, Any]]:
        """The segments of a flow."""
        found: list[dict[str, Any]] = await self.get(f"/flows/{flow_id}/segments", **params)
        return found

    async def work(self) -> None:
        """Do all background work that is to be done by now."""
        busy = True
        while busy:
            busy = False
            for job in JOBS:
                busy |= await job.run(self.store)

    async def contents(self) -> tuple[Any, ...]:
        """Everything a client can see but segments, and every file of media: to tell whether it changed."""
        listings = [
            (await self.client.get(path)).json()
            for path in ("/service", "/sources", "/flows", "/flow-delete-requests")
        ]
        for flow in listings[2]:
            listings.append((await self.client.get(f"/flows/{flow['id']}/segments?accept_get_urls=")).json())
        objects = await self.store.metadata.events(0, 100_000)
        return (*listings, len(objects))


def object_path(object_id: str) -> str:
    """The path of an object; dots are escaped too, for clients take them for steps."""
    return f"/objects/{quote(object_id, safe='').replace('.', '%2E')}"


def settings_of(folder: Path, *, backends: Sequence[dict[str, Any]] = BACKENDS, **more: Any) -> StoreSettings:
    """The settings of a store in a folder."""
    places = tuple(
        BackendSettings(**{"folder": folder / f"media-{number}", **backend})
        for number, backend in enumerate(backends)
    )
    chosen = {"data": folder, "public_url": "http://tams.test", "storage_backends": places, **more}
    return StoreSettings(_env_file=None, **chosen)


@asynccontextmanager
async def running_tams(folder: Path, **more: Any) -> AsyncIterator[Tams]:
    """A store in a folder, running; the same folder again is a restart."""
    settings = settings_of(folder, **more)
    keys = (KEY,)
    opened = run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=())
    async with opened as running:
        app = StoreApp(running, settings.max_body_bytes)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://tams.test") as client:
            yield Tams(running, client, settings)
