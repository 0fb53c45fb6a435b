"""Registering webhooks and profiles: what their bodies may name, and whose a webhook is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.identity.principal import Principal
from proxy.owner import owner_of, read_owner
from store.metadata.rows import Kind, Ref
from store.metadata.sqlite import open_sqlite
from tests.authorization.world import INSIDE
from tests.proxy.support import Proxy, flow_document, new_id, told

WORLD = INSIDE
WEBHOOKS = "/service/webhooks"


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    async with WORLD.running(tmp_path) as found:
        yield found


def webhook(**said: Any) -> dict[str, Any]:
    return {"url": "https://receiver.example/", "events": ["flows/created"], **said}


async def owner_kept(folder: Path, webhook_id: str) -> Principal:
    """The owner as another process would read it."""
    metadata = await open_sqlite(folder / WORLD.metadata)
    try:
        ref = Ref(Kind.WEBHOOK, webhook_id)
        private = (await metadata.rows([ref]))[ref].private
    finally:
        await metadata.close()
    return read_owner(orjson.loads(private or b"")["owner"].encode()).principal


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flow_ids", "id"),
        ("source_ids", "source_id"),
        ("flow_collected_by_ids", "id"),
        ("source_collected_by_ids", "source_id"),
    ],
)
async def test_a_webhook_names_only_what_its_writer_reads(proxy: Proxy, name: str, kind: str) -> None:
    mine, hidden = await proxy.flow(["a"]), await proxy.flow(["v"])
    mixed = [[mine[kind], hidden[kind]], [mine[kind], new_id()]]
    answers = [await proxy.call("attacker", "POST", WEBHOOKS, webhook(**{name: ids})) for ids in mixed]
    assert [a.status_code for a in answers] == [400, 400]
    assert told(answers[0]) == told(answers[1])
    made = await proxy.made("attacker", "POST", WEBHOOKS, webhook(**{name: [mine[kind]]}))
    path = f"{WEBHOOKS}/{made.json()['id']}"
    for ids in mixed:
        put = {**made.json(), name: ids}
        assert (await proxy.call("attacker", "PUT", path, put)).status_code == 400
    assert (await proxy.made("attacker", "GET", path)).json()[name] == [mine[kind]]


@pytest.mark.parametrize("ids", [None, "x", [1], [None], {}, [new_id() for _ in range(1001)]])
async def test_lists_of_ids_of_the_wrong_form_are_refused(proxy: Proxy, ids: object) -> None:
    answer = await proxy.call("attacker", "POST", WEBHOOKS, webhook(flow_ids=ids))
    assert answer.status_code == 400


async def test_a_webhook_gets_the_classes_of_its_writer_and_keeps_them(proxy: Proxy) -> None:
    made = (await proxy.made("attacker", "POST", WEBHOOKS, webhook())).json()
    assert made["tags"]["auth_classes"] == ["a"]
    path = f"{WEBHOOKS}/{made['id']}"
    put = {**webhook(), "id": made["id"], "status": "created"}
    again = await proxy.made("attacker", "PUT", path, put)
    assert again.status_code == 201
    assert again.json()["tags"]["auth_classes"] == ["a"]
    for classes, status in ((["v"], 403), (["a", "v"], 403), ([], 403), (["*"], 400)):
        answer = await proxy.call("attacker", "PUT", path, {**put, "tags": {"auth_classes": classes}})
        assert answer.status_code == status
    assert (
        await proxy.call("attacker", "POST", WEBHOOKS, webhook(tags={"auth_classes": ["v"]}))
    ).status_code == 403
    assert (await proxy.call("victim", "GET", path)).status_code == 404
    assert made["id"] not in (await proxy.made("victim", "GET", WEBHOOKS)).text


async def test_whoever_writes_a_webhook_last_owns_it(proxy: Proxy, tmp_path: Path) -> None:
    made = (await proxy.made("attacker", "POST", WEBHOOKS, webhook(owner="victim"))).json()
    assert (await owner_kept(tmp_path, made["id"])).subject == "attacker"
    put = {**webhook(), "id": made["id"], "status": "created"}
    await proxy.made("colleague", "PUT", f"{WEBHOOKS}/{made['id']}", put)
    assert (await owner_kept(tmp_path, made["id"])).subject == "colleague"
    shown = (await proxy.made("colleague", "GET", f"{WEBHOOKS}/{made['id']}")).text
    assert "owner" not in shown and "colleague" not in shown


def test_an_owner_is_read_as_it_was_written() -> None:
    principal = Principal("idp", "s u b", None, frozenset({"b", "a"}), frozenset({"x"}), False, 17)
    owner = read_owner(owner_of(principal, 42))
    assert owner.time_s == 42
    assert owner.principal.user == principal.user
    assert (owner.principal.groups, owner.principal.scopes) == (principal.groups, principal.scopes)
    unscoped = Principal("idp", "s", "c", frozenset(), None, True, 17)
    assert read_owner(owner_of(unscoped, 1)).principal.scopes is None


def profile(classes: list[str] | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": new_id(),
        "label": "p",
        "flow_metadata": {
            "format": "urn:x-nmos:format:data",
            "codec": "application/json",
            "essence_parameters": {"data_type": "urn:x-tam:data:test"},
        },
    }
    return document if classes is None else {**document, "tags": {"auth_classes": classes}}


async def _profile(proxy: Proxy, classes: list[str] | None) -> str:
    document = profile(classes)
    made = await proxy.call("admin", "POST", f"/service/profiles/{document['id']}", document)
    WORLD.done("POST_profiles-profileId", made)
    return str(document["id"])


async def test_profiles_are_shown_by_their_classes_and_to_everybody_without_any(proxy: Proxy) -> None:
    open_, mine, hidden = [await _profile(proxy, c) for c in (None, ["a"], ["v"])]
    page = await proxy.call("attacker", "GET", "/service/profiles?limit=100")
    if not WORLD.done("GET_profiles", page):
        return
    assert {p["id"] for p in page.json()} == {open_, mine}
    # Whoever reads no class at all is shown the same.
    nobodys = (await proxy.made("nobody", "GET", "/service/profiles?limit=1000")).json()
    assert open_ in {p["id"] for p in nobodys} and mine not in {p["id"] for p in nobodys}
    for name, status in ((open_, 200), (mine, 200), (hidden, 404)):
        answer = await proxy.call("attacker", "GET", f"/service/profiles/{name}")
        assert answer.status_code == status
    answers = [await proxy.call("attacker", "GET", f"/service/profiles/{n}") for n in (hidden, new_id())]
    assert told(answers[0]) == told(answers[1])


async def test_creators_make_profiles_of_classes_that_they_may_assign(proxy: Proxy) -> None:
    for who, classes, status in (
        ("attacker", ["a"], 201),
        ("attacker", None, 201),
        ("attacker", ["v"], 403),
        ("editor", ["t"], 403),
        ("admin", ["v"], 201),
    ):
        document = profile(classes)
        answer = await proxy.call(who, "POST", f"/service/profiles/{document['id']}", document)
        assert answer.status_code == WORLD.status("POST_profiles-profileId", status), answer.text


async def test_a_flow_takes_a_profile_that_its_writer_reads(proxy: Proxy) -> None:
    mine, hidden = await _profile(proxy, ["a"]), await _profile(proxy, ["v"])

    def linked(profile_id: str) -> dict[str, Any]:
        whole = flow_document(["a"], profile_id=profile_id)
        return {
            n: v for n, v in whole.items() if n not in ("format", "codec", "essence_parameters", "container")
        }

    answers = []
    for name in (hidden, new_id()):
        document = linked(name)
        answers.append(await proxy.call("attacker", "PUT", f"/flows/{document['id']}", document))
    assert [a.status_code for a in answers] == [400, 400]
    assert told(answers[0]) == told(answers[1])
    if not WORLD.has("POST_profiles-profileId"):
        return
    document = linked(mine)
    await proxy.made("attacker", "PUT", f"/flows/{document['id']}", document)
    assert (
        await proxy.call("attacker", "PUT", f"/flows/{document['id']}", {**document, "profile_id": hidden})
    ).status_code == 400
    # A link that is there already, to a profile that the writer does not see, may stay.
    theirs = {**linked(hidden), "tags": {"auth_classes": ["a"]}}
    await proxy.made("admin", "PUT", f"/flows/{theirs['id']}", theirs)
    await proxy.made("attacker", "PUT", f"/flows/{theirs['id']}", {**theirs, "label": "kept"})
