"""A store that listens on a port of this machine, itself or behind the proxy, and the specification to hold
it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import application
from store.app import with_lifespan
from store.asgi import App
from store.server import server
from tests.conformance.inlined import inlined
from tests.store.harness import KEY, VIDEO, multi, new_id, object_path, seconds, settings_of, video
from tests.store.proxied import admitted

SPEC = Path(__file__).resolve().parents[3] / "shared" / "tams-api" / "8.2" / "TimeAddressableMediaStore.yaml"


@dataclass
class Served:
    """A running store: its URL, and what every call carries."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def furnish(self) -> dict[str, list[str]]:
        """Put something of everything into it; for each path parameter, values of what is new and exists."""
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=30) as client:
            return _furnish(client)


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The specification's document."""
    if not SPEC.is_file():
        pytest.skip("the TAMS 8.2 specification is not beside the checkout")
    return inlined(SPEC)


@pytest.fixture(scope="session", params=["store", "proxy"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store on a port of its own, with something of everything in it; behind the proxy, for its
    administrator."""
    folder = tmp_path_factory.mktemp("served")
    if request.param == "store":
        with _listening(with_lifespan(settings_of(folder, delete_inline=5), secret=KEY)) as url:
            yield Served(url)
        return
    admission = asyncio.run(admitted(tmp_path_factory.mktemp("admission")))
    with _listening(application(admission.settings(folder, delete_inline=5))) as url:
        yield Served(url, admission.headers)


@contextmanager
def _listening(app: App) -> Iterator[str]:
    running = server(app, "127.0.0.1", 0)
    ready = threading.Event()
    startup = running.startup

    async def started(*args: Any, **more: Any) -> None:
        await startup(*args, **more)
        ready.set()

    running.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        assert ready.wait(60)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


def _furnish(client: httpx.Client) -> dict[str, list[str]]:
    """Something of everything."""

    def done(method: str, path: str, body: Any) -> Any:
        answer = client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    flows = [video(tags={"t": "v"}, label="l", description="d", max_bit_rate=1, avg_bit_rate=1) for _ in "12"]
    flows.append(multi(flow_collection=[{"id": flow["id"], "role": "r"} for flow in flows]))
    for flow in flows:
        done("PUT", f"/flows/{flow['id']}", flow)
        done("PUT", f"/sources/{flow['source_id']}/tags/t", ["a", "b"])
        done("PUT", f"/sources/{flow['source_id']}/description", "d")
    objects = [f"{new_id()} {number}/%é" for number in range(4)]
    init = new_id()
    path = f"/flows/{flows[0]['id']}"
    done("POST", f"{path}/storage", {"object_ids": [*objects, init]})
    for number, name in enumerate(objects):
        body = {"object_id": name, "timerange": seconds(number, number + 1), "init_object_id": init}
        done("POST", f"{path}/segments", body)
    technical = {"format": "urn:x-nmos:format:video", "codec": "video/h264", "essence_parameters": VIDEO}
    profile = new_id()
    done("POST", f"/service/profiles/{profile}", {"id": profile, "flow_metadata": technical})
    webhook = done("POST", "/service/webhooks", {"url": "https://a.invalid/", "events": ["flows/created"]})
    for number in range(1, 6):
        body = {"object_id": objects[0], "timerange": f"[{number}00:0]", "ts_offset": f"{number}00:0"}
        done("POST", f"/flows/{flows[1]['id']}/segments", body)
    doomed = video()
    done("PUT", f"/flows/{doomed['id']}", doomed)
    body = [{"object_id": objects[0], "timerange": f"[{n}:0_{n}:1)", "ts_offset": f"{n}:0"} for n in range(9)]
    done("POST", f"/flows/{doomed['id']}/segments", body)
    deletion = client.delete(f"/flows/{doomed['id']}").json()
    for name in objects:
        body = {"url": "https://a.invalid/", "label": "elsewhere"}
        done("POST", f"{object_path(name)}/instances", body)
    return {
        "flowId": [flow["id"] for flow in flows],
        "sourceId": [flow["source_id"] for flow in flows],
        "objectId": [*objects, init],
        "profileId": [profile],
        "webhookId": [webhook["id"]],
        "request-id": [deletion["id"]],
        "name": ["t"],
    }
