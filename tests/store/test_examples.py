"""The specification's own examples, sent to the running store; what comes back fits the schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.conformance.inlined import inlined
from tests.store.harness import ARCHIVE, Tams, multi, new_id, object_path, seconds, video

SPEC = Path(__file__).resolve().parents[3] / "shared" / "tams-api" / "8.2"
FLOWS = sorted(path.stem for path in (SPEC / "examples").glob("flow-get-200*.json"))
PROFILES = sorted(path.stem for path in (SPEC / "examples").glob("profile-get-200*.json"))

pytestmark = pytest.mark.skipif(
    not SPEC.is_dir(), reason="the TAMS 8.2 specification is not beside the checkout"
)


def example(name: str) -> Any:
    """A published example; a flow that collects itself, which is no collection, gets another id."""
    found = json.loads((SPEC / "examples" / f"{name}.json").read_text())
    if isinstance(found, dict) and any(
        item["id"] == found["id"] for item in found.get("flow_collection", ())
    ):
        found["id"] = new_id()
    return found


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, str, str], Any]:
    """The schema of each answer with a body, by path, method and status."""
    document = inlined(SPEC / "TimeAddressableMediaStore.yaml")
    return {
        (path, method, status): response["content"]["application/json"]["schema"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "put", "delete")
        for status, response in operation["responses"].items()
        if "content" in response
    }


async def members_of(tams: Tams, flow: dict[str, Any]) -> None:
    """Make what a flow collects."""
    for item in flow.get("flow_collection", ()):
        await tams.put(f"/flows/{item['id']}", video(item["id"]), 201)


@pytest.mark.parametrize("name", FLOWS)
async def test_flows_can_be_put_and_are_got_as_they_were(
    tams: Tams, answers: dict[tuple[str, str, str], Any], name: str
) -> None:
    flow = example(name)
    await members_of(tams, flow)
    path = f"/flows/{flow['id']}"
    await tams.put(path, flow, 201)
    found = await tams.get(path)
    Draft202012Validator(answers["/flows/{flowId}", "get", "200"]).validate(found)
    derived = {"timerange", "segments_updated", "metadata_updated", "created", "collected_by"}
    said = {key: value for key, value in flow.items() if key not in derived | {"created_by", "updated_by"}}
    assert {key: found.get(key) for key in said} == said


@pytest.mark.parametrize("name", ["flow-put", "flow-put-multi", "flow-put-profile"])
async def test_puts_of_flows_are_taken(tams: Tams, name: str) -> None:
    flow = example(name)
    await members_of(tams, flow)
    if flow.get("profile_id"):
        profile = {**example("profile-put"), "id": flow["profile_id"]}
        await tams.post(f"/service/profiles/{profile['id']}", profile)
    await tams.put(f"/flows/{flow['id']}", flow, 201)


@pytest.mark.parametrize("name", [*PROFILES, "profile-put", "profile-post-201"])
async def test_profiles_can_be_created(
    tams: Tams, answers: dict[tuple[str, str, str], Any], name: str
) -> None:
    profile = example(name)
    answer = await tams.post(f"/service/profiles/{profile['id']}", profile)
    Draft202012Validator(answers["/service/profiles/{profileId}", "post", "201"]).validate(answer.json())


async def test_webhooks_can_be_created_and_replaced(
    tams: Tams, answers: dict[tuple[str, str, str], Any]
) -> None:
    webhook = (await tams.post("/service/webhooks", example("webhook-post"))).json()
    Draft202012Validator(answers["/service/webhooks", "post", "201"]).validate(webhook)
    put = {**example("webhook-put"), "id": webhook["id"]}
    answer = await tams.put(f"/service/webhooks/{webhook['id']}", put, 201)
    Draft202012Validator(answers["/service/webhooks/{webhookId}", "put", "201"]).validate(answer.json())


async def test_the_service_can_be_described(tams: Tams) -> None:
    said = example("service-post")
    await tams.post("/service", said, 200)
    found = await tams.get("/service")
    assert {name: found[name] for name in said} == said


async def test_collections_storage_segments_and_instances_take_their_examples(tams: Tams) -> None:
    items = example("flow-collection-put")
    parent = multi()
    await members_of(tams, {"flow_collection": items})
    await tams.put(f"/flows/{parent['id']}", parent, 201)
    await tams.put(f"/flows/{parent['id']}/flow_collection", items)
    assert await tams.get(f"/flows/{parent['id']}/flow_collection") == items
    flow = await tams.flow()
    path = f"/flows/{flow['id']}"
    for name in ("flow-storage-post", "flow-storage-post-object_ids"):
        asked = {key: value for key, value in example(name).items() if key != "storage_id"}
        await tams.post(f"{path}/storage", asked)
    segment = example("flow-segment-post")
    for object_id in {segment[key] for key in ("object_id", "init_object_id") if key in segment}:
        await tams.request("POST", f"{path}/storage", json={"object_ids": [object_id]})
    await tams.post(f"{path}/segments", segment)
    instances = f"{object_path(segment['object_id'])}/instances"
    await tams.post(instances, example("objects-instances-uncontrolled-post"))
    controlled = {**example("objects-instances-controlled-post"), "storage_id": ARCHIVE}
    await tams.post(instances, controlled)


async def test_every_answer_of_a_furnished_store_fits_its_schema(
    tams: Tams, answers: dict[tuple[str, str, str], Any]
) -> None:
    member = await tams.flow(tags={"t": ["a", "b"]}, label="l", description="d", max_bit_rate=1)
    parent = await tams.collection(member)
    init = await tams.upload(member["id"], content_type="video/mp4")
    object_id = await tams.segment(
        member["id"], seconds(0, 1), init_object_id=init, key_frame_count=1, ts_offset="0:0"
    )
    places = {
        "/service": "/service",
        "/service/storage-backends": "/service/storage-backends",
        "/sources": "/sources",
        "/sources/{sourceId}": f"/sources/{parent['source_id']}",
        "/flows": "/flows",
        "/flows/{flowId}": f"/flows/{member['id']}?include_timerange=true",
        "/flows/{flowId}/flow_collection": f"/flows/{parent['id']}/flow_collection",
        "/flows/{flowId}/segments": f"/flows/{member['id']}/segments?include_object_timerange=true",
        "/objects/{objectId}": f"{object_path(object_id)}?verbose_storage=true",
    }
    for template, path in places.items():
        found = await tams.get(path)
        assert found
        Draft202012Validator(answers[template, "get", "200"]).validate(found)
    verbose = await tams.get(f"/flows/{member['id']}/segments?verbose_storage=true")
    Draft202012Validator(answers["/flows/{flowId}/segments", "get", "200"]).validate(verbose)
    alone = await tams.get(object_path(init))
    Draft202012Validator(answers["/objects/{objectId}", "get", "200"]).validate(alone)
