"""What anybody may reach answers as documented, and refuses in the schema of all other errors."""

from __future__ import annotations

from pathlib import Path

from jsonschema import Draft202012Validator

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


async def test_what_operators_ask_is_answered_as_the_document_says(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        document = (await proxy.http.get("/openapi.json")).json()
        for path in ("/health", "/ready", "/metrics"):
            for who in ("admin", None):
                answer = await proxy.call(who, "GET", path)
                said = document["paths"][path]["get"]["responses"][str(answer.status_code)]["content"]
                assert answer.headers["content-type"].partition(";")[0] in said
                if path == "/ready":
                    Draft202012Validator(said["application/json"]["schema"]).validate(answer.json())
                    assert ("reasons" in answer.json()) == (who == "admin")
