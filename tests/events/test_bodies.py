"""The messages of the eight events, against the specification's schemas and against GET."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from ruamel.yaml import YAML

from store.events.bodies import Options, Renderer
from store.events.values import EVENT_TYPES
from store.metadata.rows import Event
from store.view import View
from tests.store.harness import ARCHIVE, LOCAL, Tams, running_tams, seconds

SPEC = Path(__file__).resolve().parents[3] / "shared/tams-api/8.2"


@pytest.fixture
async def tams(tmp_path: Path) -> AsyncIterator[Tams]:
    async with running_tams(tmp_path) as found:
        yield found


def renderer(tams: Tams) -> Renderer:
    return Renderer(tams.store.metadata, tams.store.backends, tams.store.now_ns)


async def happened(tams: Tams, kind: str) -> list[Event]:
    return [s.event for s in await tams.store.metadata.events(0, 1000) if s.event.type == kind]


async def told(tams: Tams, event: Event, view: View | None = None, **webhook: Any) -> Any:
    return json.loads(await renderer(tams).message(event, Options.of(webhook), view))


async def everything(tams: Tams) -> None:
    """All eight events, and a flow with a segment that has an init object, left at the end."""
    gone = await tams.flow()
    await tams.segment(gone["id"], seconds(0, 1))
    await tams.delete(f"/flows/{gone['id']}/segments")
    await tams.delete(f"/flows/{gone['id']}")
    flow = await tams.flow()
    await tams.put(f"/flows/{flow['id']}/label", "changed")
    await tams.put(f"/sources/{flow['source_id']}/label", "changed")
    init = await tams.upload(flow["id"])
    await tams.segment(flow["id"], seconds(5, 6), init_object_id=init, key_frame_count=3)


def schemas() -> dict[str, Draft202012Validator]:
    """A validator of the message of each event, from the specification's own document."""
    if not SPEC.is_dir():
        pytest.skip("the TAMS 8.2 specification is not beside the checkout")
    files = {f"schemas/{p.name}": json.loads(p.read_text()) for p in (SPEC / "schemas").glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource(contents, DRAFT202012)) for name, contents in files.items()
    )
    document = YAML(typ="safe", pure=True).load(SPEC / "TimeAddressableMediaStore.yaml")
    return {
        name: Draft202012Validator(
            said["post"]["requestBody"]["content"]["application/json"]["schema"], registry=registry
        )
        for name, said in document["webhooks"].items()
    }


async def test_all_eight_messages_are_as_the_specification_has_them(tams: Tams) -> None:
    await everything(tams)
    validators = schemas()
    assert set(validators) == EVENT_TYPES
    for kind, validator in validators.items():
        events = await happened(tams, kind)
        assert events, kind
        for event in events:
            body = await told(tams, event, include_object_timerange=True, verbose_storage=True)
            assert not list(validator.iter_errors(body)), kind
            assert set(body) == {"event_timestamp", "event_type", "event"}


@pytest.mark.parametrize(
    "webhook",
    [
        {},
        {"presigned": False},
        {"presigned": True, "verbose_storage": True},
        {"accept_get_urls": []},
        {"accept_get_urls": ["local", "elsewhere"]},
        {"accept_get_urls": ["archive"]},
        {"accept_storage_ids": []},
        {"accept_storage_ids": [ARCHIVE]},
        {"accept_storage_ids": [LOCAL], "presigned": True},
        {"include_object_timerange": True},
    ],
)
async def test_segments_are_told_as_the_same_query_lists_them(tams: Tams, webhook: dict[str, Any]) -> None:
    flow = await tams.flow()
    init = await tams.upload(flow["id"])
    urls = [{"url": "https://elsewhere.example/x", "label": "elsewhere"}]
    await tams.segment(flow["id"], seconds(0, 1), init_object_id=init, get_urls=urls)
    (event,) = await happened(tams, "flows/segments_added")
    query = {
        name: ",".join(value) if isinstance(value, list) else str(value).lower()
        for name, value in webhook.items()
    }
    listed = await tams.segments(flow["id"], **query)
    assert (await told(tams, event, **webhook))["event"] == {"flow_id": flow["id"], "segments": listed}


async def test_urls_are_only_those_of_storage_backends_that_the_listener_reads(tmp_path: Path) -> None:
    backends = (
        {"id": LOCAL, "label": "local", "default": True, "tags": {"auth_classes": ["news"]}},
        {"id": ARCHIVE, "label": "archive"},
    )
    async with running_tams(tmp_path, backends=backends) as tams:
        flow = await tams.flow()
        await tams.segment(flow["id"], seconds(0, 1))
        (event,) = await happened(tams, "flows/segments_added")
        for allow, count in ((frozenset[str](), 0), (frozenset(("news",)), 2)):
            body = await told(tams, event, View(False, allow, frozenset()))
            assert len(body["event"]["segments"][0]["get_urls"]) == count


async def test_segments_of_a_flow_that_is_gone_come_without_urls(tams: Tams) -> None:
    flow = await tams.flow()
    shared = await tams.segment(flow["id"], seconds(0, 1))
    other = await tams.flow()
    await tams.segment(other["id"], seconds(0, 1), shared)
    event = (await happened(tams, "flows/segments_added"))[0]
    assert (await told(tams, event))["event"]["segments"][0]["get_urls"]
    await tams.delete(f"/flows/{flow['id']}")
    (segment,) = (await told(tams, event))["event"]["segments"]
    assert segment["get_urls"] == []
    assert segment["object_id"] == shared
