"""Rules 48-56 of TAMS 8.2: storage, objects, and deletion in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from store.errors import Unavailable
from store.timerange import NS_PER_S
from store.work.jobs import carry_out_deletions
from tests.store.harness import ARCHIVE, BACKENDS, LOCAL, UNLABELLED, Tams, object_path, running_tams, seconds

ABSENT = "99999999-9999-4999-8999-999999999999"
DAY_NS = 86_400 * NS_PER_S


def media_files(tams: Tams) -> int:
    """How many objects have bytes, on all storage backends."""
    folders = [Path(backend.folder) for backend in tams.settings.storage_backends if backend.folder]
    return sum(path.is_file() for folder in folders for path in (folder / "objects").rglob("*"))


async def registered(tams: Tams, flow_id: str, object_id: str) -> str:
    """An object after its registration."""
    count = len(await tams.segments(flow_id, limit=1000))
    return await tams.segment(flow_id, seconds(count, count + 1), object_id)


async def test_storage_takes_a_limit_or_ids(tams: Tams) -> None:
    """rule 48"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/storage"
    assert len((await tams.post(path, {"limit": 3})).json()["media_objects"]) == 3
    found = (await tams.post(path, {"object_ids": ["b", "a"]})).json()["media_objects"]
    assert [each["object_id"] for each in found] == ["b", "a"]
    assert (await tams.post(path, {"object_ids": []})).json()["media_objects"] == []
    for bad in (
        {"limit": 1, "object_ids": ["c"]},
        {"object_ids": ["a"]},
        {"object_ids": ["c", "a"]},
        {"object_ids": ["c", "c"]},
        {"object_ids": [""]},
        {"object_ids": ["x" * 1025]},
        {"limit": 0},
        {"limit": -1},
        {"storage_id": ABSENT},
        {"storage_id": "x"},
    ):
        await tams.post(path, bad, 400)
    await tams.post(path, {"object_ids": ["c"]})
    await tams.post(f"/flows/{ABSENT}/storage", {}, 404)


async def test_a_huge_limit_is_lowered(tams: Tams) -> None:
    """rule 48"""
    flow = await tams.flow()
    answer = await tams.post(f"/flows/{flow['id']}/storage", {"limit": 2**62, "presigned": False})
    assert len(answer.json()["media_objects"]) == 10_000


async def test_of_concurrent_allocations_of_an_id_one_succeeds(tams: Tams) -> None:
    """rule 48"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/storage"
    answers = await asyncio.gather(
        *(tams.request("POST", path, json={"object_ids": ["one"]}) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 5


async def test_without_a_default_backend_the_client_names_one(tmp_path: Path) -> None:
    """rule 48"""
    async with running_tams(tmp_path, backends=({**BACKENDS[0], "default": False},)) as tams:
        flow = await tams.flow()
        await tams.post(f"/flows/{flow['id']}/storage", {}, 400)
        await tams.post(f"/flows/{flow['id']}/storage", {"storage_id": LOCAL})


@pytest.mark.parametrize("presigned", [True, False, None])
async def test_the_upload_needs_only_its_content_type(tams: Tams, presigned: bool | None) -> None:
    """rule 49"""
    flow = await tams.flow()
    asked: dict[str, Any] = {"limit": 1} if presigned is None else {"limit": 1, "presigned": presigned}
    (given,) = (await tams.post(f"/flows/{flow['id']}/storage", asked)).json()["media_objects"]
    assert given["presigned"] is (presigned is not False)
    put = given["put_url"]
    assert put["content-type"] == flow["container"]
    assert put["headers"] == {"Content-Type": flow["container"]}
    assert ("signature=" in put["url"]) is given["presigned"]
    sent = await tams.client.put(put["url"], content=b"x", headers={"Content-Type": put["content-type"]})
    assert sent.status_code == 200 and sent.headers["etag"]
    await registered(tams, flow["id"], given["object_id"])
    (segment,) = await tams.segments(flow["id"], presigned="true")
    assert (await tams.client.get(segment["get_urls"][0]["url"])).content == b"x"


async def test_an_init_object_has_its_own_content_type(tams: Tams) -> None:
    """rule 49"""
    flow = await tams.flow()
    asked = {"limit": 1, "content_type": "video/mp4"}
    (given,) = (await tams.post(f"/flows/{flow['id']}/storage", asked)).json()["media_objects"]
    assert given["put_url"]["content-type"] == "video/mp4"
    await tams.post(f"/flows/{flow['id']}/storage", {"content_type": "mp4"}, 400)


async def test_an_unsigned_upload_goes_only_to_what_was_allocated(tams: Tams) -> None:
    """rule 49"""
    flow = await tams.flow()
    asked = {"limit": 1, "presigned": False}
    (given,) = (await tams.post(f"/flows/{flow['id']}/storage", asked)).json()["media_objects"]
    url = given["put_url"]["url"]
    stem, _, token = url.rpartition("/")
    for wrong in (f"{stem}/{token[:-4]}AAAA", f"{stem}/x", f"http://tams.test/media/{ABSENT}/{token}", stem):
        sent = await tams.client.put(wrong, content=b"x", headers={"Content-Type": "video/mp2t"})
        assert sent.status_code == 404, wrong
    sent = await tams.client.put(url, content=b"x", headers={"Content-Type": "text/html"})
    assert sent.status_code == 403
    assert media_files(tams) == 0


async def test_what_is_never_registered_is_collected_after_its_time(tams: Tams) -> None:
    """rule 50"""
    flow = await tams.flow()
    kept = await registered(tams, flow["id"], await tams.upload(flow["id"]))
    await tams.upload(flow["id"], object_ids=["never"])
    await tams.upload(flow["id"], data=None, object_ids=["not even uploaded"])
    tams.later_ns = DAY_NS
    await tams.work()
    assert media_files(tams) == 2
    await tams.post(f"/flows/{flow['id']}/storage", {"object_ids": ["never"]}, 400)
    tams.later_ns = 2 * DAY_NS
    await tams.work()
    assert media_files(tams) == 1
    await tams.post(f"/flows/{flow['id']}/storage", {"object_ids": ["never", "not even uploaded"]})
    await tams.get(object_path(kept))
    body = {"object_id": "never", "timerange": seconds(9, 10)}
    await tams.post(f"/flows/{flow['id']}/segments", body)


async def test_what_is_only_allocated_does_not_exist(tams: Tams) -> None:
    """rule 51"""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    for name in (object_id, "none"):
        path = object_path(name)
        await tams.get(path, 404)
        assert (await tams.request("HEAD", path)).status_code == 404
        await tams.post(f"{path}/instances", {"storage_id": ARCHIVE}, 404)
        await tams.post(f"{path}/instances", {"url": "http://a.test/x", "label": "l"}, 404)
        await tams.delete(f"{path}/instances?storage_id={LOCAL}", 404)
        await tams.delete(f"{path}/instances?label=l", 404)


async def test_media_objects_have_a_timerange_and_init_objects_none(tams: Tams) -> None:
    """rule 52"""
    flow = await tams.flow()
    init = await tams.upload(flow["id"], content_type="video/mp4")
    media = await tams.segment(flow["id"], seconds(0, 1), init_object_id=init)
    assert (await tams.get(object_path(media)))["timerange"] == seconds(0, 1)
    found = await tams.get(object_path(init))
    assert "timerange" not in found
    assert found["referenced_by_flows"] == [flow["id"]] == [found["first_referenced_by_flow"]]
    whole = await tams.get(object_path(media))
    assert whole["init_object"]["id"] == init
    assert {url["url"] for url in whole["init_object"]["get_urls"]} == {u["url"] for u in found["get_urls"]}


async def test_referring_flows_are_paged_and_filtered_by_tags(tams: Tams) -> None:
    """rule 53"""
    first = await tams.flow(tags={"kind": "a"})
    object_id = await tams.segment(first["id"], seconds(0, 1))
    flows = [first] + [await tams.flow(tags={"kind": ["b", "c"]}) for _ in range(4)]
    for flow in flows[1:]:
        await tams.segment(flow["id"], seconds(0, 1), object_id)
    path = object_path(object_id)
    seen, url = [], f"{path}?limit=2"
    while url:
        answer = await tams.request("GET", url)
        seen.append(answer.json()["referenced_by_flows"])
        assert answer.json()["first_referenced_by_flow"] == first["id"]
        assert answer.headers["x-paging-limit"] == "2"
        url = answer.links.get("next", {}).get("url")
    assert [len(page) for page in seen] == [2, 2, 1]
    assert sorted(sum(seen, [])) == sorted(flow["id"] for flow in flows)
    for query, count in (
        ("flow_tag.kind=a", 1),
        ("flow_tag.kind=a,c", 5),
        ("flow_tag_exists.kind=false", 0),
        ("flow_tag.kind=b&limit=3", 3),
    ):
        assert len((await tams.get(f"{path}?{query}"))["referenced_by_flows"]) == count, query
    await tams.get(f"{path}?flow_tag_exists.kind=x", 400)
    await tams.delete(f"/flows/{first['id']}")
    assert first["id"] not in (await tams.get(path))["referenced_by_flows"]


async def labels(tams: Tams, object_id: str) -> set[Any]:
    """The labels of an object's URLs."""
    return {url.get("label") for url in (await tams.get(object_path(object_id)))["get_urls"]}


async def test_a_copy_is_advertised_only_when_its_bytes_are_complete(tams: Tams) -> None:
    """rule 54"""
    flow = await tams.flow()
    init = await tams.upload(flow["id"], content_type="video/mp4")
    object_id = await tams.segment(flow["id"], seconds(0, 1), init_object_id=init)
    path = f"{object_path(object_id)}/instances"
    for bad in (
        {"storage_id": ABSENT},
        {"storage_id": "x"},
        {},
        {"storage_id": LOCAL},
        [],
        None,
        {"url": "x"},
    ):
        assert (await tams.request("POST", path, json=bad)).status_code == 400, bad
    assert (await tams.post(path, {"storage_id": ARCHIVE})).content == b""
    assert await labels(tams, object_id) == {"local"}
    await tams.post(path, {"storage_id": ARCHIVE}, 400)
    await tams.work()
    assert await labels(tams, object_id) == {"local", "archive"}
    (segment,) = await tams.segments(flow["id"], accept_get_urls="archive")
    for url in segment["get_urls"]:
        answer = await tams.client.get(url["url"])
        assert (answer.content, answer.headers["content-type"]) == (b"bytes", "video/mp2t")
    assert {url["label"] for url in segment["init_object"]["get_urls"]} == set()
    assert await labels(tams, init) == {"local"}
    await tams.post(f"{object_path(init)}/instances", {"storage_id": UNLABELLED})
    await tams.work()
    assert await labels(tams, init) == {"local", None}


async def test_a_copy_goes_on_after_a_restart(tmp_path: Path) -> None:
    """rule 54"""
    async with running_tams(tmp_path) as tams:
        flow = await tams.flow()
        object_id = await tams.segment(flow["id"], seconds(0, 1))
        await tams.post(f"{object_path(object_id)}/instances", {"storage_id": ARCHIVE})
    async with running_tams(tmp_path) as tams:
        await tams.work()
        assert await labels(tams, object_id) == {"local", "archive"}


async def test_a_copy_of_bytes_that_never_came_is_given_up(tams: Tams) -> None:
    """rule 54"""
    flow = await tams.flow()
    object_id = await registered(tams, flow["id"], await tams.upload(flow["id"], data=None))
    path = f"{object_path(object_id)}/instances"
    await tams.post(path, {"storage_id": ARCHIVE})
    await tams.work()
    assert await labels(tams, object_id) == {"local"}
    await tams.post(path, {"storage_id": ARCHIVE})


async def test_a_copy_waits_while_its_backend_is_down(tams: Tams, monkeypatch: pytest.MonkeyPatch) -> None:
    """rule 54"""
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    await tams.post(f"{object_path(object_id)}/instances", {"storage_id": ARCHIVE})

    async def down(*_: object, **__: object) -> None:
        raise Unavailable("The storage backend is down.")

    with monkeypatch.context() as patched:
        patched.setattr(type(tams.store.backends[ARCHIVE]), "copy", down)
        await tams.work()
        assert await labels(tams, object_id) == {"local"}
    await tams.work()
    assert await labels(tams, object_id) == {"local", "archive"}


async def test_a_copy_that_is_cancelled_leaves_nothing(tams: Tams) -> None:
    """rule 54"""
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    path = f"{object_path(object_id)}/instances"
    await tams.post(path, {"storage_id": ARCHIVE})
    await tams.delete(f"{path}?storage_id={ARCHIVE}")
    tams.later_ns = DAY_NS
    await tams.work()
    assert await labels(tams, object_id) == {"local"}
    assert media_files(tams) == 1


async def test_instances_are_deleted_with_their_bytes_but_never_the_last(tams: Tams) -> None:
    """rule 54"""
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    path = f"{object_path(object_id)}/instances"
    await tams.delete(f"{path}?storage_id={LOCAL}", 403)
    await tams.post(path, {"storage_id": ARCHIVE})
    await tams.delete(f"{path}?storage_id={LOCAL}", 403)
    await tams.work()
    assert media_files(tams) == 2
    await tams.delete(f"{path}?storage_id={LOCAL}")
    assert await labels(tams, object_id) == {"archive"}
    await tams.work()
    assert media_files(tams) == 1
    for query in (
        f"storage_id={LOCAL}",
        "label=none",
        "",
        f"storage_id={ARCHIVE}&label=archive",
        "storage_id=x",
    ):
        await tams.delete(f"{path}?{query}", 400)
    await tams.delete(f"{path}?storage_id={ARCHIVE}", 403)
    await tams.delete(f"{path}?label=archive", 403)
    await tams.post(path, {"storage_id": UNLABELLED})
    await tams.work()
    await tams.delete(f"{path}?label=archive")
    assert await labels(tams, object_id) == {None}


async def test_uncontrolled_instances_come_and_go(tams: Tams) -> None:
    """rule 54"""
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    path = f"{object_path(object_id)}/instances"
    url = "https://elsewhere.test/x"
    await tams.post(path, {"url": url, "label": "mine"})
    assert await labels(tams, object_id) == {"local", "mine"}
    for bad in (
        {"url": url, "label": "mine"},
        {"url": url, "label": "local"},
        {"url": url},
        {"url": url, "label": ""},
        {"url": "file:///etc/passwd", "label": "x"},
        {"url": url, "label": "x", "storage_id": ARCHIVE},
    ):
        await tams.post(path, bad, 400)
    await tams.delete(f"{path}?storage_id={LOCAL}")
    await tams.delete(f"{path}?label=mine", 403)
    await tams.post(path, {"url": url, "label": "second"})
    await tams.delete(f"{path}?label=mine")
    assert await labels(tams, object_id) == {"second"}


async def test_bytes_stay_as_long_as_anything_refers_to_them(tams: Tams) -> None:
    """rule 55"""
    one, two = await tams.flow(), await tams.flow()
    init = await tams.upload(one["id"], content_type="video/mp4")
    media = await tams.segment(one["id"], seconds(0, 1), init_object_id=init)
    await tams.segment(two["id"], seconds(0, 1), media)
    other = await tams.upload(two["id"])
    await tams.segment(two["id"], seconds(1, 2), other, init_object_id=init)
    await tams.delete(f"/flows/{one['id']}")
    await tams.work()
    assert media_files(tams) == 3
    await tams.delete(f"/flows/{two['id']}/segments?object_id={quote(media)}")
    await tams.work()
    assert media_files(tams) == 2
    await tams.get(object_path(media), 404)
    await tams.get(object_path(init))
    await tams.delete(f"/flows/{two['id']}/segments")
    await tams.work()
    assert media_files(tams) == 0
    await tams.get(object_path(init), 404)


async def test_bytes_wait_for_a_backend_that_is_down(tams: Tams, monkeypatch: pytest.MonkeyPatch) -> None:
    """rule 55"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    await registered(tams, flow["id"], await tams.upload(flow["id"], storage_id=ARCHIVE))
    await tams.delete(f"/flows/{flow['id']}")
    local = tams.store.backends[LOCAL]
    whole = type(local).delete

    async def down(media: Any, keys: list[str]) -> None:
        if media is local:
            raise Unavailable("The storage backend is down.")
        await whole(media, keys)

    with monkeypatch.context() as patched:
        patched.setattr(type(local), "delete", down)
        await tams.work()
        assert media_files(tams) == 1
    await tams.work()
    assert media_files(tams) == 0


@pytest.fixture
async def tidy(tmp_path: Path) -> AsyncIterator[Tams]:
    """A store that may remove bytes which no object has."""
    async with running_tams(tmp_path, collect_orphans=True) as found:
        yield found


async def test_bytes_uploaded_again_after_their_object_went_are_removed(tidy: Tams) -> None:
    """rule 55"""
    tams = tidy
    flow = await tams.flow()
    (given,) = (await tams.post(f"/flows/{flow['id']}/storage", {"limit": 1})).json()["media_objects"]
    put = given["put_url"]
    headers = {"Content-Type": put["content-type"]}
    kept = await tams.segment(flow["id"], seconds(0, 1))
    tams.later_ns = 2 * DAY_NS
    await tams.work()
    assert (await tams.client.put(put["url"], content=b"late", headers=headers)).status_code == 200
    assert media_files(tams) == 2
    tams.later_ns = 0
    await tams.work()
    assert media_files(tams) == 2
    tams.later_ns = 2 * DAY_NS
    await tams.work()
    assert media_files(tams) == 1
    await tams.get(object_path(kept))


async def ingest(tams: Tams, count: int) -> dict[str, Any]:
    """A flow with that many segments of one object."""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    await tams.segment(flow["id"], seconds(0, 10), object_id)
    body = [
        {"object_id": object_id, "timerange": f"[{n}:0_{n}:1)", "ts_offset": f"{n}:0"}
        for n in range(100, 99 + count)
    ]
    await tams.post(f"/flows/{flow['id']}/segments", body)
    return flow


async def test_a_long_delete_answers_202_and_is_carried_out_behind(tmp_path: Path) -> None:
    """rule 56: the chunks are smaller here than in use, so that few segments make a long delete"""
    async with running_tams(tmp_path, delete_inline=2) as tams:
        flow = await ingest(tams, 10)
        answer = await tams.delete(f"/flows/{flow['id']}", 202)
        request = answer.json()
        assert answer.headers["location"] == f"http://tams.test/flow-delete-requests/{request['id']}"
        path = f"/flow-delete-requests/{request['id']}"
        assert await tams.get(path) == request
        assert await tams.get("/flow-delete-requests") == [request]
        assert request["status"] == "created" and request["delete_flow"] is True
        assert (request["flow_id"], request["timerange_to_delete"]) == (flow["id"], "_")
        assert len(await tams.segments(flow["id"])) == 8
        again = await tams.delete(f"/flows/{flow['id']}", 202)
        assert again.json()["id"] == request["id"]
        await tams.put(f"/flows/{flow['id']}", flow, 403)
        await tams.put(f"/flows/{flow['id']}/label", "x", 403)
        await tams.post(f"/flows/{flow['id']}/storage", {}, 403)
        await tams.post(f"/flows/{flow['id']}/segments", {"object_id": "x", "timerange": "[0:0]"}, 403)
        await tams.work()
        done = await tams.get(path)
        assert (done["status"], done["timerange_remaining"]) == ("done", "()")
        assert done["updated"] > request["updated"] and done["expiry"] > request["expiry"]
        await tams.get(f"/flows/{flow['id']}", 404)
        await tams.get(f"/sources/{flow['source_id']}", 404)
        await tams.work()
        assert media_files(tams) == 0
        tams.later_ns = 8 * DAY_NS
        await tams.work()
        await tams.get(path, 404)


async def test_a_long_delete_of_segments_leaves_the_flow(tmp_path: Path) -> None:
    """rule 56"""
    async with running_tams(tmp_path, delete_inline=2) as tams:
        flow = await ingest(tams, 10)
        answer = await tams.delete(f"/flows/{flow['id']}/segments?timerange=[100:0_105:0)", 202)
        assert answer.json()["delete_flow"] is False
        await tams.put(f"/flows/{flow['id']}/label", "still there")
        await tams.work()
        assert len(await tams.segments(flow["id"])) == 5
        assert (await tams.get(f"/flow-delete-requests/{answer.json()['id']}"))["status"] == "done"


async def test_a_restart_resumes_a_long_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rule 56: chunk by chunk, with a restart behind each"""
    monkeypatch.setattr("store.work.jobs.CHUNK", 3)
    async with running_tams(tmp_path, delete_inline=1) as tams:
        flow = await ingest(tams, 10)
        request = (await tams.delete(f"/flows/{flow['id']}", 202)).json()
    seen = []
    for _ in range(20):
        async with running_tams(tmp_path) as tams:
            found = await tams.get(f"/flow-delete-requests/{request['id']}")
            seen.append((found["status"], len(await tams.segments(flow["id"]))))
            if not await carry_out_deletions(tams.store):
                break
    assert seen == [("created", 9), ("started", 6), ("started", 3), ("done", 0)]


async def test_delete_requests_sort_by_creation_or_expiry(tmp_path: Path) -> None:
    """rule 56, rule 10"""
    async with running_tams(tmp_path, delete_inline=1) as tams:
        made = []
        for _ in range(3):
            flow = await ingest(tams, 3)
            made.append((await tams.delete(f"/flows/{flow['id']}/segments", 202)).json()["id"])
        for query, wanted in (
            ("", made[::-1]),
            ("sort_by=created&reverse_order=true", made),
            ("sort_by=expiry", made[::-1]),
            ("sort_by=expiry&reverse_order=true&limit=2", made[:2]),
        ):
            found = await tams.get(f"/flow-delete-requests?{query}")
            assert [each["id"] for each in found] == wanted, query
        await tams.get("/flow-delete-requests?sort_by=updated", 400)
        await tams.get(f"/flow-delete-requests/{ABSENT}", 404)
        await tams.get("/flow-delete-requests/x", 404)
