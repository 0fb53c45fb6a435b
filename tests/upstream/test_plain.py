"""The proxy before a plain upstream: what it lacks is made up for, and nothing of it shows."""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import RedirectResponse, Response

from proxy.upstream import listing
from proxy.upstream.leaving import UntilGone
from proxy.upstream.relay import CHUNK_BYTES
from tests.proxy.support import Proxy, flow_document, told
from tests.proxy.support import running as proxied
from tests.upstream.here import plainly
from tests.upstream.plain import BACKENDS, LONG, LONG_BYTES, SINK, Call, Plain
from tests.upstream.plain_store import Media
from tests.upstream.serving import serving

OPEN, HIDDEN = (str(backend["id"]) for backend in BACKENDS)


@pytest.fixture
def plain() -> Iterator[Plain]:
    upstream = Plain()
    with serving(upstream.application):
        yield upstream


@asynccontextmanager
async def before(plain: Plain, folder: Path, **settings: Any) -> AsyncIterator[Proxy]:
    async with proxied(folder, upstream=plain.url, **settings) as found:
        yield found


@pytest.fixture
async def proxy(plain: Plain, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with before(plain, tmp_path) as found:
        yield found


def holds(plain: Plain, *classes: list[str] | str | None) -> list[str]:
    """Put flows of these classes into the upstream; their ids."""
    documents = [flow_document(given) for given in classes]
    plain.flows |= {document["id"]: document for document in documents}
    return [document["id"] for document in documents]


async def listed(proxy: Proxy, who: str, path: str) -> list[list[str]]:
    """Ids page by page, following Link."""
    pages = []
    while path:
        answer = await proxy.made(who, "GET", path)
        pages.append([item["id"] for item in answer.json()])
        link = answer.headers.get("link", "")
        assert answer.headers["x-paging-count"] == str(len(pages[-1]))
        path = link.partition("<http://tams.test")[2].partition(">")[0]
    return pages


class TestLists:
    async def test_pages_are_filled_from_many_of_the_upstreams(self, plain: Plain, proxy: Proxy) -> None:
        found = holds(plain, *[["a"] if n % 5 == 0 else ["v"] for n in range(60)])
        expected = found[::5]
        pages = await listed(proxy, "attacker", "/flows?limit=5")
        assert [len(page) for page in pages] == [5, 5, 2]
        assert [name for page in pages for name in page] == expected

    async def test_the_calls_that_a_page_took_are_bounded_and_in_its_record(
        self, plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records: list[dict[str, Any]] = []
        monkeypatch.setattr("proxy.app.lines", lambda form: records.extend)
        async with before(plain, tmp_path) as proxy:
            holds(plain, *[["a"] if n % 5 == 0 else ["v"] for n in range(60)])
            await proxy.made("attacker", "GET", "/service")
            del plain.calls[:]
            await proxy.made("attacker", "GET", "/flows?limit=5")
            asked = len(plain.calls)
            # The upstream's pages have 7 flows, of which at least one is seen.
            assert 1 < asked <= 6
            monkeypatch.setattr(listing, "MOST_PAGES", 2)
            assert (await proxy.call("attacker", "GET", "/flows?limit=5")).status_code == 504
        assert [record["store_calls"] for record in records[-2:]] == [asked, 2]

    async def test_no_page_says_that_hidden_things_follow(self, plain: Plain, proxy: Proxy) -> None:
        holds(plain, *[["a"]] * 5, *[["v"]] * 30)
        assert [len(page) for page in await listed(proxy, "attacker", "/flows?limit=5")] == [5]

    async def test_classes_may_be_plain_text_lists_or_nonsense(self, plain: Plain, proxy: Proxy) -> None:
        (as_text, as_list, *_) = holds(plain, "a", ["v", "a"], "a,v", ["v"], None, [])
        for value in (5, {"a": 1}, [5, "x"], [["a"]]):
            (name,) = holds(plain, ["v"])
            plain.flows[name]["tags"]["auth_classes"] = value
        plain.flows[holds(plain, ["v"])[0]]["tags"] = None
        assert await listed(proxy, "attacker", "/flows") == [[as_text, as_list]]

    async def test_a_page_goes_on_where_it_ended_when_items_vanish(self, plain: Plain, proxy: Proxy) -> None:
        found = holds(plain, *[["a"]] * 6)
        first = await proxy.made("attacker", "GET", "/flows?limit=3")
        del plain.flows[found[0]]
        path = first.headers["link"].partition("<http://tams.test")[2].partition(">")[0]
        assert await listed(proxy, "attacker", path) == [found[3:]]

    async def test_cursors_say_nothing_to_their_reader(self, plain: Plain, proxy: Proxy) -> None:
        holds(plain, *[["a"]] * 20)
        answer = await proxy.made("attacker", "GET", "/flows?limit=3")
        assert "offset" not in answer.headers["link"]
        for who in ("colleague", "victim"):
            key = answer.headers["x-paging-nextkey"]
            assert (await proxy.call(who, "GET", f"/flows?limit=3&page={key}")).status_code == 400


class TestWhatShows:
    async def test_only_allowed_headers_come_back(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        answer = await proxy.made("attacker", "GET", f"/flows/{flow}")
        assert set(answer.headers) == {"content-type", "content-length", "x-request-id"}
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == plain.flows[flow]

    async def test_only_the_proxys_own_headers_go_out(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        sent = {
            "cookie": "a=b",
            "x-forwarded-user": "admin",
            "x-http-method-override": "DELETE",
            "connection": "x-secret",
            "x-secret": "1",
            "accept-encoding": "br",
            "range": "bytes=0-1",
        }
        answer = await proxy.call("attacker", "GET", f"/flows/{flow}?access_token=x", headers=sent)
        assert answer.status_code == 400
        await proxy.call("attacker", "GET", f"/flows/{flow}", headers=sent)
        (call,) = [c for c in plain.calls if c.target.startswith(f"/flows/{flow}")]
        assert set(call.headers) == {"host", "accept", "accept-encoding"}

    async def test_a_flow_costs_one_call(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        await proxy.made("attacker", "GET", f"/flows/{flow}")
        del plain.calls[:]
        await proxy.made("attacker", "GET", f"/flows/{flow}")
        await proxy.made("attacker", "GET", f"/flows/{flow}/tags")
        assert [call.target for call in plain.calls] == [f"/flows/{flow}"] * 2

    async def test_errors_do_not_name_the_upstream(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        plain.trouble = lambda call: plain._error(400) if call.method == "PUT" else None
        answer = await proxy.call("attacker", "PUT", f"/flows/{flow}/label", "x")
        assert answer.status_code == 400
        assert "127.0.0.1" not in answer.text and {"type", "summary", "time"} <= set(answer.json())

    async def test_a_location_is_the_proxys(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        answer = await proxy.made("attacker", "DELETE", f"/flows/{flow}")
        assert answer.status_code == 202
        assert answer.headers["location"] == f"http://tams.test/flow-delete-requests/{flow}"

    async def test_who_wrote_a_flow_is_the_caller(self, plain: Plain, proxy: Proxy) -> None:
        document = flow_document(["a"], created_by="somebody else")
        await proxy.made("attacker", "PUT", f"/flows/{document['id']}", document)
        kept = plain.flows[document["id"]]
        assert (kept["created_by"], kept["updated_by"]) == ("local/attacker", "local/attacker")
        changed = {**document, "label": "x", "updated_by": "me"}
        await proxy.made("colleague", "PUT", f"/flows/{document['id']}", changed)
        kept = plain.flows[document["id"]]
        assert (kept["created_by"], kept["updated_by"]) == ("local/attacker", "local/colleague")


class TestWhatItLacks:
    async def test_is_told_by_name(self, plain: Plain, proxy: Proxy) -> None:
        answer = await proxy.call("admin", "POST", "/objects/x/instances", {"url": "https://x.example"})
        assert answer.status_code in (404, 501)
        answer = await proxy.call("admin", "POST", "/service", {"name": "x"})
        assert answer.status_code == 501

    async def test_filters_by_tag_find_what_is_in_lists_too(self, plain: Plain, proxy: Proxy) -> None:
        found = holds(plain, ["a"], ["a", "v"], ["v"], "a")
        for name, value in zip(found, ("red", ["red", "blue"], "red", ["green"]), strict=True):
            plain.flows[name]["tags"]["colour"] = value
        for query, expected in (
            ("tag.colour=red", found[:2]),
            ("tag.colour=blue,green", [found[1], found[3]]),
            ("tag.auth_classes=v", [found[1]]),
            ("tag.colour=red&tag_exists.colour=true", found[:2]),
            ("tag.colour=red&tag_exists.colour=false", []),
        ):
            assert await listed(proxy, "attacker", f"/flows?{query}") == [expected], query
        assert await listed(proxy, "admin", "/flows?tag.colour=red&limit=2") == [found[:2], [found[2]]]

    async def test_lists_of_collected_flows_are_made_up_for(self, plain: Plain, proxy: Proxy) -> None:
        seen, hidden, parent, secret = holds(plain, ["a"], ["v"], ["a"], ["v"])
        plain.flows[parent]["flow_collection"] = [{"id": seen}, {"id": hidden}]
        plain.flows[secret]["flow_collection"] = [{"id": seen}]
        asked = f"/flows?collected_by_ids={parent}"
        assert await listed(proxy, "attacker", asked) == [[seen]]
        assert await listed(proxy, "admin", asked) == [[seen, hidden]]
        assert await listed(proxy, "attacker", f"/flows?collected_by_ids={secret}") == [[]]
        assert await listed(proxy, "admin", "/flows?collected_by_ids=") == [[parent, secret]]

    async def test_what_cannot_be_made_up_for_is_refused_by_name(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        for path, what in (
            ("/flows?sort_by=label", "`sort_by` in lists"),
            ("/sources?reverse_order=true", "`reverse_order` in lists"),
            (f"/flows/{flow}/segments?storage_backend_tag.x=y", "`storage_backend_tag.x`"),
            ("/objects/x?flow_tag.x=y", "`flow_tag.x`"),
            ("/service/profiles", "profiles"),
            ("/sources/x/hls.m3u8", "GET /sources/{sourceId}/hls.m3u8"),
        ):
            answer = await proxy.call("attacker", "GET", path)
            assert (answer.status_code, answer.json()["summary"]) == (501, f"The upstream lacks {what}.")

    async def test_a_path_that_its_version_does_not_have_is_not_tried(
        self, plain: Plain, proxy: Proxy
    ) -> None:
        """Gateways answer such paths with anything."""
        plain.trouble = lambda call: Response(status_code=403) if "profiles" in call.target else None
        document = flow_document(["a"], profile_id=str(uuid.uuid4()))
        answer = await proxy.call("attacker", "PUT", f"/flows/{document['id']}", document)
        assert answer.status_code == 400
        assert not [call for call in plain.calls if "profiles" in call.target]

    async def test_the_first_flow_of_an_object_has_no_say_once_it_does_not_use_it(
        self, plain: Plain, proxy: Proxy
    ) -> None:
        """Though the upstream goes on naming it."""
        plain.version = "8.0"
        first, other = holds(plain, ["a"], ["v"])
        plain.objects["o"] = Media(None, [], first)
        plain.segments[other] = [segment("o")]
        path, body = "/objects/o/instances", {"url": "https://x.example", "label": "x"}
        assert (await proxy.call("attacker", "POST", path, body)).status_code == 404
        plain.segments[first] = [segment("o")]
        # Which the upstream then refuses, being none of 8.0 after all.
        answer = await proxy.call("attacker", "POST", path, body)
        assert (answer.status_code, answer.json()["summary"]) == (
            501,
            "The upstream lacks POST /objects/{objectId}/instances.",
        )

    async def test_a_version_before_6_is_refused(self, plain: Plain, proxy: Proxy) -> None:
        plain.version = "5.1"
        assert (await proxy.call("admin", "GET", "/flows")).status_code == 502
        assert (await proxy.call(None, "GET", "/ready")).status_code == 503
        assert (await proxy.call(None, "GET", "/health")).status_code == 200


class TestTrouble:
    @pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 429, 500, 502, 503, 504])
    async def test_only_200_and_404_are_verdicts(self, plain: Plain, proxy: Proxy, status: int) -> None:
        await proxy.made("admin", "GET", "/flows")
        document = flow_document(["a"])
        headers = {"location": f"{plain.url}/service"} if status < 400 else {}
        plain.trouble = lambda call: Response(b"{}", status, headers) if call.method == "GET" else None
        answer = await proxy.call("attacker", "PUT", f"/flows/{document['id']}", document)
        assert answer.status_code == {429: 503, 503: 503, 504: 504}.get(status, 502)
        assert document["id"] not in plain.flows
        answer = await proxy.call("attacker", "GET", f"/flows/{document['id']}")
        assert answer.status_code == {429: 503, 503: 503, 504: 504}.get(status, 502)

    @pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"null", b'{"id": "another"}', b'{"a": NaN}'])
    async def test_an_answer_that_is_none_is_502(self, plain: Plain, proxy: Proxy, body: bytes) -> None:
        (flow,) = holds(plain, ["a"])
        await proxy.made("attacker", "GET", f"/flows/{flow}")
        plain.trouble = lambda call: Response(body)
        for path in (f"/flows/{flow}", f"/flows/{flow}/tags", "/objects/x"):
            assert (await proxy.call("attacker", "GET", path)).status_code == 502

    async def test_a_slow_upstream_is_504(self, plain: Plain, tmp_path: Path) -> None:
        (flow,) = holds(plain, ["a"])
        async with before(plain, tmp_path, upstream_options={"read_s": 1}) as proxy:
            await proxy.made("attacker", "GET", f"/flows/{flow}")

            class Slow(Response):
                async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                    await asyncio.Event().wait()

            plain.trouble = lambda call: Slow()
            assert (await proxy.call("attacker", "GET", f"/flows/{flow}")).status_code == 504

    async def test_a_step_in_a_path_goes_nowhere(self, plain: Plain, proxy: Proxy) -> None:
        (mine, theirs) = holds(plain, ["a"], ["v"])
        await proxy.made("attacker", "GET", f"/flows/{mine}")
        del plain.calls[:]
        for path in (
            f"/flows/{mine}/tags/..%2F..%2F{theirs}%2Ftags%2Fauth_classes",
            f"/flows/{mine}/tags/%2e%2e",
            "/objects/%2E%2E",
            f"/objects/x%5C..%5C..%5Cflows%5C{theirs}",
            f"/objects/x%2F..%2F..%2Fflows%2F{theirs}",
        ):
            answer = await proxy.call("admin", "PUT" if "tags" in path else "GET", path, "x")
            assert answer.status_code in (400, 404)
        assert all(c.method == "GET" and c.target == f"/flows/{mine}" for c in plain.calls)

    async def test_a_redirect_is_not_followed(self, plain: Plain, proxy: Proxy) -> None:
        await proxy.made("admin", "GET", "/flows")
        plain.trouble = lambda call: RedirectResponse(f"{plain.url}/service")
        del plain.calls[:]
        for path in ("/flows", "/service", f"/flows/{uuid.uuid4()}"):
            assert (await proxy.call("admin", "GET", path)).status_code == 502
        assert len(plain.calls) == 3


def segment(object_id: str, *urls: dict[str, Any]) -> dict[str, Any]:
    return {"object_id": object_id, "timerange": "[0:0_1:0)", "get_urls": list(urls)}


class TestMedia:
    async def test_urls_on_hidden_backends_are_left_out(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        urls = {
            "by id": {"storage_id": OPEN},
            "hidden by id": {"storage_id": HIDDEN},
            "unknown id": {"storage_id": str(uuid.uuid4())},
            "by label": {"label": "open"},
            "hidden by label": {"label": "hidden"},
            "says nothing": {},
            "brought": {"controlled": False, "label": "mine"},
            "brought, of a name": {"controlled": False, "label": "hidden"},
        }
        entries = [{"url": f"https://x.example/{n}", **said} for n, said in urls.items()]
        plain.segments[flow] = [segment("o", *entries)]
        plain.segments[flow][0]["init_object"] = {"object_id": "i", "get_urls": entries}
        answer = await proxy.made("attacker", "GET", f"/flows/{flow}/segments")
        (found,) = answer.json()
        seen = ["by id", "by label", "brought", "brought, of a name"]
        for given in (found["get_urls"], found["init_object"]["get_urls"]):
            assert [url["url"].rpartition("/")[2] for url in given] == seen
            assert all(set(url) <= {"url", "label"} for url in given)

    async def test_other_urls_pass_byte_for_byte(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        urls = [
            "https://s3.example/b/k%2Fx?X-Amz-Signature=a%2Bb&y=%20",
            f"{plain.url}.evil.example/x",
            f"http://x@evil.example/{plain.url}",
            plain.url.replace("http:", "https:") + "/media/x",
        ]
        plain.segments[flow] = [segment("o", *({"url": url, "label": "open"} for url in urls))]
        answer = await proxy.made("attacker", "GET", f"/flows/{flow}/segments")
        assert [url["url"] for url in answer.json()[0]["get_urls"]] == urls

    async def _relayed(self, plain: Plain, proxy: Proxy, url: str, **said: Any) -> str:
        (flow,) = holds(plain, ["a"])
        plain.segments[flow] = [segment("o", {"url": plain.url + url, "label": "open", **said})]
        answer = await proxy.made("attacker", "GET", f"/flows/{flow}/segments")
        assert "127.0.0.1" not in answer.text
        (entry,) = answer.json()[0]["get_urls"]
        assert entry["presigned"] is True
        return str(entry["url"]).removeprefix("http://tams.test")

    async def test_bytes_on_its_own_origin_are_relayed(self, plain: Plain, proxy: Proxy) -> None:
        plain.media["k"] = b"0123456789"
        path = await self._relayed(plain, proxy, "/media/k?sig=x%2Fy", presigned=True)
        sent = {"range": "bytes=0-3", "cookie": "a=b", "authorization": "Bearer mine"}
        answer = await proxy.call(None, "GET", path, headers=sent)
        assert (answer.status_code, answer.content) == (200, b"0123456789")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not {"set-cookie", "x-internal", "server"} & set(answer.headers)
        call = plain.calls[-1]
        assert call.target == "/media/k?sig=x%2Fy" and call.headers["range"] == "bytes=0-3"
        assert not {"cookie", "authorization"} & set(call.headers)
        assert (await proxy.call(None, "HEAD", path)).content == b""

    async def test_a_relayed_url_is_good_for_nothing_else(self, plain: Plain, proxy: Proxy) -> None:
        plain.media["k"] = b"x"
        path = await self._relayed(plain, proxy, "/media/k", presigned=True)
        bad = [
            ("PUT", path),
            ("DELETE", path),
            ("GET", path[:-1] + ("A" if path[-1] != "A" else "B")),
            ("GET", path.replace("/relay/", "/relay/A")),
            ("GET", path + "&x=1"),
        ]
        del plain.calls[:]
        for method, spoilt in bad:
            assert (await proxy.call(None, method, spoilt)).status_code in (403, 405)
        assert plain.calls == []

    async def test_uploads_stream_through(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        answer = await proxy.made("attacker", "POST", f"/flows/{flow}/storage", {"limit": 1})
        (entry,) = answer.json()["media_objects"]
        path = entry["put_url"]["url"].removeprefix("http://tams.test")
        content = bytes(range(256)) * 8192
        sent = {"content-type": "video/mp2t"}
        put = await proxy.call(None, "PUT", path, content=content, headers=sent)
        assert put.status_code == 200 and put.headers["etag"] == '"1"'
        assert plain.media[entry["object_id"]] == content
        assert plain.calls[-1].headers["content-type"] == "video/mp2t"
        assert plain.calls[-1].headers["content-length"] == str(len(content))
        used = await proxy.call(
            "attacker",
            "POST",
            f"/flows/{flow}/segments",
            {"object_id": entry["object_id"], "timerange": "[0:0_1:0)"},
        )
        assert used.status_code == 201

    async def test_an_object_of_another_flow_cannot_be_claimed(self, plain: Plain, proxy: Proxy) -> None:
        (mine, theirs) = holds(plain, ["a"], ["v"])
        answer = await proxy.made("victim", "POST", f"/flows/{theirs}/storage", {"limit": 1})
        object_id = answer.json()["media_objects"][0]["object_id"]
        for name in (object_id, "never-allocated"):
            body = {"object_id": name, "timerange": "[0:0_1:0)"}
            assert (await proxy.call("attacker", "POST", f"/flows/{mine}/segments", body)).status_code == 400
        again = {"object_ids": [object_id]}
        assert (await proxy.call("attacker", "POST", f"/flows/{mine}/storage", again)).status_code == 400

    async def test_a_client_that_leaves_ends_the_call_upstream(self, plain: Plain, proxy: Proxy) -> None:
        path = await self._relayed(plain, proxy, "/media/endless", presigned=True)
        begun = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                begun.set()
                await asyncio.sleep(0)

        await asyncio.wait_for(proxy.app(scope("GET", path), receive, send), 30)
        assert await asyncio.to_thread(plain.left.wait, 30)

    async def test_an_upload_that_is_cut_off_is_cut_off_upstream(self, plain: Plain, proxy: Proxy) -> None:
        path = await uploading(plain, proxy, "sink")

        async def receive() -> dict[str, Any]:
            # Once some of it has arrived there.
            if plain.taken_bytes:
                return {"type": "http.disconnect"}
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

        async def send(message: Any) -> None:
            raise AssertionError("an answer for nobody")

        await asyncio.wait_for(proxy.app(scope("PUT", path), receive, send), 30)
        assert await asyncio.to_thread(plain.left.wait, 30)
        assert plain.media == {}

    async def test_long_media_come_and_go_in_little_memory(self, plain: Plain, proxy: Proxy) -> None:
        """64 MiB each way; of which a part is ever held, in both servers together."""
        down = await self._relayed(plain, proxy, f"/media/{LONG}", presigned=True)
        up = await uploading(plain, proxy, SINK)
        sizes: list[int] = []
        piece, left = b"x" * 65536, LONG_BYTES

        async def nothing() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def take(message: Any) -> None:
            sizes.append(len(message.get("body", b"")))

        async def give() -> dict[str, Any]:
            nonlocal left
            left -= len(piece)
            return {"type": "http.request", "body": piece, "more_body": left > 0}

        tracemalloc.start()
        try:
            await proxy.app(scope("GET", down), nothing, take)
            assert sum(sizes) == LONG_BYTES and max(sizes) <= CHUNK_BYTES
            await proxy.app(scope("PUT", up), give, take)
            assert plain.taken_bytes == LONG_BYTES
            assert tracemalloc.get_traced_memory()[1] < LONG_BYTES // 4
        finally:
            tracemalloc.stop()


class TestRaces:
    """Rights that go while somebody uses them."""

    async def test_segments_are_shown_by_the_classes_that_are_left(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        plain.segments[flow] = [segment("o")]
        path = f"/flows/{flow}/segments"
        assert len((await proxy.made("attacker", "GET", path)).json()) == 1

        def takes_away(call: Call) -> None:
            if call.target.startswith(path):
                plain.flows[flow]["tags"] = {"auth_classes": ["v"]}

        plain.trouble = takes_away
        answer = await proxy.call("attacker", "GET", path)
        absent = await proxy.call("attacker", "GET", f"/flows/{uuid.uuid4()}/segments")
        assert told(answer) == told(absent) and answer.status_code == 404

    @pytest.mark.parametrize(
        ("method", "suffix", "body"),
        [
            ("PUT", "/label", "x"),
            ("PUT", "/tags/auth_classes", ["a"]),
            ("POST", "/storage", {"limit": 1}),
            ("DELETE", "", None),
            ("DELETE", "/segments", None),
        ],
    )
    async def test_a_write_is_decided_again_on_what_is_there_when_it_goes_out(
        self, plain: Plain, proxy: Proxy, method: str, suffix: str, body: object
    ) -> None:
        (flow,) = holds(plain, ["a"])
        await proxy.made("attacker", "GET", f"/flows/{flow}")
        looks: list[str] = []

        def takes_away(call: Call) -> None:
            looks.append(call.method)
            if looks.count("GET") == 2:
                plain.flows[flow]["tags"] = {"auth_classes": ["v"]}

        plain.trouble = takes_away
        answer = await proxy.call("attacker", method, f"/flows/{flow}{suffix}", body)
        assert answer.status_code == 404
        assert set(looks) == {"GET"} and plain.flows[flow]["tags"] == {"auth_classes": ["v"]}


class TestLeaving:
    async def test_a_read_whose_caller_leaves_ends_upstream(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        await proxy.made("attacker", "GET", f"/flows/{flow}")
        asked = threading.Event()
        plain.trouble = lambda call: Waiting(asked, plain.left)

        async def receive() -> dict[str, Any]:
            await asyncio.to_thread(asked.wait, 30)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError("an answer for nobody")

        asking = scope("GET", f"/flows/{flow}", await proxy.token("attacker"))
        await asyncio.wait_for(proxy.app(asking, receive, send), 30)
        assert await asyncio.to_thread(plain.left.wait, 30)

    def test_so_it_does_when_a_connection_is_closed(self, tmp_path: Path) -> None:
        plain, asked = Plain(), threading.Event()
        with plainly(plain, tmp_path) as here:
            here.made("attacker", "GET", "/service")
            plain.trouble = lambda call: Waiting(asked, plain.left)
            said = (
                f"GET /flows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {here.tokens['attacker']}\r\n\r\n"
            )
            port = int(here.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(said.encode())
                assert asked.wait(30)
            assert plain.left.wait(30)

    async def test_a_write_goes_on_when_its_caller_leaves(self, plain: Plain, proxy: Proxy) -> None:
        (flow,) = holds(plain, ["a"])
        body: list[dict[str, Any]] = [{"type": "http.request", "body": b'"changed"'}]

        async def receive() -> dict[str, Any]:
            return body.pop() if body else {"type": "http.disconnect"}

        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        asking = scope("PUT", f"/flows/{flow}/label", await proxy.token("attacker"))
        await asyncio.wait_for(proxy.app(asking, receive, send), 30)
        assert statuses[0] == 204 and plain.flows[flow]["label"] == "changed"

    async def test_an_end_that_others_ask_for_is_theirs(self) -> None:
        """A server that stops cancels what is under way, whether its caller is gone or not."""
        begun, gone = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError

        task = asyncio.ensure_future(UntilGone(app)(scope("GET", "/flows"), receive, send))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = asyncio.ensure_future(UntilGone(app)(scope("HEAD", "/flows"), receive, send))
        gone.set()
        assert await left is None


class Waiting(Response):
    """Never answers; says when it was asked, and when it was left."""

    def __init__(self, asked: threading.Event, left: threading.Event) -> None:
        super().__init__()
        self._asked, self._left = asked, left

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._asked.set()
        while (await receive())["type"] != "http.disconnect":
            continue
        self._left.set()


def scope(method: str, path: str, token: str | None = None) -> dict[str, Any]:
    """A request as a server hands it on."""
    raw, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "raw_path": raw.encode(),
        "path": raw,
        "query_string": query.encode(),
        "headers": [] if token is None else [(b"authorization", f"Bearer {token}".encode())],
        "client": ("192.0.2.7", 1),
    }


async def uploading(plain: Plain, proxy: Proxy, object_id: str) -> str:
    """Where to upload an object."""
    (flow,) = holds(plain, ["a"])
    body = {"object_ids": [object_id]}
    answer = await proxy.made("attacker", "POST", f"/flows/{flow}/storage", body)
    url: str = answer.json()["media_objects"][0]["put_url"]["url"]
    return url.removeprefix("http://tams.test")
