"""What `Upstream` promises, on the store in this process and on one reached over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from proxy.rules import RULES
from proxy.upstream.embedded import Embedded
from proxy.upstream.protocol import Expect, Request, Response, Upstream, View
from store.app import run_store, with_lifespan
from store.door import Door
from store.errors import Unavailable
from store.keeping import BackendSettings
from store.settings import StoreSettings
from tests.upstream.serving import serving, upstream

TEMPLATES = {rule.operation: (m, t) for t, methods in RULES.items() for m, rule in methods.items()}
OPEN, HIDDEN = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
KEY = b"k" * 32
SEES_A = View(False, frozenset(("a",)), frozenset())
SEES_A_B = View(False, frozenset(("a", "b")), frozenset())
ADMIN = View(True, frozenset(), frozenset())
NOBODY = View(False, frozenset(), frozenset())


def settings(folder: Path, url: str) -> StoreSettings:
    backends = (
        BackendSettings(id=OPEN, label="open", default=True, folder=folder / "open"),
        BackendSettings(id=HIDDEN, label="hidden", tags={"auth_classes": ["v"]}, folder=folder / "hidden"),
    )
    return StoreSettings(
        data=folder, public_url=url, storage_backends=backends, delete_inline=1, trust_created_by=True
    )


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store served over HTTP; every test brings ids of its own."""
    folder = tmp_path_factory.mktemp("remote")
    with serving(lambda url: with_lifespan(settings(folder, url), secret=KEY)) as url:
        yield url


@dataclass
class Subject:
    """An upstream, and short ways to use it. Listings are told apart by a tag of this test's own."""

    upstream: Upstream
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def call(
        self,
        operation: str,
        params: dict[str, str] | None = None,
        body: object = None,
        *,
        query: str = "",
        view: View | None = ADMIN,
        expect: Expect | None = None,
        actor: str = "user:local/somebody",
    ) -> Response:
        _, template = TEMPLATES[operation]
        path = template
        for name, value in (params or {}).items():
            path = path.replace("{" + name + "}", quote(value, safe=""))
        content = b"" if body is None else json.dumps(body).encode()
        pairs = parse_qsl(query, keep_blank_values=True)
        return await self.upstream.call(
            Request(operation, path, params or {}, pairs, content, view, expect, actor)
        )

    async def done(
        self, operation: str, params: dict[str, str], body: object = None, **more: Any
    ) -> Response:
        response = await self.call(operation, params, body, **more)
        assert 200 <= response.status < 300, response.body
        return response

    async def flow(self, classes: list[str] | None, **more: Any) -> dict[str, Any]:
        document = {
            "id": str(uuid.uuid4()),
            "source_id": str(uuid.uuid4()),
            "format": "urn:x-nmos:format:data",
            "codec": "application/json",
            "container": "application/json",
            "essence_parameters": {"data_type": "urn:x-tam:data:test"},
            "tags": {"mark": self.mark, **({} if classes is None else {"auth_classes": classes})},
            **more,
        }
        await self.done("PUT_flows-flowId", {"flowId": document["id"]}, document)
        return document

    async def multi(self, classes: list[str], *members: dict[str, Any]) -> dict[str, Any]:
        items = [{"id": member["id"], "role": f"r{n}"} for n, member in enumerate(members)]
        document = {
            "id": str(uuid.uuid4()),
            "source_id": str(uuid.uuid4()),
            "format": "urn:x-nmos:format:multi",
            "container": "video/mp2t",
            "tags": {"mark": self.mark, "auth_classes": classes},
            "flow_collection": items,
        }
        await self.done("PUT_flows-flowId", {"flowId": document["id"]}, document)
        return document

    async def allocated(self, flow_id: str, **said: Any) -> dict[str, Any]:
        response = await self.done("POST_flows-flowId-storage", {"flowId": flow_id}, {"limit": 1, **said})
        entry: dict[str, Any] = json.loads(response.body)["media_objects"][0]
        return entry

    async def segment(self, flow_id: str, start_s: int, object_id: str | None = None, **said: Any) -> str:
        if object_id is None:
            object_id = str((await self.allocated(flow_id, **said))["object_id"])
        body = {"object_id": object_id, "timerange": f"[{start_s}:0_{start_s + 1}:0)"}
        if start_s:
            body["ts_offset"] = f"{start_s}:0"
        await self.done("POST_flows-flowId-segments", {"flowId": flow_id}, body)
        return object_id

    async def pages(self, operation: str, query: str, params: dict[str, str], **more: Any) -> list[list[Any]]:
        """All pages of a listing, by following `Link`."""
        found, pairs = [], query
        while True:
            response = await self.call(operation, params, query=pairs, **more)
            assert response.status == 200, response.body
            headers = dict(response.headers)
            found.append(json.loads(response.body))
            assert headers["x-paging-count"] == str(len(found[-1]))
            if "link" not in headers:
                assert "x-paging-nextkey" not in headers
                return found
            url = headers["link"].partition("<")[2].partition(">")[0]
            pairs = urlsplit(url).query
            assert ("page", headers["x-paging-nextkey"]) in parse_qsl(pairs)


@pytest.fixture(params=["embedded", "http"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "embedded":
        keys = (KEY,)
        opened = run_store(
            settings(tmp_path, "http://tams.test"),
            media_keys=keys,
            cursor_keys=keys,
            webhook_keys=keys,
            jobs=(),
        )
        async with opened as running:
            yield Subject(Embedded(Door(running.store), Unavailable))
    else:
        async with upstream(request.getfixturevalue("remote"), tmp_path) as found:
            yield Subject(found)


def ids(documents: list[dict[str, Any]]) -> list[str]:
    return [document["id"] for document in documents]


class TestReading:
    async def test_a_flow_comes_with_its_classes_and_those_of_its_relations(self, subject: Subject) -> None:
        a, v = await subject.flow(["a"]), await subject.flow(["v"])
        multi = await subject.multi(["a", "b"], a, v)
        response = await subject.call("GET_flows-flowId", {"flowId": multi["id"]}, view=SEES_A)
        assert response.status == 200 and json.loads(response.body)["id"] == multi["id"]
        assert response.facts is not None
        assert response.facts.classes == {"a", "b"}
        assert response.facts.related == {a["id"]: {"a"}, v["id"]: {"v"}}
        response = await subject.call("GET_flows-flowId", {"flowId": v["id"]}, view=SEES_A)
        assert response.facts is not None and response.facts.related == {multi["id"]: {"a", "b"}}

    async def test_a_source_comes_with_its_classes_and_those_of_its_relations(self, subject: Subject) -> None:
        v = await subject.flow(["v"])
        multi = await subject.multi(["a"], v)
        response = await subject.call("GET_sources-sourceId", {"sourceId": multi["source_id"]}, view=SEES_A)
        assert response.facts is not None and response.facts.classes == {"a"}
        assert response.facts.related == {v["source_id"]: {"v"}}

    async def test_what_is_not_there_has_no_facts(self, subject: Subject) -> None:
        for name in (str(uuid.uuid4()), "no-uuid", "..%2f", "a b"):
            for operation in ("GET_flows-flowId", "GET_flows-flowId-tags", "GET_flows-flowId-label"):
                response = await subject.call(operation, {"flowId": name}, view=SEES_A)
                assert (response.status, response.facts) == (404, None)
            response = await subject.call("GET_sources-sourceId", {"sourceId": name}, view=SEES_A)
            assert (response.status, response.facts) == (404, None)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tags", {"auth_classes": ["a"], "x/y%": ["1", "2"]}),
            ("label", "a label"),
            ("description", "said"),
            ("read-only", True),
            ("max-bit-rate", 5),
            ("flow-collection", []),
        ],
    )
    async def test_a_property_comes_with_the_classes_of_its_flow(
        self, subject: Subject, name: str, value: object
    ) -> None:
        properties = {name.replace("-", "_"): value} if name != "flow-collection" else {}
        flow = await subject.flow(["a"], **{"tags": {"auth_classes": ["a"]}, **properties})
        response = await subject.call(f"GET_flows-flowId-{name}", {"flowId": flow["id"]}, view=SEES_A)
        assert (response.status, json.loads(response.body)) == (200, value)
        assert response.facts is not None and response.facts.classes == {"a"}

    async def test_an_unset_property_is_absent_with_facts(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        for name in ("label", "description", "avg-bit-rate"):
            response = await subject.call(f"GET_flows-flowId-{name}", {"flowId": flow["id"]}, view=SEES_A)
            assert response.status == 404
            assert response.facts is not None and response.facts.classes == {"a"}
        response = await subject.call(
            "GET_flows-flowId-tags-name", {"flowId": flow["id"], "name": "none"}, view=SEES_A
        )
        assert response.status == 404 and response.facts is not None

    async def test_a_tag_is_found_by_any_name(self, subject: Subject) -> None:
        names = ["x/y", "a%2Fb", "a.b", "é", "a b", "q?&="]
        flow = await subject.flow(["a"], tags={"auth_classes": "a", **{name: name for name in names}})
        for name in names:
            params = {"flowId": flow["id"], "name": name}
            response = await subject.call("GET_flows-flowId-tags-name", params, view=SEES_A)
            assert (response.status, json.loads(response.body)) == (200, name)
            assert response.facts is not None and response.facts.classes == {"a"}

    async def test_what_the_service_says_is_for_everybody(self, subject: Subject) -> None:
        for operation in ("GET_root", "GET_service"):
            response = await subject.call(operation, view=NOBODY)
            assert response.status == 200 and response.facts is not None
            assert dict(response.headers)["content-type"] == "application/json"

    async def test_a_bad_query_is_400_with_or_without_the_resource(self, subject: Subject) -> None:
        response = await subject.call("GET_flows", query="limit=0", view=SEES_A)
        assert response.status == 400


class TestLists:
    async def test_only_what_the_view_sees_is_listed_and_pages_are_full(self, subject: Subject) -> None:
        flows = [await subject.flow(["a"] if n % 3 == 0 else ["v"]) for n in range(15)]
        pages = await subject.pages("GET_flows", f"tag.mark={subject.mark}&limit=2", {}, view=SEES_A)
        assert [len(page) for page in pages] == [2, 2, 1]
        assert [i for page in pages for i in ids(page)] == [f["id"] for f in reversed(flows[::3])]

    async def test_what_is_denied_is_not_listed_and_pages_are_full(self, subject: Subject) -> None:
        flows = [await subject.flow(["a", "x"] if n % 2 else ["a"]) for n in range(12)]
        view = View(False, frozenset(("a",)), frozenset(("x",)))
        pages = await subject.pages("GET_flows", f"tag.mark={subject.mark}&limit=2", {}, view=view)
        assert [len(page) for page in pages] == [2, 2, 2]
        assert [i for page in pages for i in ids(page)] == [f["id"] for f in reversed(flows[::2])]

    async def test_nothing_after_the_last_visible_item_shows(self, subject: Subject) -> None:
        for n in range(9):
            await subject.flow(["a", "x"] if n < 5 else ["a"])
        view = View(False, frozenset(("a",)), frozenset(("x",)))
        pages = await subject.pages("GET_flows", f"tag.mark={subject.mark}&limit=4", {}, view=view)
        assert [len(page) for page in pages] == [4]

    async def test_untagged_resources_are_listed_only_by_their_default_class(self, subject: Subject) -> None:
        tagged, untagged = await subject.flow(["a"]), await subject.flow(None)
        for default, expected in ((None, [tagged]), ("a", [untagged, tagged]), ("b", [tagged])):
            view = View(False, frozenset(("a",)), frozenset(), default)
            (page,) = await subject.pages("GET_flows", f"tag.mark={subject.mark}", {}, view=view)
            assert ids(page) == ids(expected)

    async def test_a_client_that_filters_by_class_gets_what_both_leave(self, subject: Subject) -> None:
        both, other = await subject.flow(["a", "v"]), await subject.flow(["v"])
        await subject.flow(["a"])
        query = f"tag.mark={subject.mark}&tag.auth_classes=v"
        (page,) = await subject.pages("GET_flows", query, {}, view=SEES_A)
        assert ids(page) == [both["id"]] and other["id"] not in ids(page)

    async def test_who_sees_nothing_gets_nothing(self, subject: Subject) -> None:
        await subject.flow(["a"])
        (page,) = await subject.pages("GET_flows", "", {}, view=NOBODY)
        assert page == []

    async def test_an_administrator_sees_everything(self, subject: Subject) -> None:
        flows = [await subject.flow(["a"]), await subject.flow(None), await subject.flow(["v"])]
        pages = await subject.pages("GET_flows", f"tag.mark={subject.mark}&limit=2", {}, view=ADMIN)
        assert [i for page in pages for i in ids(page)] == [f["id"] for f in reversed(flows)]

    async def test_sources_are_listed_alike(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        await subject.flow(["v"])
        (page,) = await subject.pages("GET_sources", f"tag.mark={subject.mark}", {}, view=SEES_A)
        assert ids(page) == [flow["source_id"]]

    async def test_a_list_comes_with_the_classes_of_all_that_it_names(self, subject: Subject) -> None:
        a, v = await subject.flow(["a"]), await subject.flow(["v"])
        multi = await subject.multi(["a"], a, v)
        response = await subject.call("GET_flows", query=f"tag.mark={subject.mark}", view=SEES_A)
        assert response.facts is not None
        assert response.facts.related == {a["id"]: {"a"}, v["id"]: {"v"}, multi["id"]: {"a"}}

    async def test_a_cursor_is_good_for_its_reader_and_its_query_alone(self, subject: Subject) -> None:
        for _ in range(3):
            await subject.flow(["a"])
        query = f"tag.mark={subject.mark}&limit=1"
        response = await subject.call("GET_flows", query=query, view=SEES_A)
        key = dict(response.headers)["x-paging-nextkey"]
        good = f"{query}&page={key}"
        assert (await subject.call("GET_flows", query=good, view=SEES_A)).status == 200
        for operation, bad, actor in (
            ("GET_flows", good, "user:local/other"),
            ("GET_flows", f"{good}&label=x", "user:local/somebody"),
            ("GET_sources", good, "user:local/somebody"),
            ("GET_flows", f"{good[:-3]}AAA", "user:local/somebody"),
            ("GET_flows", f"{query}&page=1", "user:local/somebody"),
        ):
            answer = await subject.call(operation, query=bad, view=SEES_A, actor=actor)
            assert answer.status == 400

    async def test_a_link_carries_the_public_url_and_the_path_as_spelt(self, subject: Subject) -> None:
        for _ in range(2):
            await subject.flow(["a"])
        response = await subject.call("GET_flows", query=f"tag.mark={subject.mark}&limit=1", view=SEES_A)
        assert dict(response.headers)["link"].startswith("<http://tams.test/flows?tag.mark=")

    async def test_only_visible_storage_backends_are_listed(self, subject: Subject) -> None:
        (page,) = await subject.pages("GET_storage-backends", "", {}, view=SEES_A)
        assert ids(page) == [OPEN]
        (page,) = await subject.pages("GET_storage-backends", "", {}, view=ADMIN)
        assert ids(page) == [HIDDEN, OPEN]

    async def test_backends_are_known_with_their_classes(self, subject: Subject) -> None:
        found = {b.id: (b.label, b.classes, b.default) for b in await subject.upstream.backends()}
        assert found == {OPEN: ("open", frozenset(), True), HIDDEN: ("hidden", {"v"}, False)}


class TestSegments:
    async def test_segments_come_with_the_classes_of_their_flow(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        object_id = await subject.segment(flow["id"], 0)
        response = await subject.call("GET_flows-flowId-segments", {"flowId": flow["id"]}, view=SEES_A)
        (segment,) = json.loads(response.body)
        assert segment["object_id"] == object_id
        assert response.facts is not None and response.facts.classes == {"a"}
        assert dict(response.headers)["x-paging-timerange"] == "[0:0_1:0)"

    async def test_an_unknown_flow_has_no_segments_and_no_classes(self, subject: Subject) -> None:
        params = {"flowId": str(uuid.uuid4())}
        response = await subject.call("GET_flows-flowId-segments", params, view=SEES_A)
        assert (response.status, json.loads(response.body)) == (200, [])
        assert response.facts is not None and response.facts.classes is None

    async def test_segments_are_paged(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        objects = [await subject.segment(flow["id"], n) for n in range(5)]
        pages = await subject.pages(
            "GET_flows-flowId-segments", "limit=2", {"flowId": flow["id"]}, view=SEES_A
        )
        assert [[s["object_id"] for s in page] for page in pages] == [objects[:2], objects[2:4], objects[4:]]

    async def test_urls_on_hidden_backends_are_left_out(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        await subject.segment(flow["id"], 0)
        hidden = await subject.segment(flow["id"], 1, storage_id=HIDDEN)
        params = {"flowId": flow["id"]}
        for view, on_hidden in ((SEES_A, 0), (ADMIN, 2), (View(False, frozenset("av"), frozenset()), 2)):
            response = await subject.call("GET_flows-flowId-segments", params, view=view)
            one, other = json.loads(response.body)
            assert len(one["get_urls"]) == 2
            assert len(other["get_urls"]) == on_hidden
            assert all(set(url) == {"url", "presigned", "label"} for url in one["get_urls"])
            response = await subject.call("GET_objects", {"objectId": hidden}, view=view)
            assert len(json.loads(response.body)["get_urls"]) == on_hidden

    async def test_what_a_client_asks_about_urls_is_honoured(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        await subject.segment(flow["id"], 0)
        params = {"flowId": flow["id"]}
        for query, labels in (
            ("accept_get_urls=", []),
            ("accept_get_urls=open&presigned=true", ["open"]),
            (f"accept_storage_ids={HIDDEN}", []),
            (f"accept_storage_ids={OPEN}&presigned=true", ["open"]),
        ):
            response = await subject.call("GET_flows-flowId-segments", params, query=query, view=SEES_A)
            (segment,) = json.loads(response.body)
            assert [url["label"] for url in segment["get_urls"]] == labels
        response = await subject.call(
            "GET_flows-flowId-segments", params, query="verbose_storage=true", view=SEES_A
        )
        (segment,) = json.loads(response.body)
        assert {url["storage_id"] for url in segment["get_urls"]} == {OPEN}

    async def test_urls_that_clients_brought_follow_the_object(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        object_id = str(uuid.uuid4())
        url = "https://elsewhere.example/x?a=%2F&b=1"
        body = {
            "object_id": object_id,
            "timerange": "[0:0_1:0)",
            "get_urls": [{"url": url, "label": "mine"}],
        }
        await subject.done("POST_flows-flowId-segments", {"flowId": flow["id"]}, body)
        response = await subject.call("GET_flows-flowId-segments", {"flowId": flow["id"]}, view=SEES_A)
        (segment,) = json.loads(response.body)
        assert segment["get_urls"] == [{"url": url, "label": "mine", "presigned": False}]


class TestObjects:
    async def test_an_object_comes_with_the_flows_that_the_view_sees(self, subject: Subject) -> None:
        first, second, third = [await subject.flow([name]) for name in ("v", "a", "a")]
        object_id = await subject.segment(first["id"], 0)
        for flow in (second, third):
            await subject.segment(flow["id"], 0, object_id)
        response = await subject.call("GET_objects", {"objectId": object_id}, view=SEES_A)
        document = json.loads(response.body)
        seen = sorted((second["id"], third["id"]))
        assert sorted(document["referenced_by_flows"]) == seen
        assert dict(response.headers)["x-paging-count"] == "2"
        assert response.facts is not None and response.facts.readable
        assert response.facts.classes is None
        assert {name: c for name, c in response.facts.related.items() if name in seen} == {
            second["id"]: {"a"},
            third["id"]: {"a"},
        }
        response = await subject.call("GET_objects", {"objectId": object_id}, query="limit=1", view=SEES_A)
        assert len(json.loads(response.body)["referenced_by_flows"]) == 1
        assert "x-paging-nextkey" in dict(response.headers)

    async def test_an_object_is_readable_by_any_flow_whatever_is_filtered(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        object_id = await subject.segment(flow["id"], 0)
        for view, readable in ((SEES_A, True), (NOBODY, False), (ADMIN, True)):
            response = await subject.call(
                "GET_objects", {"objectId": object_id}, query="flow_tag.mark=none", view=view
            )
            assert json.loads(response.body)["referenced_by_flows"] == []
            assert response.facts is not None and response.facts.readable is readable

    async def test_an_object_that_is_only_allocated_is_not_there(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        object_id = str((await subject.allocated(flow["id"]))["object_id"])
        response = await subject.call("GET_objects", {"objectId": object_id}, view=SEES_A)
        assert (response.status, response.facts) == (404, None)

    async def test_any_object_id_names_its_object(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        for place, name in enumerate(("a/b", "a b%2F", "é?x=1&y", "x#y")):
            object_id = f"{subject.mark}{name}"
            body = {"object_ids": [object_id]}
            await subject.done("POST_flows-flowId-storage", {"flowId": flow["id"]}, body)
            await subject.segment(flow["id"], place, object_id)
            response = await subject.call("GET_objects", {"objectId": object_id}, view=SEES_A)
            assert json.loads(response.body)["id"] == object_id

    async def test_what_is_known_of_objects(self, subject: Subject) -> None:
        one, two = await subject.flow(["v"]), await subject.flow(["a"])
        shared = await subject.segment(one["id"], 0)
        await subject.segment(two["id"], 0, shared)
        private = await subject.segment(one["id"], 1)
        unused = str((await subject.allocated(two["id"]))["object_id"])
        absent = str(uuid.uuid4())
        known = await subject.upstream.look_up([], [shared, private, unused, absent], SEES_A)
        assert set(known.objects) == {shared, private, unused}
        fact = known.objects[shared]
        assert (fact.role, fact.flow_id, fact.witness) == ("media", one["id"], two["id"])
        assert fact.witness_classes == {"a"} and fact.flow_ids == (one["id"],)
        assert known.objects[private].witness is None
        fact = known.objects[unused]
        assert (fact.role, fact.flow_id, fact.witness) == ("unused", two["id"], None)

    async def test_an_object_whose_first_flow_is_gone_belongs_to_those_that_are_left(
        self, subject: Subject
    ) -> None:
        one, two = await subject.flow(["v"]), await subject.flow(["a"])
        object_id = await subject.segment(one["id"], 0)
        await subject.segment(two["id"], 0, object_id)
        await subject.done("DELETE_flows-flowId", {"flowId": one["id"]})
        known = await subject.upstream.look_up([], [object_id], NOBODY)
        assert known.objects[object_id].flow_ids == (two["id"],)
        assert known.objects[object_id].witness is None

    async def test_an_instance_can_be_added_and_removed(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        params = {"objectId": await subject.segment(flow["id"], 0)}
        url = {"url": "https://elsewhere.example/y", "label": "more"}
        await subject.done("POST_objects-instances", params, url)
        await subject.done("DELETE_objects-instances", params, query="label=more")
        response = await subject.call("DELETE_objects-instances", params, query="label=more")
        assert response.status == 400


class TestLookingUp:
    async def test_what_exists_has_an_entry(self, subject: Subject) -> None:
        a = await subject.flow(["a", "b"])
        multi = await subject.multi(["v"], a)
        absent = str(uuid.uuid4())
        refs = [("flow", a["id"]), ("source", a["source_id"]), ("flow", multi["id"])]
        known = await subject.upstream.look_up([*refs, ("flow", absent), ("source", "no id")], (), None)
        assert known.classes == {refs[0]: {"a", "b"}, refs[1]: {"a", "b"}, refs[2]: {"v"}}
        assert known.source_ids == {a["id"]: a["source_id"], multi["id"]: multi["source_id"]}
        assert known.collections == {multi["id"]: multi["flow_collection"]}

    async def test_nothing_asked_for_is_nothing_found(self, subject: Subject) -> None:
        known = await subject.upstream.look_up((), (), SEES_A)
        assert (known.classes, known.objects) == ({}, {})

    async def test_a_class_that_is_plain_text_counts_as_one(self, subject: Subject) -> None:
        flow = await subject.flow(None, tags={"auth_classes": "a"})
        known = await subject.upstream.look_up([("flow", flow["id"])], (), None)
        assert known.classes == {("flow", flow["id"]): {"a"}}


class TestWriting:
    async def test_a_write_goes_through_while_its_expectation_holds(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        params, ref = {"flowId": flow["id"]}, ("flow", flow["id"])
        expect = Expect({ref: frozenset(("a",))})
        assert (await subject.call("PUT_flows-flowId-label", params, "x", expect=expect)).status == 204
        for wrong in (frozenset(("b",)), frozenset(("a", "b")), frozenset(), None):
            response = await subject.call("PUT_flows-flowId-label", params, "y", expect=Expect({ref: wrong}))
            assert response.status == 409
        response = await subject.call("GET_flows-flowId-label", params)
        assert json.loads(response.body) == "x"

    async def test_a_collection_is_written_while_its_members_are_as_expected(self, subject: Subject) -> None:
        one, two = await subject.flow(["a"]), await subject.flow(["a"])
        multi = await subject.multi(["a"], one)
        params = {"flowId": multi["id"]}
        body = [{"id": two["id"], "role": "r"}]
        operation = "PUT_flows-flowId-flow-collection"
        wrong = Expect(members={multi["id"]: (two["id"],)})
        assert (await subject.call(operation, params, body, expect=wrong)).status == 409
        right = Expect(members={multi["id"]: (one["id"],)})
        assert (await subject.call(operation, params, body, expect=right)).status == 204

    async def test_an_object_is_used_while_its_references_are_those_expected(self, subject: Subject) -> None:
        one, two = await subject.flow(["a"]), await subject.flow(["a"])
        object_id = await subject.segment(one["id"], 0)
        body = {"object_id": object_id, "timerange": "[0:0_1:0)"}
        params = {"flowId": two["id"]}
        operation = "POST_flows-flowId-segments"
        for wrong in (
            Expect(references=frozenset(((object_id, two["id"]),))),
            Expect(unknown=frozenset((object_id,))),
        ):
            assert (await subject.call(operation, params, body, expect=wrong)).status == 409
        right = Expect(references=frozenset(((object_id, one["id"]),)))
        assert (await subject.call(operation, params, body, expect=right)).status == 201

    async def test_a_new_flow_answers_with_itself_and_its_classes(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        document = {**flow, "id": str(uuid.uuid4()), "created_by": "somebody else"}
        expect = Expect({("flow", document["id"]): None})
        params = {"flowId": document["id"]}
        response = await subject.call("PUT_flows-flowId", params, document, expect=expect)
        assert response.status == 201 and json.loads(response.body)["id"] == document["id"]
        assert (await subject.call("PUT_flows-flowId", params, document)).status == 204

    async def test_the_upstreams_refusals_come_as_they_are(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        params = {"flowId": flow["id"]}
        assert (await subject.call("PUT_flows-flowId-label", params, 7)).status == 400
        assert (
            await subject.call("PUT_flows-flowId-label", {"flowId": str(uuid.uuid4())}, "x")
        ).status == 404
        await subject.done("PUT_flows-flowId-read-only", params, True)
        response = await subject.call("PUT_flows-flowId-label", params, "x")
        assert response.status == 403
        assert {"type", "summary", "time"} <= set(json.loads(response.body))

    async def test_a_bulk_tells_what_failed(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        good = str((await subject.allocated(flow["id"]))["object_id"])
        body = [{"object_id": good, "timerange": "[0:0_1:0)"}, {"object_id": good, "timerange": "[0:0_1:0)"}]
        response = await subject.call("POST_flows-flowId-segments", {"flowId": flow["id"]}, body)
        assert response.status == 200
        assert len(json.loads(response.body)["failed_segments"]) == 1

    async def test_a_taken_object_id_is_refused(self, subject: Subject) -> None:
        one, two = await subject.flow(["a"]), await subject.flow(["v"])
        taken = str((await subject.allocated(one["id"]))["object_id"])
        used = await subject.segment(one["id"], 0)
        for name in (taken, used):
            response = await subject.call(
                "POST_flows-flowId-storage", {"flowId": two["id"]}, {"object_ids": [name]}
            )
            assert response.status == 400

    async def test_a_long_deletion_keeps_the_classes_of_its_flow(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        for n in range(3):
            await subject.segment(flow["id"], n)
        expect = Expect({("flow", flow["id"]): frozenset(("a",))})
        response = await subject.call("DELETE_flows-flowId", {"flowId": flow["id"]}, expect=expect)
        assert response.status == 202
        request_id = json.loads(response.body)["id"]
        assert dict(response.headers)["location"] == f"http://tams.test/flow-delete-requests/{request_id}"
        response = await subject.call(
            "GET_flow-delete-requests-request-id", {"request-id": request_id}, view=SEES_A
        )
        assert response.status == 200
        assert response.facts is not None and response.facts.classes == {"a"}

    async def test_bytes_go_up_and_come_down_by_the_urls_given(self, subject: Subject) -> None:
        flow = await subject.flow(["a"])
        entry = await subject.allocated(flow["id"])
        assert entry["put_url"]["url"].startswith("http://tams.test/media/")
