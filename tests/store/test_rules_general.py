"""Rules 1-14 of TAMS 8.2: what holds for every resource."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from store.routes.table import ROUTES
from tests.store.harness import ARCHIVE, LOCAL, Tams, multi, new_id, object_path, running_tams, seconds, video

JSON = "application/json"
ABSENT = "99999999-9999-4999-8999-999999999999"


async def furnished(tams: Tams) -> dict[str, str]:
    """A value for every path parameter, each of something that exists."""
    flow = await tams.flow(
        tags={"name": "value"}, label="l", description="d", max_bit_rate=1, avg_bit_rate=1, read_only=False
    )
    for name, value in (("label", "l"), ("description", "d")):
        await tams.put(f"/sources/{flow['source_id']}/{name}", value)
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    return {"sourceId": flow["source_id"], "flowId": flow["id"], "name": "name", "objectId": object_id}


def filled(template: str, values: dict[str, str]) -> str:
    """A path template with its parameters filled in."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


async def test_head_is_get_without_a_body(tams: Tams) -> None:
    """rule 1"""
    values = await furnished(tams)
    for template, methods in ROUTES.items():
        path = filled(template, values)
        if "GET" not in methods or "{" in path:
            continue
        got, head = await tams.request("GET", path), await tams.request("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        # Which request it was, the proxy says of each.
        for answer in (got, head):
            answer.headers.pop("x-request-id", None)
        assert head.headers == got.headers, path
        # An object of a playlist is elsewhere; that is none of the specification.
        assert got.status_code == (307 if "/hls/" in path else 200), path


async def test_head_of_what_is_absent_or_bad_is_as_get(tams: Tams) -> None:
    """rule 1"""
    for path in (f"/flows/{ABSENT}", "/flows?limit=x", "/nothing", object_path("none"), "/flows/%zz"):
        got, head = await tams.request("GET", path), await tams.request("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == JSON
        assert set(head.headers) == set(got.headers)


@pytest.mark.parametrize(
    "flow_id",
    [
        "no-uuid",
        "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA",
        "aaaaaaaa-aaaa-0aaa-8aaa-aaaaaaaaaaaa",
        "aaaaaaaa-aaaa-6aaa-8aaa-aaaaaaaaaaaa",
        "aaaaaaaa-aaaa-4aaa-7aaa-aaaaaaaaaaaa",
        "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa",
        "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa\n",
    ],
)
async def test_a_resource_id_is_a_lower_case_uuid_of_the_rfc(tams: Tams, flow_id: str) -> None:
    """rule 2, and rule 14: an invalid id in a path is 404"""
    path = f"/flows/{quote(flow_id, safe='')}"
    for method in ("GET", "PUT", "DELETE"):
        response = await tams.request(method, path, json=video())
        assert response.status_code == 404, method
    body = video()
    assert (
        await tams.request("PUT", f"/flows/{body['id']}", json={**body, "id": flow_id})
    ).status_code == 400


@pytest.mark.parametrize("version", "12345")
async def test_uuids_of_versions_1_to_5_are_ids(tams: Tams, version: str) -> None:
    """rule 2"""
    flow_id = f"aaaaaaaa-aaaa-{version}aaa-8aaa-aaaaaaaaaaaa"
    await tams.put(f"/flows/{flow_id}", video(flow_id), 201)


@pytest.mark.parametrize(
    "object_id", ["a/b", "50%", "a b", "été", "\U0001f600", "a%2Fb", "..", "?x=1#y", "a+b", "x" * 1024]
)
async def test_an_object_id_is_any_text_in_one_path_segment(tams: Tams, object_id: str) -> None:
    """rule 2"""
    flow = await tams.flow()
    await tams.upload(flow["id"], object_ids=[object_id])
    await tams.segment(flow["id"], seconds(0, 1), object_id)
    found = await tams.request("GET", object_path(object_id))
    assert found.status_code == 200, found.text
    assert found.json()["id"] == object_id
    assert [s["object_id"] for s in await tams.segments(flow["id"], object_id=object_id)] == [object_id]


async def test_flows_may_lie_before_the_epoch_and_be_instants(tams: Tams) -> None:
    """rule 3"""
    flow = await tams.flow()
    await tams.segment(flow["id"], "[-1:500000000_0:0)")
    await tams.segment(flow["id"], "[1:0]")
    found = await tams.segments(flow["id"], timerange="_")
    assert [s["timerange"] for s in found] == ["[-1:500000000_0:0)", "[1:0]"]
    assert await tams.segments(flow["id"], timerange="()") == []
    assert len(await tams.segments(flow["id"], timerange="[-1:500000000]")) == 1
    assert await tams.segments(flow["id"], timerange="[-2:0]") == []
    whole = await tams.get(f"/flows/{flow['id']}?include_timerange=true")
    assert whole["timerange"] == "[-1:500000000_1:0]"


@pytest.mark.parametrize(
    "timestamp", ["01:0", "0:0000000001", "1:01", "9223372037:0", "99999999999999999999:0"]
)
async def test_a_timestamp_is_canonical_and_fits_64_bits(tams: Tams, timestamp: str) -> None:
    """rule 4"""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    for document in (
        {"timerange": f"[{timestamp}]"},
        {"timerange": seconds(0, 1), "ts_offset": timestamp},
        {"timerange": seconds(0, 1), "object_timerange": f"[{timestamp}]"},
    ):
        body = {"object_id": object_id, **document}
        assert (await tams.request("POST", f"/flows/{flow['id']}/segments", json=body)).status_code == 400
    await tams.get(f"/flows/{flow['id']}/segments", 400, timerange=f"[{timestamp}]")
    await tams.get("/flows", 400, timerange=f"[{timestamp}]")
    assert await tams.segments(flow["id"]) == []


async def test_an_offset_that_leaves_64_bits_is_refused(tams: Tams) -> None:
    """rule 4: the range is checked after shifting too"""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    body = {
        "object_id": object_id,
        "timerange": seconds(9223372030, 9223372036),
        "ts_offset": "-9223372030:0",
    }
    await tams.post(f"/flows/{flow['id']}/segments", body, 400)


@pytest.mark.parametrize(
    "text", ["[", "(5:0)", "[0:0_10:0", "[5:0)", "0:0_1:0", "[0:0_1:0]x", "", "[1:0_1:0)"]
)
async def test_a_timerange_is_parsed_strictly(tams: Tams, text: str) -> None:
    """rule 5"""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    body = {"object_id": object_id, "timerange": text}
    await tams.post(f"/flows/{flow['id']}/segments", body, 400)
    for path in (f"/flows/{flow['id']}/segments", f"/flows/{flow['id']}", "/flows"):
        await tams.get(path, 400, timerange=text)
    response = await tams.request("DELETE", f"/flows/{flow['id']}/segments", params={"timerange": text})
    assert response.status_code == 400


async def test_an_omitted_bound_ignores_its_bracket_and_a_reversed_range_is_empty(tams: Tams) -> None:
    """rule 5"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 2))
    for text in ("(_", "[_1:0)", "(_1:0)", "[0:0_)", "_)"):
        assert len(await tams.segments(flow["id"], timerange=text)) == 1, text
    assert await tams.segments(flow["id"], timerange="[2:0_1:0)") == []


@pytest.mark.parametrize("value", ["one", ["one", "two"], [], ""])
async def test_a_tag_is_a_text_or_a_list_of_texts(tams: Tams, value: Any) -> None:
    """rule 6"""
    flow = await tams.flow(tags={"kept": "k"})
    for stem in (f"/flows/{flow['id']}", f"/sources/{flow['source_id']}"):
        await tams.put(f"{stem}/tags/t", value)
        assert await tams.get(f"{stem}/tags/t") == value
        assert await tams.get(f"{stem}/tags") == {"kept": "k", "t": value}
        await tams.delete(f"{stem}/tags/t")
        await tams.get(f"{stem}/tags/t", 404)
        await tams.delete(f"{stem}/tags/t", 404)
    other = await tams.flow(tags={"t": value})
    assert (await tams.get(f"/flows/{other['id']}"))["tags"] == {"t": value}


@pytest.mark.parametrize("value", [1, None, True, {"a": "b"}, ["a", 1], [["a"]], [None]])
async def test_other_tag_values_are_refused(tams: Tams, value: Any) -> None:
    """rule 6"""
    flow = await tams.flow(tags={"t": "before"})
    await tams.put(f"/flows/{flow['id']}/tags/t", value, 400)
    await tams.put(f"/flows/{flow['id']}", {**flow, "tags": {"t": value}}, 400)
    assert await tams.get(f"/flows/{flow['id']}/tags") == {"t": "before"}


async def test_tag_filters_are_or_within_and_and_between(tams: Tams) -> None:
    """rule 7"""
    one = await tams.flow(tags={"g": "x", "h": "p"}, label="one")
    two = await tams.flow(tags={"g": ["y", "z"]}, label="two")
    three = await tams.flow(tags={"g": "xy"}, label="three")
    bare = await tams.flow(label="bare")

    async def labels(query: str) -> set[str]:
        return {flow["label"] for flow in await tams.get(f"/flows?{query}")}

    assert await labels("tag.g=x") == {"one"}
    assert await labels("tag.g=x,z") == {"one", "two"}
    assert await labels("tag.g=y") == {"two"}
    assert await labels("tag.g=x,y&tag.h=p") == {"one"}
    assert await labels("tag_exists.g=true") == {"one", "two", "three"}
    assert await labels("tag_exists.g=FALSE") == {"bare"}
    assert await labels("tag_exists.g=true&tag_exists.h=false") == {"two", "three"}
    assert await labels("tag.h=p&tag_exists.h=false") == set()
    assert {one["id"], two["id"], three["id"], bare["id"]} == {f["id"] for f in await tams.get("/flows")}
    assert len(await tams.get("/sources?tag.g=x,z")) == 2
    assert [b["id"] for b in await tams.get("/service/storage-backends?tag.tier=fast,none")] == [LOCAL]
    assert len(await tams.get("/service/storage-backends?tag_exists.site=true")) == 2


@pytest.mark.parametrize("name", ["a.b", "a/b", "50%", "a b", "ü", "a,b", "a=b&c", "a.tag.b"])
@pytest.mark.parametrize("value", ["v", "a/b", "50%", "a b", "ü", "a=b&c", "x+y"])
async def test_tag_names_and_values_may_hold_anything(tams: Tams, name: str, value: str) -> None:
    """rule 8"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/tags/{quote(name, safe='')}"
    await tams.put(path, value)
    assert await tams.get(path) == value
    query = f"tag.{quote(name, safe='')}={quote(value, safe='')}"
    assert len(await tams.get(f"/flows?{query}")) == 1
    assert len(await tams.get(f"/flows?tag_exists.{quote(name, safe='')}=true")) == 1
    await tams.delete(path)
    assert await tams.get(f"/flows?{query}") == []


async def test_link_and_next_key_both_lead_on(tams: Tams) -> None:
    """rule 9"""
    made = [(await tams.flow(tags={"t": "a b&c"}))["id"] for _ in range(5)]
    pages, url = [], "/flows?tag.t=a%20b%26c&limit=2&reverse_order=false"
    while url:
        response = await tams.request("GET", url)
        ids = [flow["id"] for flow in response.json()]
        assert response.headers["x-paging-limit"] == "2"
        assert response.headers["x-paging-count"] == str(len(ids))
        assert response.headers["x-paging-reverse-order"] == "false"
        pages.append(ids)
        following = response.links.get("next", {}).get("url")
        assert (following is None) == ("x-paging-nextkey" not in response.headers)
        if following is not None:
            key = response.headers["x-paging-nextkey"]
            by_key = await tams.request(
                "GET", f"/flows?tag.t=a%20b%26c&limit=2&reverse_order=false&page={quote(key, safe='')}"
            )
            assert by_key.json() == (await tams.request("GET", following)).json()
        url = following
    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]


async def test_the_limit_is_lowered_to_the_greatest_and_at_least_one(tams: Tams) -> None:
    """rule 9"""
    for asked, given in (("1", "1"), ("1000", "1000"), ("1001", "1000"), ("9" * 40, "1000")):
        response = await tams.request("GET", f"/flows?limit={asked}")
        assert response.headers["x-paging-limit"] == given
    for bad in ("0", "-1", "x", "1.0", "", "%2B1", "1e3", "٣"):
        await tams.get(f"/flows?limit={bad}", 400)


async def test_a_page_token_is_bound_to_its_listing(tams: Tams) -> None:
    """rule 9"""
    for _ in range(3):
        await tams.flow()
    response = await tams.request("GET", "/flows?limit=1")
    key = response.headers["x-paging-nextkey"]
    assert (await tams.request("GET", f"/flows?limit=2&page={key}")).status_code == 200
    for url in (
        f"/flows?page={key}&reverse_order=true",
        f"/sources?page={key}",
        f"/flows?page={key[:-2]}AA",
        "/flows?page=",
        "/flows?page=%C3%A9",
        f"/flows?page={key}&page={key}",
    ):
        assert (await tams.request("GET", url)).status_code == 400, url


async def test_pages_stay_full_and_stable_while_rows_come_and_go(tams: Tams) -> None:
    """rule 9"""
    made = [(await tams.flow(label="old"))["id"] for _ in range(6)]
    first = await tams.request("GET", "/flows?limit=2&label=old")
    await tams.flow(label="old")
    await tams.flow(label="other")
    await tams.delete(f"/flows/{made[4]}")
    await tams.delete(f"/flows/{made[3]}")
    second = await tams.request("GET", first.links["next"]["url"])
    assert [flow["id"] for flow in first.json()] == [made[5], made[4]]
    assert [flow["id"] for flow in second.json()] == [made[2], made[1]]


async def test_page_tokens_survive_a_restart(tmp_path: Path) -> None:
    """rule 9"""
    async with running_tams(tmp_path) as tams:
        made = [(await tams.flow())["id"] for _ in range(3)]
        following = (await tams.request("GET", "/flows?limit=2")).links["next"]["url"]
    async with running_tams(tmp_path) as tams:
        assert [flow["id"] for flow in await tams.get(following)] == made[:1]


async def test_listings_sort_as_asked_and_unset_values_come_last(tams: Tams) -> None:
    """rule 10"""
    b, none, a = [await tams.flow(label=label) for label in ("b", None, "a")]
    await tams.put(f"/flows/{b['id']}/description", "edited last")
    b, none, a = b["id"], none["id"], a["id"]

    async def ids(query: str) -> list[str]:
        return [flow["id"] for flow in await tams.get(f"/flows?{query}")]

    assert await ids("") == [a, none, b]
    assert await ids("sort_by=created&reverse_order=true") == [b, none, a]
    assert await ids("sort_by=metadata_updated") == [b, a, none]
    assert await ids("sort_by=metadata_updated&reverse_order=True") == [none, a, b]
    assert await ids("sort_by=label") == [a, b, none]
    assert await ids("sort_by=label&reverse_order=true") == [none, b, a]
    sources = [source.get("label") for source in await tams.get("/sources?sort_by=label")]
    assert sources == ["a", "b", None]
    await tams.put(f"/sources/{(await tams.get(f'/flows/{b}'))['source_id']}/label", "zz")
    assert (await tams.get("/sources?sort_by=updated"))[0]["label"] == "zz"
    backends = [backend.get("label") for backend in await tams.get("/service/storage-backends")]
    assert backends == ["archive", "local", None]
    backends = await tams.get("/service/storage-backends?reverse_order=true")
    assert [backend.get("label") for backend in backends] == [None, "local", "archive"]


async def test_storage_backends_are_paged(tams: Tams) -> None:
    """rule 9, rule 10"""
    seen, url = [], "/service/storage-backends?limit=1"
    while url:
        response = await tams.request("GET", url)
        seen += [backend["id"] for backend in response.json()]
        url = response.links.get("next", {}).get("url")
    assert seen[:2] == [ARCHIVE, LOCAL] and len(seen) == 3


async def test_collected_by_ids_finds_members_and_when_empty_the_uncollected(tams: Tams) -> None:
    """rule 11"""
    one, two, free = [await tams.flow() for _ in range(3)]
    first, second = await tams.collection(one, two), await tams.collection(two)

    async def found(path: str, key: str = "id") -> set[str]:
        return {each[key] for each in await tams.get(path)}

    assert await found(f"/flows?collected_by_ids={first['id']}") == {one["id"], two["id"]}
    assert await found(f"/flows?collected_by_ids={second['id']},{ABSENT}") == {two["id"]}
    assert await found("/flows?collected_by_ids=") == {free["id"], first["id"], second["id"]}
    assert await found(f"/sources?collected_by_ids={second['source_id']}") == {two["source_id"]}
    assert await found("/sources?collected_by_ids=") == {each["source_id"] for each in (free, first, second)}
    await tams.get("/flows?collected_by_ids=x", 400)
    await tams.get(f"/flows?collected_by_ids={first['id']},", 400)


async def test_the_service_keeps_a_new_name_and_description_over_a_restart(tmp_path: Path) -> None:
    """rule 12"""
    async with running_tams(tmp_path) as tams:
        before = await tams.get("/service")
        said = {
            "name": "n",
            "type": "urn:x-tams:service:other",
            "api_version": "1.0",
            "event_stream_mechanisms": 1,
        }
        await tams.post("/service", said, 200)
        assert await tams.get("/service") == {**before, "name": "n"}
        await tams.post("/service", {"description": "d"}, 200)
        for bad in ({"name": 1}, {"description": None}, [], "x"):
            await tams.post("/service", bad, 400)
    async with running_tams(tmp_path) as tams:
        assert await tams.get("/service") == {**before, "name": "n", "description": "d"}


async def test_errors_have_the_schema_and_the_exact_content_type(tams: Tams) -> None:
    """rule 13"""
    answers = [
        await tams.request("GET", f"/flows/{ABSENT}"),
        await tams.request("HEAD", f"/flows/{ABSENT}"),
        await tams.request("GET", "/flows?limit=x"),
        await tams.request("PATCH", "/flows"),
        await tams.request("PUT", f"/flows/{ABSENT}", content=b"{"),
        await tams.request("PUT", f"/flows/{ABSENT}", content=b"{}", headers={"content-encoding": "gzip"}),
        await tams.request("POST", "/service", content=b" " * (17 << 20)),
        await tams.request("GET", "/nowhere"),
    ]
    assert [a.status_code for a in answers] == [404, 404, 400, 405, 400, 415, 413, 404]
    assert answers[3].headers["allow"] == "GET, HEAD"
    for answer in answers:
        assert answer.headers.get_list("content-type") == [JSON]
        if answer.request.method != "HEAD":
            error = answer.json()
            assert set(error) == {"type", "summary", "message", "time"}
            assert error["summary"] == error["message"] != ""


async def test_json_answers_say_exactly_application_json(tams: Tams) -> None:
    """rule 13"""
    values = await furnished(tams)
    for template, methods in ROUTES.items():
        path = filled(template, values)
        # A playlist is no JSON, nor of the specification.
        if "GET" in methods and "{" not in path and "/hls" not in path:
            for method in ("GET", "HEAD"):
                answer = await tams.request(method, path)
                assert answer.headers.get_list("content-type") == [JSON], path


@pytest.mark.parametrize(
    "query",
    [
        "reverse_order=maybe",
        "reverse_order=1",
        "sort_by=id",
        "sort_by=",
        "format=video",
        "status=done",
        "source_id=x",
        "profile_id=",
        "codec=h264",
        "frame_width=wide",
        "frame_height=1.5",
        "init_segments=",
        "tag_exists.a=perhaps",
        "tag.a=,b",
        "tag.a=b,",
        "tag.=a",
        "tag_exists.=true",
        "label=a&label=b",
        "limit=%00",
        "label=%FF",
        "label=%ED%A0%80",
        "label=%4",
    ],
)
async def test_unknown_values_of_known_parameters_are_refused(tams: Tams, query: str) -> None:
    """rule 14"""
    await tams.get(f"/flows?{query}", 400)


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "tRuE"])
async def test_booleans_are_read_in_any_letter_case_and_unknown_parameters_ignored(
    tams: Tams, text: str
) -> None:
    """rule 14"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    assert "timerange" in await tams.get(f"/flows/{flow['id']}?include_timerange={text}&other=1&other=2")
    response = await tams.request("GET", f"/flows?reverse_order={text}")
    assert response.headers["x-paging-reverse-order"] == "true"


async def test_a_body_that_may_be_left_out_may(tams: Tams) -> None:
    """rule 14"""
    flow = await tams.flow()
    answer = (await tams.post(f"/flows/{flow['id']}/storage")).json()
    assert len(answer["media_objects"]) == 10
    for path in ("/service", f"/flows/{flow['id']}/segments"):
        assert (await tams.request("POST", path)).status_code == 400
    assert (await tams.request("PUT", f"/flows/{new_id()}")).status_code == 400
    assert (await tams.request("PUT", f"/flows/{multi()['id']}", content=b"  ")).status_code == 400
