"""Rules 57-60 of TAMS 8.2: webhooks, as far as they are kept; their delivery is tested elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from store.domain.draft import Draft
from store.domain.webhooks import webhook_ref
from store.events.hooks import Hook, opened_secret
from tests.store.harness import LOCAL, Tams, new_id

ABSENT = "99999999-9999-4999-8999-999999999999"
HOOK = {
    "url": "https://no-such-host.invalid/hook",
    "api_key_name": "Authorization",
    "api_key_value": "Bearer secret",
    "events": ["flows/created", "flows/updated"],
}
SHOWN = {name: value for name, value in HOOK.items() if name != "api_key_value"}


async def secret(tams: Tams, webhook_id: str) -> str | None:
    """What is kept of a webhook's secret, opened; what lies in the database does not show it."""
    row = (await tams.store.metadata.rows([webhook_ref(webhook_id)]))[webhook_ref(webhook_id)]
    found = opened_secret(tams.store.seal, Hook.of(row))
    assert found is None or found.encode() not in (row.private or b"") + row.document
    return found


async def set_status(tams: Tams, webhook_id: str, status: str, **more: Any) -> None:
    """What only the server does to a webhook."""
    draft, ref = Draft(tams.store.metadata), webhook_ref(webhook_id)
    await draft.load([ref])
    draft.put(ref, {**(draft.get(ref) or {}), "status": status, **more})
    await draft.commit(tams.store.now_ns())


async def test_a_webhook_is_created_replaced_and_deleted_and_its_secret_never_shown(tams: Tams) -> None:
    """rule 57"""
    answer = await tams.post("/service/webhooks", HOOK)
    webhook = answer.json()
    path = f"/service/webhooks/{webhook['id']}"
    assert webhook == {**SHOWN, "id": webhook["id"], "status": "created"}
    assert await tams.get(path) == webhook
    assert await tams.get("/service/webhooks") == [webhook]
    assert await secret(tams, webhook["id"]) == "Bearer secret"
    changed = {**HOOK, "id": webhook["id"], "status": "disabled", "events": ["sources/deleted"]}
    answer = await tams.put(path, changed, 201)
    assert answer.json() == await tams.get(path)
    assert answer.json() == {name: value for name, value in changed.items() if name != "api_key_value"}
    await tams.delete(path)
    await tams.get(path, 404)
    await tams.delete(path, 404)
    await tams.put(path, changed, 404)
    await tams.get("/service/webhooks/x", 404)


async def test_the_service_announces_webhooks(tams: Tams) -> None:
    """rule 57"""
    names = [each["name"] for each in (await tams.get("/service"))["event_stream_mechanisms"]]
    assert names == ["webhooks", "server-sent-events", "websocket"]


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://a.test/x"},
        {"url": "a.test"},
        {"url": "https://"},
        {"url": None},
        {"events": ["flows/exploded"]},
        {"events": "flows/created"},
        {"events": None},
        {"flow_ids": ["x"]},
        {"source_ids": None},
        {"accept_storage_ids": ["local"]},
        {"status": "started"},
        {"status": "error"},
        {"api_key_name": "a b"},
        {"api_key_value": "a\nb"},
        {"presigned": "yes"},
        {"tags": None},
        {"tags": {"auth_classes": ["no class"]}},
        {"flow_ids": [ABSENT] * 1001},
    ],
)
async def test_bad_webhooks_are_refused(tams: Tams, change: dict[str, Any]) -> None:
    """rule 57: unsupported filters among them"""
    await tams.post("/service/webhooks", {**HOOK, **change}, 400)
    assert await tams.get("/service/webhooks") == []
    webhook = (await tams.post("/service/webhooks", HOOK)).json()
    body = {**HOOK, "id": webhook["id"], "status": "created", **change}
    await tams.put(f"/service/webhooks/{webhook['id']}", body, 400)
    assert await tams.get("/service/webhooks") == [webhook]


async def test_a_put_names_its_id_and_status(tams: Tams) -> None:
    """rule 57"""
    webhook = (await tams.post("/service/webhooks", HOOK)).json()
    path = f"/service/webhooks/{webhook['id']}"
    for bad in ({**HOOK, "id": new_id(), "status": "created"}, {**HOOK, "id": webhook["id"]}, HOOK):
        await tams.put(path, bad, 400)


async def test_a_secret_stays_with_its_url(tams: Tams) -> None:
    """rule 57: whoever changes the URL must know the secret that will be sent there"""
    webhook = (await tams.post("/service/webhooks", HOOK)).json()
    path = f"/service/webhooks/{webhook['id']}"
    body = {**SHOWN, "id": webhook["id"], "status": "created"}
    await tams.put(path, {**body, "events": []}, 201)
    assert await secret(tams, webhook["id"]) == "Bearer secret"
    await tams.put(path, {**body, "url": "https://other.invalid/"}, 400)
    await tams.put(path, {**body, "url": "https://other.invalid/", "api_key_value": "new"}, 201)
    assert await secret(tams, webhook["id"]) == "new"
    bare = {name: value for name, value in body.items() if name != "api_key_name"}
    await tams.put(path, {**bare, "url": "https://third.invalid/"}, 201)
    assert await secret(tams, webhook["id"]) is None


async def test_status_goes_only_where_it_can(tams: Tams) -> None:
    """rule 58"""
    webhook = (await tams.post("/service/webhooks", {**HOOK, "status": "disabled"})).json()
    assert webhook["status"] == "disabled"
    path = f"/service/webhooks/{webhook['id']}"
    body = {**HOOK, "id": webhook["id"]}
    error = {"type": "t", "summary": "s", "time": "2026-01-01T00:00:00Z"}
    await tams.put(path, {**body, "status": "created"}, 201)
    await set_status(tams, webhook["id"], "started")
    await tams.put(path, {**body, "status": "disabled"}, 201)
    await set_status(tams, webhook["id"], "error", error=error)
    assert (await tams.get(path))["error"] == error
    await tams.put(path, {**body, "status": "disabled"}, 400)
    await tams.put(path, {**body, "status": "created", "error": error}, 201)
    found = await tams.get(path)
    assert found["status"] == "created" and "error" not in found


@pytest.mark.parametrize("empty", [True, False])
async def test_lists_survive_a_round_trip_empty_or_not(tams: Tams, empty: bool) -> None:
    """rule 59, rule 60"""
    lists = {
        "flow_ids": [new_id()],
        "source_ids": [new_id()],
        "flow_collected_by_ids": [new_id()],
        "source_collected_by_ids": [new_id()],
        "accept_get_urls": ["label"],
        "accept_storage_ids": [LOCAL],
    }
    if empty:
        lists = {name: [] for name in lists}
    flags = {"presigned": False, "verbose_storage": True, "include_object_timerange": False}
    webhook = (await tams.post("/service/webhooks", {**HOOK, **lists, **flags})).json()
    found = await tams.get(f"/service/webhooks/{webhook['id']}")
    assert {name: found[name] for name in (*lists, *flags)} == {**lists, **flags}
    body = {**found, "api_key_value": "x"}
    await tams.put(f"/service/webhooks/{webhook['id']}", body, 201)
    assert await tams.get(f"/service/webhooks/{webhook['id']}") == found


async def test_webhooks_sort_by_url_and_filter_by_tags(tams: Tams) -> None:
    """rule 10, rule 7"""
    for name, tags in (("b", {"t": "x"}), ("a", {"t": ["y"]}), ("c", {})):
        await tams.post("/service/webhooks", {**HOOK, "url": f"https://{name}.test/", "tags": tags})

    async def found(query: str) -> list[str]:
        return [each["url"][8] for each in await tams.get(f"/service/webhooks?{query}")]

    assert await found("") == ["a", "b", "c"]
    assert await found("reverse_order=true") == ["c", "b", "a"]
    assert await found("tag.t=x,y") == ["a", "b"]
    assert await found("tag_exists.t=false") == ["c"]
    answer = await tams.request("GET", "/service/webhooks?limit=2")
    assert answer.headers["x-paging-count"] == "2"
    assert [each["url"][8] for each in await tams.get(answer.links["next"]["url"])] == ["c"]
