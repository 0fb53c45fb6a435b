"""What anybody may reach refuses in the schema of all other errors."""

from __future__ import annotations

from pathlib import Path

from tests.proxy.support import running

ALLOWED = {
    "/token": "POST",
    "/ptg/token": "POST",
    "/.well-known/jwks.json": "GET, HEAD",
    "/.well-known/oauth-authorization-server": "GET, HEAD",
    "/.well-known/oauth-protected-resource": "GET, HEAD",
}


async def test_another_method_is_refused_as_everywhere(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        elsewhere = await proxy.call("attacker", "PUT", "/flows")
        for path, allowed in ALLOWED.items():
            answer = await proxy.http.request("GET" if allowed == "POST" else "POST", path)
            assert (answer.status_code, answer.headers["content-type"]) == (405, "application/json"), path
            assert set(answer.headers["allow"].split(", ")) == set(allowed.split(", "))
            assert {**answer.json(), "time": ""} == {**elsewhere.json(), "time": ""}
            assert (await proxy.http.head(path)).status_code == (405 if allowed == "POST" else 200)
