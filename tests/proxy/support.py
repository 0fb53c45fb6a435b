"""A running proxy in this process: real store, real policy, real tokens, reached over ASGI."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from proxy.app import Settings, run_proxy
from proxy.asgi import App
from proxy.identity.secrets import read_clear
from proxy.policy.folder import FolderPolicy
from proxy.start import first_start
from store.settings import parse

URL = "http://tams.test"
MODEL = Path(__file__).parents[2] / "policies" / "model.fga"
SCOPES = ("read", "write", "delete")

OPEN, OWN, VICTIMS, SHARED, VISIBLE = (f"0000000{n}-0000-4000-8000-000000000000" for n in range(1, 6))
"""Storage backends: untagged (the default), of the classes t, v, `shared`, and `t_ro` (read by some)."""

BACKENDS: dict[str, dict[str, Any]] = {
    OPEN: {"label": "open", "default": True},
    OWN: {"label": "own", "tags": {"auth_classes": ["t"]}},
    VICTIMS: {"label": "victims", "tags": {"auth_classes": ["v"]}},
    SHARED: {"label": "shared", "tags": {"auth_classes": "shared"}},
}

CLASSES = """
classes:
  a: {default_for: {clients: [attacker, colleague]}}
  v: {default_for: {groups: [victims]}}
  b: {}
"""


@dataclass(frozen=True)
class Client:
    """A client of the test policy: its scopes and its grants, `relation class` each."""

    grants: tuple[str, ...] = ()
    scopes: tuple[str, ...] = SCOPES
    groups: tuple[str, ...] = ()
    creator: bool = False
    admin: bool = False


_FULL = ("reader", "writer", "deleter")


def full(*classes: str) -> tuple[str, ...]:
    """To read, write and delete."""
    return tuple(f"{relation} {name}" for name in classes for relation in _FULL)


CLIENTS: Mapping[str, Client] = {
    "admin": Client(admin=True, scopes=(*SCOPES, "admin")),
    # Holds class a; may read what carries `shared`; is shut out by `embargo`.
    "attacker": Client((*full("a"), "reader shared", "denied embargo"), creator=True),
    "colleague": Client((*full("a"), "reader shared"), creator=True),
    "victim": Client(
        (*full("v"), "granter embargo", "granter shared", "reader shared", "writer shared"), creator=True
    ),
    # One permission each on class t, and two together.
    "nobody": Client(),
    "reader": Client(("reader t",)),
    "writer": Client(("writer t",)),
    "deleter": Client(("deleter t",)),
    "editor": Client(("reader t", "writer t")),
    "owner": Client(full("t"), creator=True),
    "granter": Client(("granter t",)),
    # Permissions without the scopes for them.
    "reading": Client(full("t"), scopes=("read",)),
    "writing": Client(full("t"), scopes=("write",)),
    "deleting": Client(full("t"), scopes=("delete",)),
    # Of a group, by its token, and by name only close to one.
    "grouped": Client(groups=("victims",)),
    "victims": Client(groups=("victim", "victims2", "xvictims", "victims,v", "victims v", "VICTIMS")),
}


def tuples(clients: Mapping[str, Client] = CLIENTS) -> str:
    """`tuples.yaml` for some clients. The group `victims` has class v, and everybody reads `public`."""
    found = [{"user": "user:*", "relation": "reader", "object": "auth_class:public"}]
    found += [
        {"user": "group:victims#member", "relation": relation, "object": "auth_class:v"} for relation in _FULL
    ]
    for name, client in clients.items():
        user = f"user:local/{name}"
        for grant in client.grants:
            relation, _, auth_class = grant.partition(" ")
            found.append({"user": user, "relation": relation, "object": f"auth_class:{auth_class}"})
        for relation in ("admin", "creator"):
            if getattr(client, relation):
                found.append({"user": user, "relation": relation, "object": "service:tams"})
    return json.dumps(found)


def write_policy(folder: Path, clients: Mapping[str, Client] = CLIENTS, classes: str = CLASSES) -> None:
    """Make, or change, a policy folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.fga").write_text(MODEL.read_text())
    (folder / "classes.yaml").write_text(classes)
    entries = {
        name: {"groups": list(c.groups), "scopes": [f"tams-api/{s}" for s in c.scopes]}
        for name, c in clients.items()
    }
    (folder / "clients.yaml").write_text(json.dumps({"clients": entries}))
    (folder / "tuples.yaml").write_text(tuples(clients))


def environment(folder: Path, **settings: Any) -> dict[str, str]:
    """The environment of a proxy that keeps all it has below `folder`."""
    backends = [
        {"id": name, **said, "folder": str(folder / "data" / f"media-{said['label']}")}
        for name, said in BACKENDS.items()
    ]
    given = {
        "data": folder / "data",
        "policies": folder / "policies",
        "public_url": URL,
        "demo": True,
        "storage_backends": backends,
        "config": os.devnull,
        **settings,
    }
    return {
        f"TAMS_{name.upper()}": str(value) if isinstance(value, str | Path) else json.dumps(value)
        for name, value in given.items()
    }


@dataclass
class Proxy:
    """A running proxy, and tokens of its clients."""

    app: App
    http: httpx.AsyncClient
    policies: Path
    secrets: Mapping[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    async def token(self, who: str) -> str:
        """An access token of the built-in endpoint, asked for once."""
        if who not in self.tokens:
            form = {"grant_type": "client_credentials"}
            answer = await self.http.post("/token", data=form, auth=(who, self.secrets[who]))
            assert answer.status_code == 200, answer.text
            self.tokens[who] = answer.json()["access_token"]
        return self.tokens[who]

    async def call(
        self,
        who: str | None,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request as a client, or as nobody at all; the path goes out as it is spelt."""
        sent = dict(headers or {})
        if who is not None:
            sent["authorization"] = f"Bearer {await self.token(who)}"
        if body is not None:
            content = json.dumps(body).encode()
        raw, _, query = path.partition("?")
        url = httpx.URL(URL).copy_with(raw_path=raw.encode() + (b"?" + query.encode() if query else b""))
        return await self.http.request(method, url, content=content, headers=sent)

    async def change_policy(self, clients: Mapping[str, Client], hurry: Callable[[], None]) -> None:
        """Give clients other grants; in force when it returns. `hurry` moves the proxy's clock on."""
        # Nothing that callers see names the policy in force.
        app: Any = self.app
        while not hasattr(app, "_gate"):
            app = app._app
        folder: FolderPolicy = app._gate._decisions._policy
        before = folder.current().version
        (self.policies / "tuples.yaml").write_text(tuples(clients))
        hurry()
        async with asyncio.timeout(30):
            while folder.current().version == before:
                await asyncio.sleep(0.005)

    async def made(self, who: str, method: str, path: str, body: object = None) -> httpx.Response:
        """A request that must succeed."""
        answer = await self.call(who, method, path, body)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer

    async def flow(self, classes: list[str] | str | None, **said: Any) -> dict[str, Any]:
        """A flow that an administrator made, its source with the same classes unless `source_id` is said."""
        document = flow_document(classes, **said)
        await self.made("admin", "PUT", f"/flows/{document['id']}", document)
        return document

    async def allocated(self, who: str, flow_id: str, **said: Any) -> list[dict[str, Any]]:
        """Objects allocated for a flow: `media_objects` of the answer."""
        body = said if "object_ids" in said else {"limit": 1, **said}
        answer = await self.made(who, "POST", f"/flows/{flow_id}/storage", body)
        objects: list[dict[str, Any]] = answer.json()["media_objects"]
        return objects

    async def segment(self, flow_id: str, start_s: int = 0, **said: Any) -> str:
        """A segment of a new object in a flow; the object's id."""
        (entry,) = await self.allocated("admin", flow_id, **said)
        object_id: str = entry["object_id"]
        body = {"object_id": object_id, "timerange": f"[{start_s}:0_{start_s + 1}:0)"}
        await self.made("admin", "POST", f"/flows/{flow_id}/segments", body)
        return object_id


@asynccontextmanager
async def running(
    folder: Path, clients: Mapping[str, Client] = CLIENTS, **settings: Any
) -> AsyncIterator[Proxy]:
    """A proxy for as long as the context lasts."""
    policies = folder / "policies"
    if not policies.exists():
        write_policy(policies, clients)
    chosen = parse(Settings, environment(folder, **settings))
    first_start(chosen)
    async with run_proxy(chosen) as app:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            yield Proxy(app, http, policies, read_clear(folder / "data"))


def new_id() -> str:
    """An id as TAMS takes it."""
    return str(uuid4())


def flow_document(classes: list[str] | str | None, **said: Any) -> dict[str, Any]:
    """The body of a PUT of a small valid flow; `classes` None leaves the tag out."""
    tags = said.pop("tags", {})
    document = {
        "id": new_id(),
        "source_id": new_id(),
        "format": "urn:x-nmos:format:data",
        "codec": "application/json",
        "container": "video/mp2t",
        "essence_parameters": {"data_type": "urn:x-tam:data:test"},
        "tags": tags if classes is None else {**tags, "auth_classes": classes},
        **said,
    }
    return document


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """What an answer tells its reader: all but the time, the date and the request's id."""
    headers = sorted(
        (name, value) for name, value in answer.headers.multi_items() if name not in ("date", "x-request-id")
    )
    body = answer.content
    if answer.status_code >= 400 and body:
        document = answer.json()
        assert document.pop("time")
        body = json.dumps(document).encode()
    return answer.status_code, headers, body
