"""The record of requests: everything that was asked is in it, and nothing secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy import app as composition
from tests.proxy.support import Proxy, running

FORM = {"grant_type": "client_credentials"}
BAD = (
    {"authorization": "Bearer a b"},
    {"authorization": "Basic %%%"},
    {"authorization": "Digest x"},
    {"authorization": "Bearer a", "x-api-key": "b"},
)
"""Credentials that are refused before anybody looks whose they are."""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The records, as they are written."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(composition, "lines", lambda form: found.extend)
    return found


async def uploaded(proxy: Proxy) -> tuple[str, str]:
    """A signed URL for an upload, and one to read what was uploaded."""
    flow = await proxy.flow(["a"])
    (entry,) = await proxy.allocated("attacker", flow["id"])
    put = entry["put_url"]
    await proxy.http.put(put["url"], content=b"bytes", headers={"content-type": put["content-type"]})
    segment = {"object_id": entry["object_id"], "timerange": "[0:0_1:0)"}
    await proxy.made("attacker", "POST", f"/flows/{flow['id']}/segments", segment)
    answer = await proxy.made("attacker", "GET", f"/flows/{flow['id']}/segments?presigned=true")
    get: str = answer.json()[0]["get_urls"][0]["url"]
    assert (await proxy.http.get(get)).content == b"bytes"
    return put["url"], get


async def test_logins_and_signed_media_are_in_it_too(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    async with running(tmp_path) as proxy:
        put, get = await uploaded(proxy)
        tampered = await proxy.http.get(get.replace("signature=", "signature=x"))
        assert tampered.status_code == 403
        refused = await proxy.http.post(
            "/token", data={"grant_type": "client_credentials"}, auth=("admin", "x")
        )
        assert refused.status_code == 401
    media = [(each["method"], each["status"]) for each in written if each["operation"] == "media-signed"]
    assert media == [("PUT", 200), ("GET", 200), ("GET", 403)]
    logins = [(each["status"], each["verdict"]) for each in written if each["operation"] == "POST_token"]
    assert logins[0] == (200, "allow") and logins[-1] == (401, "deny")
    assert {each["peer"] for each in written} == {"192.0.2.7"}
    assert all(each["took_us"] >= 0 for each in written)


async def test_what_is_refused_early_names_its_caller(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    async with running(
        tmp_path, allow_basic=True, api_key_header="x-api-key", trusted_fronts=["192.0.2.0/24"]
    ) as proxy:
        for headers in BAD:
            for path in ("/flows", "/store/objects/a", "/streams", "/events"):
                answer = await proxy.http.get(path, headers=headers | {"x-forwarded-for": "198.51.100.9"})
                assert answer.status_code in (400, 401)
        for path in ("/flows?limit=%zz", "/flows/%00"):
            assert (await proxy.call(None, "GET", path, headers={"x-forwarded-for": "198.51.100.9"})).is_error
        await proxy.http.post("/token", headers={"x-forwarded-for": "198.51.100.9"})
    assert len(written) == 4 * len(BAD) + 3
    assert {each["peer"] for each in written} == {"198.51.100.9"}


async def test_no_secret_is_in_it(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    async with running(tmp_path, allow_url_token=True, allow_basic=True) as proxy:
        urls = await uploaded(proxy)
        token = await proxy.token("attacker")
        await proxy.call(None, "GET", f"/flows?access_token={token}")
        await proxy.call("attacker", "GET", "/flows?tag.x=canary-9d1c")
        secret = proxy.secrets["attacker"]
    text = orjson.dumps(written).decode()
    for url in urls:
        assert url.partition("signature=")[2] not in text
    assert token not in text and secret not in text and "canary-9d1c" not in text


async def test_whoever_watches_is_not_in_it(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    async with running(tmp_path) as proxy:
        for path in ("/health", "/ready"):
            await proxy.call(None, "GET", path)
    assert written == []
