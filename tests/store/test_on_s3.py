"""The store with its media on S3 and on files at once; clients and S3 talk to each other directly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.media_servers import ACCESS, BUCKET, SECRET, Server, running
from tests.store.harness import ARCHIVE, LOCAL, Tams, object_path, running_tams, seconds

DAY_NS = 86_400 * 10**9
TYPE = {"Content-Type": "video/mp2t"}


@pytest.fixture(params=["moto", pytest.param("versitygw", marks=pytest.mark.slow)])
def s3(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "s3"
    folder.mkdir()
    with running(request.param, folder) as server:
        yield server


def backends(server: Server) -> list[dict[str, Any]]:
    """S3, the default, and files."""
    bucket = {"type": "s3", "bucket": BUCKET, "endpoints": (server.endpoint,), "prefix": "tams/"}
    keys = {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1"}
    return [
        {"id": LOCAL, "label": "s3", "default": True, **bucket, **keys},
        {"id": ARCHIVE, "label": "archive"},
    ]


@pytest.fixture
async def tams(s3: Server, tmp_path: Path) -> AsyncIterator[Tams]:
    async with running_tams(tmp_path / "store", backends=backends(s3), verify_uploads=True) as found:
        yield found


@pytest.fixture
async def web() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


async def place(tams: Tams, flow_id: str) -> tuple[str, str]:
    """A new object's id and where to upload it."""
    found = (await tams.post(f"/flows/{flow_id}/storage", {"limit": 1})).json()["media_objects"][0]
    assert found["put_url"]["content-type"] == "video/mp2t"
    return found["object_id"], found["put_url"]["url"]


async def urls(tams: Tams, object_id: str) -> dict[str, str]:
    """The signed URLs of an object, by label."""
    found = (await tams.get(f"{object_path(object_id)}?presigned=true"))["get_urls"]
    return {entry["label"]: entry["url"] for entry in found}


async def test_media_are_uploaded_verified_read_copied_and_removed(
    tams: Tams, s3: Server, web: httpx.AsyncClient
) -> None:
    """rules 47, 54, 55"""
    flow = await tams.flow()
    segments = f"/flows/{flow['id']}/segments"
    object_id, put = await place(tams, flow["id"])
    body = {"object_id": object_id, "timerange": seconds(0, 1)}
    assert put.startswith(f"{s3.endpoint}/{BUCKET}/tams/")
    await tams.post(segments, body, 400)
    assert (await web.put(put, content=b"bytes", headers=TYPE)).status_code == 200
    await tams.post(segments, body)
    assert (await tams.store.metadata.objects([object_id]))[object_id].size_bytes == 5
    # A replay changes nothing for readers: they are led to the version that was registered.
    await web.put(put, content=b"other bytes", headers=TYPE)
    signed = (await urls(tams, object_id))["s3"]
    assert (await web.get(signed)).content == b"bytes"
    assert (await web.get(signed, headers={"Range": "bytes=1-2"})).content == b"yt"
    instances = f"{object_path(object_id)}/instances"
    await tams.post(instances, {"storage_id": ARCHIVE})
    await tams.work()
    found = await urls(tams, object_id)
    assert (await tams.client.get(found["archive"])).content == b"bytes"
    await tams.delete(f"{instances}?storage_id={LOCAL}")
    await tams.work()
    assert set(await urls(tams, object_id)) == {"archive"}
    assert (await web.get(signed)).status_code == 404
    await tams.post(instances, {"storage_id": LOCAL})
    await tams.work()
    assert (await web.get((await urls(tams, object_id))["s3"])).content == b"bytes"
    await tams.delete(f"/flows/{flow['id']}")
    tams.later_ns = 2 * DAY_NS
    await tams.work()
    for media in tams.store.backends.values():
        keys = media.keys()
        assert not [key async for key in keys]


async def test_what_was_never_registered_is_collected(tams: Tams, web: httpx.AsyncClient) -> None:
    """rule 50"""
    flow = await tams.flow()
    _, put = await place(tams, flow["id"])
    await web.put(put, content=b"bytes", headers=TYPE)
    await tams.work()
    keys = tams.store.backends[LOCAL].keys()
    assert len([key async for key in keys]) == 1
    tams.later_ns = 2 * DAY_NS
    await tams.work()
    keys = tams.store.backends[LOCAL].keys()
    assert not [key async for key in keys]
