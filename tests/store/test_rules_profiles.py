"""Rules 28 and 29 of TAMS 8.2: profiles, and the flows that use them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.store.harness import VIDEO, Tams, new_id, video

TECHNICAL = {
    "format": "urn:x-nmos:format:video",
    "codec": "video/h264",
    "container": "video/mp2t",
    "avg_bit_rate": 2479,
    "segment_duration": {"numerator": 6, "denominator": 1},
    "essence_parameters": VIDEO,
}
ABSENT = "99999999-9999-4999-8999-999999999999"


async def profile(tams: Tams, **more: Any) -> dict[str, Any]:
    """A profile that was created."""
    body = {"id": new_id(), "flow_metadata": TECHNICAL, **more}
    await tams.post(f"/service/profiles/{body['id']}", body)
    return body


def linked(profile_id: str, **more: Any) -> dict[str, Any]:
    """A flow that takes its technical metadata from a profile."""
    return {"id": new_id(), "source_id": new_id(), "profile_id": profile_id, **more}


async def test_a_flow_takes_its_technical_metadata_from_its_profile(tams: Tams) -> None:
    """rule 28"""
    made = await profile(tams)
    flow = linked(made["id"], label="l")
    path = f"/flows/{flow['id']}"
    answer = await tams.put(path, flow, 201)
    found = await tams.get(path)
    assert found == answer.json()
    assert {name: found[name] for name in TECHNICAL} == TECHNICAL
    assert found["profile_id"] == made["id"]
    assert [each["id"] for each in await tams.get(f"/flows?profile_id={made['id']}")] == [flow["id"]]
    await tams.put(path, {**flow, "label": "m", "tags": {"t": "v"}})
    assert (await tams.get(path))["codec"] == "video/h264"


async def test_a_profile_together_with_technical_metadata_is_refused(tams: Tams) -> None:
    """rule 28"""
    made = await profile(tams)
    for name, value in TECHNICAL.items():
        flow = linked(made["id"], **{name: value})
        await tams.put(f"/flows/{flow['id']}", flow, 400)
    flow = linked(ABSENT)
    await tams.put(f"/flows/{flow['id']}", flow, 400)
    flow = linked("x")
    await tams.put(f"/flows/{flow['id']}", flow, 400)
    assert await tams.get("/flows") == []


async def test_an_empty_profile_id_unlinks(tams: Tams) -> None:
    """rule 28"""
    made = await profile(tams)
    flow = linked(made["id"])
    path = f"/flows/{flow['id']}"
    await tams.put(path, flow, 201)
    own = {**video(flow["id"], flow["source_id"]), "codec": "video/h265"}
    await tams.put(path, own, 400)
    await tams.put(path, {**own, "profile_id": ""})
    found = await tams.get(path)
    assert "profile_id" not in found and found["codec"] == "video/h265" and "avg_bit_rate" not in found
    await tams.put(path, flow)
    assert (await tams.get(path))["codec"] == "video/h264"
    await tams.put(path, {**flow, "profile_id": ""})
    found = await tams.get(path)
    assert "profile_id" not in found and {name: found[name] for name in TECHNICAL} == TECHNICAL
    assert await tams.get(f"/flows?profile_id={made['id']}") == []
    new = linked("")
    await tams.put(f"/flows/{new['id']}", new, 400)


async def test_an_inherited_bit_rate_stays_and_the_greatest_is_free(tams: Tams) -> None:
    """rule 28"""
    made = await profile(tams)
    flow = linked(made["id"])
    path = f"/flows/{flow['id']}"
    await tams.put(path, flow, 201)
    await tams.put(f"{path}/avg_bit_rate", 1, 400)
    await tams.delete(f"{path}/avg_bit_rate", 400)
    assert await tams.get(f"{path}/avg_bit_rate") == 2479
    await tams.put(f"{path}/max_bit_rate", 5000)
    await tams.put(path, {**flow, "max_bit_rate": 6000})
    assert await tams.get(f"{path}/max_bit_rate") == 6000


async def test_profiles_are_created_once_and_never_change(tams: Tams) -> None:
    """rule 29"""
    body = {
        "id": new_id(),
        "label": "l",
        "description": "d",
        "tags": {"t": ["v"]},
        "flow_metadata": TECHNICAL,
    }
    path = f"/service/profiles/{body['id']}"
    answer = await tams.post(path, {**body, "created": "2001-01-01T00:00:00Z", "created_by": "me"})
    found = await tams.get(path)
    assert found == answer.json()
    assert {name: found[name] for name in body} == body
    assert found["created"][:4] != "2001" and found["created_by"] != "me"
    await tams.post(path, body, 400)
    await tams.post(path, {**body, "label": "other"}, 400)
    for method in ("PUT", "DELETE", "PATCH"):
        assert (await tams.request(method, path, json=body)).status_code == 405
    assert await tams.get(path) == found


async def test_of_concurrent_creations_one_succeeds(tams: Tams) -> None:
    """rule 29"""
    body = {"id": new_id(), "flow_metadata": TECHNICAL}
    answers = await asyncio.gather(
        *(
            tams.request("POST", f"/service/profiles/{body['id']}", json={**body, "label": str(n)})
            for n in range(5)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"id": ABSENT},
        {"flow_metadata": {**TECHNICAL, "format": "urn:x-nmos:format:multi"}},
        {"flow_metadata": {"format": "urn:x-nmos:format:multi"}},
        {"flow_metadata": {"codec": "video/h264"}},
        {"flow_metadata": None},
        {"tags": None},
        {"tags": {"auth_classes": ["not a class"]}},
        {"label": 1},
    ],
)
async def test_bad_profiles_are_refused(tams: Tams, change: dict[str, Any]) -> None:
    """rule 29: among them those of format multi"""
    body = {"id": new_id(), "flow_metadata": TECHNICAL}
    await tams.post(f"/service/profiles/{body['id']}", {**body, **change}, 400)
    assert await tams.get("/service/profiles") == []


async def test_an_id_that_is_none_is_404(tams: Tams) -> None:
    """rule 14, rule 29"""
    await tams.post("/service/profiles/x", {"id": new_id(), "flow_metadata": TECHNICAL}, 404)
    for profile_id in ("x", ABSENT):
        await tams.get(f"/service/profiles/{profile_id}", 404)


async def test_profiles_are_listed_newest_first_filtered_and_paged(tams: Tams) -> None:
    """rule 9, rule 10, rule 29"""
    audio = {
        "format": "urn:x-nmos:format:audio",
        "codec": "audio/aac",
        "essence_parameters": {"sample_rate": 48000, "channels": 2},
    }
    one = await profile(tams, label="one")
    two = await profile(tams, label="two", flow_metadata=audio)
    three = await profile(tams)

    async def found(query: str) -> list[str]:
        return [each["id"] for each in await tams.get(f"/service/profiles{query}")]

    assert await found("") == [three["id"], two["id"], one["id"]]
    assert await found("?label=one") == [one["id"]]
    assert await found("?codec=audio/aac") == [two["id"]]
    assert await found("?format=urn:x-nmos:format:video") == [three["id"], one["id"]]
    assert await found("?format=urn:x-nmos:format:multi") == []
    await tams.get("/service/profiles?format=video", 400)
    await tams.get("/service/profiles?codec=aac", 400)
    answer = await tams.request("GET", "/service/profiles?limit=2")
    assert [each["id"] for each in answer.json()] == [three["id"], two["id"]]
    assert await tams.get(answer.links["next"]["url"]) == [await tams.get(f"/service/profiles/{one['id']}")]
