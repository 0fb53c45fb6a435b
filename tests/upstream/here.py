"""A proxy on a port of its own before an upstream on another, to be called as clients and upstreams do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from proxy.app import Settings, application
from proxy.identity.secrets import read_clear
from store.app import with_lifespan
from store.settings import parse
from tests.end_to_end.receiver import Receiver
from tests.proxy.support import environment, flow_document, write_policy
from tests.upstream.over_http import store_settings
from tests.upstream.plain import Plain
from tests.upstream.serving import serving

LOOPBACK = {"receivers": ["127.0.0.0/8", "::1"]}
WEBHOOKS = "/service/webhooks"
WAIT_S = 30
CLASSES = {"victim": ["v"], "attacker": ["a"], "admin": ["v"]}


@dataclass
class Here:
    """A proxy on a port of its own, and what is behind it."""

    url: str
    behind: str
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, who: str, method: str, path: str, body: object = None) -> httpx.Response:
        if who not in self.tokens:
            secret = read_clear(self.folder / "data")[who]
            form = {"grant_type": "client_credentials"}
            answer = httpx.post(f"{self.url}/token", data=form, auth=(who, secret), timeout=WAIT_S)
            self.tokens[who] = answer.json()["access_token"]
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=WAIT_S)

    def made(self, who: str, method: str, path: str, body: object = None) -> Any:
        answer = self.call(who, method, path, body)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def flow(self, who: str = "victim", **said: Any) -> str:
        """A flow of its writer's class; its id."""
        document = flow_document(CLASSES[who], **said)
        self.made(who, "PUT", f"/flows/{document['id']}", document)
        return str(document["id"])

    def hook(self, who: str, receiver: Receiver, **said: Any) -> str:
        body = {"url": receiver.url, "events": ["flows/created", "flows/deleted"], **said}
        body["tags"] = {"auth_classes": CLASSES[who]}
        return str(self.made(who, "POST", WEBHOOKS, body)["id"])

    def registered(self) -> list[dict[str, Any]]:
        """The webhooks at the upstream."""
        found: list[dict[str, Any]] = httpx.get(self.behind + WEBHOOKS, timeout=WAIT_S).json()
        return found


@contextmanager
def proxied(folder: Path, behind: str) -> Iterator[Here]:
    """A proxy before a URL, served."""
    if not (folder / "policies").exists():
        write_policy(folder / "policies")

    def made(url: str) -> Any:
        given = environment(folder, upstream=behind, public_url=url, events=LOOPBACK)
        return application(parse(Settings, given))

    with serving(made) as url:
        yield Here(url, behind, folder)


@contextmanager
def stored(folder: Path) -> Iterator[str]:
    """A store on a port of its own; its URL."""
    folder.mkdir(exist_ok=True)

    def made(url: str) -> Any:
        return with_lifespan(store_settings(folder, url, events=LOOPBACK), secret=b"s" * 32)

    with serving(made) as url:
        yield url


@contextmanager
def plainly(plain: Plain, folder: Path) -> Iterator[Here]:
    """A proxy before a plain upstream."""
    with serving(plain.application), proxied(folder, plain.url) as found:
        yield found


def told(receiver: Receiver) -> dict[str, Any]:
    """The next delivery."""
    found: dict[str, Any] = json.loads(receiver.taken.get(timeout=WAIT_S)[1])
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background."""

    async def wait() -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.02)

    asyncio.run(wait())
