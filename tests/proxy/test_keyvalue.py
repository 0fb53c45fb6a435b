"""The key-value API through the running proxy: who may do what with which names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.commands.keys import add_key
from proxy.identity.apikeys import ApiKey, dump_keys_file
from proxy.identity.principal import ADMIN
from proxy.keyvalue import KEY_RULES
from proxy.policy.files import InvalidPolicy, read_classes
from proxy.prefixes import Prefixes
from proxy.rules import RULES, Target
from store.metadata.keys import INLINE_BYTES
from store.routes.keys import KEY_ROUTES
from tests.proxy.support import CLASSES, CLIENTS, Proxy, full, running, tuples, write_policy

LONG = b"long" * INLINE_BYTES
CLASSES_WITH_KEYS = """
classes:
  t: {key_prefixes: [t/, "shared-root/*"]}
  v: {default_for: {groups: [victims]}, key_prefixes: [v/, t/of-v/]}
  a: {default_for: {clients: [attacker, colleague]}, key_prefixes: [a/, a/t/, both/]}
  b: {key_prefixes: [both/]}
  embargo: {key_prefixes: [a/embargo/]}
  extra: {key_prefixes: [a/embargo/]}
"""
GRANTS = {
    "instrument": full("t"),
    "viewer": ("reader t",),
    "sender": ("writer t",),
    "owner": full("t"),
    "stranger": (),
}
NOW_S = 1_700_000_000


@dataclass
class Keyed:
    """A running proxy with API keys; a caller is the name of a key, or of a client of the policy."""

    proxy: Proxy
    keys: dict[str, str]
    file: Path

    async def call(
        self, who: str | None, method: str, path: str, content: bytes | None = None, **headers: str
    ) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if who in self.keys:
            sent["authorization"] = f"Bearer {self.keys[who]}"
            who = None
        return await self.proxy.call(who, method, path, content=content, headers=sent)

    async def put(self, *names: str, content: bytes = b"bytes") -> None:
        """Objects that an administrator puts."""
        for name in names:
            answer = await self.call("admin", "PUT", f"/store/objects/{name}", content)
            assert answer.status_code == 200, answer.text

    async def listed(self, who: str, query: str = "") -> list[str]:
        answer = await self.call(who, "GET", f"/store/objects{query}")
        assert answer.status_code == 200, answer.text
        keys: list[str] = answer.json()["keys"]
        return keys


def keys_file() -> tuple[dict[str, str], bytes]:
    """Keys by name, and the file that has them."""
    keys: dict[str, ApiKey] = {}
    every = ["read", "write", "delete"]
    now_s = int(time.time())
    tokens = {name: add_key(keys, name, every, now_s, 1) for name in GRANTS}
    for scope in every:
        tokens[f"only-{scope}"] = add_key(keys, f"only-{scope}", [scope], now_s, 1)
    tokens["expired"] = add_key(keys, "expired", every, NOW_S, 1)
    return tokens, dump_keys_file(keys)


def policy(folder: Path) -> None:
    """The test policy, with prefixes, and grants for API keys."""
    write_policy(folder, CLIENTS, CLASSES_WITH_KEYS)
    found = json.loads(tuples())
    grants = {**GRANTS, **{f"only-{scope}": full("t") for scope in ("read", "write", "delete")}}
    for name, held in grants.items():
        for grant in held:
            relation, _, auth_class = grant.partition(" ")
            user = f"user:keys/{name}"
            found.append({"user": user, "relation": relation, "object": f"auth_class:{auth_class}"})
    (folder / "tuples.yaml").write_text(json.dumps(found))


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Keyed]:
    policy(tmp_path / "policies")
    tokens, data = keys_file()
    file = tmp_path / "keys.json"
    file.write_bytes(data)
    async with running(tmp_path, api_keys=file) as proxy:
        yield Keyed(proxy, tokens, file)


def refused(answer: httpx.Response, status: int) -> str:
    """The message of an error, which must have the API's shape."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(document) == {"error"} and set(document["error"]) == {"code", "message"}
    assert document["error"]["code"] == str(status)
    return str(document["error"]["message"])


# The table


def test_every_operation_has_one_row_and_every_row_an_operation() -> None:
    rows = {
        (path, method): rule.operation
        for path, methods in KEY_RULES.items()
        for method, rule in methods.items()
    }
    operations = {
        (path, method): name for path, methods in KEY_ROUTES.items() for method, name in methods.items()
    }
    assert rows == operations
    assert len(set(rows.values())) == len(rows)
    assert not rows.keys() & {(path, method) for path, methods in RULES.items() for method in methods}


def test_every_row_but_that_of_health_asks_for_something() -> None:
    for path, methods in KEY_RULES.items():
        for rule in methods.values():
            assert (rule.target is Target.NOTHING) == path.endswith("/health")
            assert bool(rule.scopes) == (rule.target is not Target.NOTHING)
            assert (rule.param == "key") == (rule.target is Target.OBJECT) == path.endswith("{key}")
            assert not rule.scopes or ADMIN in rule.scopes


# Who


async def test_a_key_does_it_all(keyed: Keyed) -> None:
    for content in (b"small", LONG):
        put = await keyed.call("instrument", "PUT", "/store/objects/t/one", content)
        assert put.status_code == 200, put.text
        assert put.json()["size"] == len(content)
        got = await keyed.call("instrument", "GET", "/store/objects/t%2Fone")
        assert got.content == content
        assert await keyed.listed("instrument") == ["t/one"]
        part = await keyed.call("instrument", "GET", "/store/objects/t/one", range="bytes=1-2")
        assert (part.status_code, part.content) == (206, content[1:3])
        head = await keyed.call("instrument", "HEAD", "/store/objects/t/one")
        assert head.headers["content-length"] == str(len(content))
    assert (await keyed.call("instrument", "DELETE", "/store/objects/t/one")).status_code == 204
    assert refused(await keyed.call("instrument", "GET", "/store/objects/t/one"), 404) == "Object not found"


async def test_a_client_of_another_issuer_counts_as_well(keyed: Keyed) -> None:
    assert (await keyed.call("owner", "PUT", "/store/objects/t/x", b"x")).status_code == 200
    token = await keyed.proxy.token("owner")
    assert token.count(".") == 2
    headers = {"authorization": f"Bearer {token}"}
    answer = await keyed.proxy.call(None, "GET", "/store/objects/t/x", headers=headers)
    assert answer.content == b"x"


async def test_health_asks_nobody(keyed: Keyed) -> None:
    answer = await keyed.call(None, "GET", "/store/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    refused(await keyed.call(None, "POST", "/store/health", b""), 405)


ANONYMOUS: list[tuple[dict[str, str], str]] = [
    ({}, "Not authenticated"),
    ({"authorization": "Bearer nonsense"}, "Invalid or missing token"),
    ({"authorization": "Bearer a.b.c"}, "Invalid or missing token"),
    ({"authorization": "Bearer"}, "Invalid or missing token"),
    ({"authorization": "Bearer sp ace"}, "Invalid or missing token"),
    ({"authorization": "XXXXXX token"}, "Invalid or missing token"),
    ({"authorization": "Basic YTpi"}, "Invalid or missing token"),
]


@pytest.mark.parametrize(("headers", "message"), ANONYMOUS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/store/objects"),
        ("GET", "/store/objects/t/x"),
        ("PUT", "/store/objects/t/x"),
        ("DELETE", "/store/objects/t/x"),
        ("POST", "/store/objects"),
        ("GET", "/store/nothing"),
    ],
)
async def test_without_a_token_nothing_is_told(
    keyed: Keyed, headers: dict[str, str], message: str, method: str, path: str
) -> None:
    answer = await keyed.proxy.call(None, method, path, content=b"", headers=headers)
    assert refused(answer, 401) == message
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_an_expired_key_is_told_so(keyed: Keyed) -> None:
    answer = await keyed.call("expired", "GET", "/store/objects")
    assert refused(answer, 401) == "Token expired"


async def test_a_key_that_is_deleted_counts_no_more(keyed: Keyed) -> None:
    assert await keyed.listed("instrument") == []
    keyed.file.write_text("[]")
    answer = await keyed.call("instrument", "GET", "/store/objects")
    async with asyncio.timeout(20):
        while answer.status_code == 200:
            await asyncio.sleep(0)
            answer = await keyed.call("instrument", "GET", "/store/objects")
    assert refused(answer, 401) == "Invalid or missing token"


SCOPES = [
    ("only-read", "GET", "/store/objects", None),
    ("only-read", "GET", "/store/objects/t/x", None),
    ("only-read", "HEAD", "/store/objects/t/x", None),
    ("only-read", "PUT", "/store/objects/t/x", "write"),
    ("only-read", "DELETE", "/store/objects/t/x", "delete"),
    ("only-write", "GET", "/store/objects", "read"),
    ("only-write", "GET", "/store/objects/t/x", "read"),
    ("only-write", "PUT", "/store/objects/t/x", None),
    ("only-write", "DELETE", "/store/objects/t/x", "delete"),
    ("only-delete", "GET", "/store/objects", "read"),
    ("only-delete", "PUT", "/store/objects/t/x", "write"),
    ("only-delete", "DELETE", "/store/objects/t/x", None),
]


@pytest.mark.parametrize(("who", "method", "path", "missing"), SCOPES)
async def test_scopes(keyed: Keyed, who: str, method: str, path: str, missing: str | None) -> None:
    await keyed.put("t/x")
    answer = await keyed.call(who, method, path, b"x" if method == "PUT" else None)
    if missing is None:
        assert answer.is_success, answer.text
    else:
        assert refused(answer, 403) == f"Missing required scopes: ['{missing}']"


# What: (caller, key) to what GET, PUT and DELETE answer when the object is there

DECISIONS: list[tuple[str, str, tuple[int, int, int]]] = [
    ("admin", "t/x", (200, 200, 204)),
    ("admin", "nowhere/x", (200, 200, 204)),
    ("owner", "t/x", (200, 200, 204)),
    ("owner", "shared-root/x", (200, 200, 204)),
    ("owner", "shared-rootx", (404, 404, 404)),
    ("owner", "t", (404, 404, 404)),
    ("owner", "T/x", (404, 404, 404)),
    ("owner", "/t/x", (404, 404, 404)),
    ("owner", "nowhere/x", (404, 404, 404)),
    ("owner", "v/../t/x", (404, 404, 404)),
    ("owner", "t/../v/x", (200, 200, 204)),
    ("owner", "t/of-v/x", (404, 404, 404)),
    ("owner", "t/of-v", (200, 200, 204)),
    ("viewer", "t/x", (200, 403, 403)),
    ("sender", "t/x", (403, 200, 403)),
    ("stranger", "t/x", (404, 404, 404)),
    ("victim", "v/x", (200, 200, 204)),
    ("victim", "t/of-v/x", (200, 200, 204)),
    ("attacker", "a/x", (200, 200, 204)),
    ("attacker", "a/t/x", (200, 200, 204)),
    ("attacker", "v/x", (404, 404, 404)),
    ("attacker", "both/x", (200, 200, 204)),
    ("attacker", "a/embargo/x", (404, 404, 404)),
    ("grouped", "v/x", (200, 200, 204)),
    ("victims", "v/x", (404, 404, 404)),
]


@pytest.mark.parametrize(("who", "name", "statuses"), DECISIONS)
async def test_decisions(keyed: Keyed, who: str, name: str, statuses: tuple[int, int, int]) -> None:
    path = f"/store/objects/{name.replace('/', '%2F')}"
    await keyed.put(name.replace("/", "%2F"))
    for method, status in zip(("GET", "PUT", "DELETE"), statuses, strict=True):
        answer = await keyed.call(who, method, path, b"x" if method == "PUT" else None)
        assert answer.status_code == status, (method, answer.text)
        if status >= 400:
            refused(answer, status)
    seen = await keyed.listed(who)
    assert seen == ([name] if statuses[0] == 200 and statuses[2] != 204 else [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_what_is_hidden_answers_as_what_is_absent(keyed: Keyed, method: str) -> None:
    await keyed.put("v/there")
    answers = []
    for name in ("v/there", "v/absent"):
        body = b"x" if method == "PUT" else None
        answer = await keyed.call("owner", method, f"/store/objects/{name}", body, if_none_match="*")
        headers = [pair for pair in answer.headers.multi_items() if pair[0] not in ("date", "x-request-id")]
        answers.append((answer.status_code, sorted(headers), answer.content))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    got = await keyed.call("admin", "GET", "/store/objects/v/there")
    assert got.content == b"bytes"
    if method in ("GET", "HEAD"):
        absent = await keyed.call("owner", method, "/store/objects/t/absent")
        assert (absent.status_code, absent.content) == (answers[0][0], answers[0][2])


async def test_listings_are_what_may_be_read_however_they_are_cut(keyed: Keyed) -> None:
    names = ["a/1", "a/embargo/1", "both/1", "nowhere", "t/1", "t/2", "t/of-v/1", "t/z", "v/1"]
    await keyed.put(*names)
    expected = {
        "admin": names,
        "owner": ["t/1", "t/2", "t/z"],
        "viewer": ["t/1", "t/2", "t/z"],
        "sender": [],
        "stranger": [],
        "victim": ["t/of-v/1", "v/1"],
        "attacker": ["a/1", "both/1"],
    }
    for who, seen in expected.items():
        assert await keyed.listed(who) == seen, who
        found: list[str] = []
        cursor = ""
        more = True
        while more:
            answer = await keyed.call(who, "GET", f"/store/objects?limit=1&cursor={cursor}")
            page = answer.json()
            found += page["keys"]
            more, cursor = page["has_more"], page["next_cursor"]
        assert found == seen, who
        for prefix in ("t/", "t/of", "v", "a/", "nowhere"):
            assert await keyed.listed(who, f"?prefix={prefix}") == [n for n in seen if n.startswith(prefix)]


async def test_a_cursor_is_its_caller_s(keyed: Keyed) -> None:
    await keyed.put("t/1", "t/2")
    page = (await keyed.call("owner", "GET", "/store/objects?limit=1")).json()
    refused(await keyed.call("viewer", "GET", f"/store/objects?cursor={page['next_cursor']}"), 400)


async def test_a_changed_policy_counts_soon(keyed: Keyed) -> None:
    await keyed.put("v/1")
    assert await keyed.listed("owner") == []
    changed = CLASSES_WITH_KEYS.replace("[v/, t/of-v/]", "[]").replace("[t/, ", "[t/, v/, ")
    (keyed.proxy.policies / "classes.yaml").write_text(changed)
    found: list[str] = []
    async with asyncio.timeout(20):
        while not found:
            await asyncio.sleep(0)
            found = await keyed.listed("owner")
    assert found == ["v/1"]
    assert (await keyed.call("owner", "GET", "/store/objects/v/1")).status_code == 200


async def test_what_has_no_prefix_is_of_the_default_class(tmp_path: Path) -> None:
    policy(tmp_path / "policies")
    async with running(tmp_path, default_class="t") as proxy:
        keyed = Keyed(proxy, {}, tmp_path)
        await keyed.put("anything", "v/1")
        assert await keyed.listed("owner") == ["anything"]
        assert (await keyed.call("owner", "PUT", "/store/objects/else", b"x")).status_code == 200
        assert (await keyed.call("attacker", "GET", "/store/objects/anything")).status_code == 404


BAD: list[tuple[str, str, int]] = [
    ("GET", "/store/objects/t/" + "x" * 1023, 400),
    ("PUT", "/store/objects/t/" + "%C3%A9" * 512, 400),
    ("GET", "/store/objects/t/%zz", 400),
    ("GET", "/store/objects/t/%ff", 400),
    ("GET", "/store/objects/t/%00", 400),
    ("GET", "/store/objects?limit=0", 400),
    ("GET", "/store/objects?limit=1001", 400),
    ("GET", "/store/objects?cursor=bad", 400),
    ("GET", "/store/objects?prefix=%ff", 400),
    ("PATCH", "/store/objects/t/x", 405),
    ("PUT", "/store/objects/", 405),
    ("GET", "/store/nothing", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), BAD)
async def test_bad_input_is_an_error_in_the_api_s_shape(
    keyed: Keyed, method: str, path: str, status: int
) -> None:
    refused(await keyed.call("owner", method, path, b"" if method == "PUT" else None), status)


async def test_two_ways_to_authenticate_are_refused(keyed: Keyed) -> None:
    headers = [("authorization", f"Bearer {keyed.keys['owner']}")] * 2
    answer = await keyed.proxy.http.get("/store/objects", headers=headers)
    refused(answer, 400)


async def test_too_many_requests_of_one_caller_leave_others_alone(tmp_path: Path) -> None:
    policy(tmp_path / "policies")
    tokens, data = keys_file()
    (tmp_path / "keys.json").write_bytes(data)
    settings: dict[str, Any] = {"api_keys": tmp_path / "keys.json", "keys": {"rate_per_s": 0.01, "burst": 2}}
    async with running(tmp_path, **settings) as proxy:
        keyed = Keyed(proxy, tokens, tmp_path)
        answers = [await keyed.call("viewer", "GET", "/store/objects") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        refused(answers[2], 429)
        assert 1 <= int(answers[2].headers["retry-after"]) <= 100
        assert await keyed.listed("owner") == []
        assert (await keyed.call(None, "GET", "/store/health")).status_code == 200


async def test_a_request_keeps_its_id(keyed: Keyed) -> None:
    await keyed.put("t/x")
    for who in ("viewer", "stranger"):
        answer = await keyed.call(who, "GET", "/store/objects/t/x", x_request_id="mine")
        assert answer.headers["x-request-id"] == "mine"


# Prefixes


def prefixes(text: str) -> Prefixes:
    return Prefixes(read_classes(text))


def test_the_longest_prefix_counts() -> None:
    found = prefixes(CLASSES_WITH_KEYS)
    cases = {
        "t/x": {"t"},
        "t/of-v/": {"v"},
        "t/of-": {"t"},
        "both/": {"a", "b"},
        "a/embargo/x": {"embargo", "extra"},
        "shared-root/": {"t"},
        "shared-root": set(),
        "": set(),
    }
    for key, classes in cases.items():
        assert found.classes_of(key) == classes, key


def test_an_empty_prefix_is_for_all_that_has_no_other() -> None:
    found = prefixes('classes: {rest: {key_prefixes: ["*"]}, t: {key_prefixes: [t/]}}')
    assert found.classes_of("anything") == {"rest"}
    assert dict(found.marks(lambda classes: "rest" in classes)) == {"": True, "t/": False}
    assert dict(prefixes(CLASSES).marks(bool)) == {"": False}


@pytest.mark.parametrize("said", ["news/", "{a: b}", "[[a]]", "5"])
def test_prefixes_that_are_no_list_of_texts_are_refused(said: str) -> None:
    with pytest.raises(InvalidPolicy, match="key_prefixes"):
        read_classes(f"classes: {{news: {{key_prefixes: {said}}}}}")
