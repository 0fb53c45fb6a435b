"""Events from a real server, over real sockets: webhooks, streams, and what operators do with them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets

from store.events.signing import signature
from tests.end_to_end.receiver import Receiver, receiving
from tests.end_to_end.server import Server, environment

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WAIT_S = 30


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that may call receivers on loopback."""
    (tmp_path / "tams.toml").write_text('[events]\nreceivers = ["127.0.0.0/8", "::1"]\n')
    found = Server(tmp_path)
    found.start()
    yield found
    found.stop()


def token(server: Server, client: str = "newsroom") -> str:
    secrets = json.loads((server.data / "clients.secret").read_text())
    form = {"grant_type": "client_credentials"}
    answer = httpx.post(f"{server.url}/token", data=form, auth=(client, secrets[client]), timeout=WAIT_S)
    return str(answer.json()["access_token"])


def bearer(server: Server, client: str = "newsroom") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(server, client)}"}


def put_flow(server: Server, label: str) -> str:
    flow_id = str(uuid4())
    flow = {
        "id": flow_id,
        "source_id": str(uuid4()),
        "label": label,
        "format": "urn:x-nmos:format:data",
        "codec": "text/plain",
        "container": "text/plain",
        "essence_parameters": {},
        "tags": {"auth_classes": ["news"]},
    }
    answer = httpx.put(f"{server.url}/flows/{flow_id}", json=flow, headers=bearer(server), timeout=WAIT_S)
    assert answer.status_code == 201, answer.text
    return flow_id


def registered(server: Server, receiver: Receiver) -> str:
    body = {
        "url": receiver.url,
        "events": ["flow.created"],
        "api_key_name": "X-Key",
        "api_key_value": SECRET,
    }
    url = f"{server.url}/service/webhooks"
    answer = httpx.post(url, json=body, headers=bearer(server), timeout=WAIT_S)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def command(server: Server, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "webhook", *words],
        cwd=server.folder,
        env=environment() | {"TAMS_DATA": str(server.data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done


@pytest.mark.slow  # what a dead process had claimed is free again after a minute
def test_a_webhook_is_delivered_signed_survives_a_crash_and_is_replayed(
    server: Server, receiver: Receiver
) -> None:
    webhook_id = registered(server, receiver)
    first = put_flow(server, "first")
    headers, body = receiver.taken.get(timeout=WAIT_S)
    told = json.loads(body)
    assert told["event_type"] == "flows/created" and told["event"]["flow"]["id"] == first
    assert headers["X-Key"] == SECRET
    signed = signature(SECRET, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == signed

    receiver.status = 500
    second = put_flow(server, "second")
    failed, body = receiver.taken.get(timeout=WAIT_S)
    assert json.loads(body)["event"]["flow"]["id"] == second
    server.kill()
    receiver.status = 204
    server.start()
    again = receiver.until("flows/created", second)
    assert again["webhook-id"] == failed["webhook-id"]

    tested = command(server, "test", webhook_id)
    assert tested.returncode == 0, tested.stderr
    receiver.until("webhooks/test")
    replayed = command(server, "replay", webhook_id, "--since", "1h")
    assert replayed.returncode == 0, replayed.stderr
    seen = [json.loads(receiver.taken.get(timeout=WAIT_S)[1])["event"]["flow"]["id"] for _ in range(2)]
    assert set(seen) == {first, second}

    listed = json.loads(command(server, "list", "--json").stdout)
    assert [(each["id"], each["url"]) for each in listed] == [(webhook_id, receiver.url)]
    assert SECRET not in json.dumps(listed)
    shown = command(server, "deliveries", webhook_id)
    assert shown.returncode == 0 and "flows/created" in shown.stdout
    unknown = command(server, "deliveries", str(uuid4()))
    assert unknown.returncode == 1 and "No such webhook" in unknown.stderr
    assert b"whsec_" not in b"".join(path.read_bytes() for path in server.data.iterdir() if path.is_file())


async def test_streams_are_open_over_http_and_websocket_until_they_are_told_why_not(server: Server) -> None:
    query, given = "events=flows/created", token(server)
    socket_url = f"{server.url.replace('http', 'ws')}/events?{query}&access_token={given}"
    async with (
        httpx.AsyncClient(timeout=WAIT_S) as http,
        http.stream("GET", f"{server.url}/events?{query}", headers=bearer(server)) as stream,
        websockets.connect(socket_url) as socket,
        asyncio.timeout(WAIT_S),
    ):
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        flow_id = await asyncio.to_thread(put_flow, server, "x")
        told = json.loads(await socket.recv())
        assert told["event"]["flow"]["id"] == flow_id
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: ")) == {
                    name: value for name, value in told.items() if name != "id"
                }
                break
        began_s = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        rest = [line async for line in lines]
        assert ": The server stops. Go on from the last id." in rest and "retry: 1000" in rest
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1001,
            "The server stops. Go on from the last id.",
        )
        # The clock of this test is the promise itself.
        assert time.monotonic() - began_s < 5
        await stopping
    assert given not in (server.folder / "server.log").read_text()
    assert "access_token" not in (server.folder / "server.log").read_text()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/events", {}, 401),
        ("/events?access_token=x", {}, 401),
        ("/flows", {"newsroom": "1"}, 404),
        ("/events?events=none", {"newsroom": "1"}, 400),
    ],
)
async def test_websockets_are_refused_as_requests_are(
    server: Server, path: str, headers: dict[str, str], status: int
) -> None:
    given = bearer(server) if headers else {}
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(server.url.replace("http", "ws") + path, additional_headers=given)
    response = refused.value.response
    assert response.status_code == status
    assert json.loads(response.body)["summary"]
    assert ("WWW-Authenticate" in response.headers) is (status == 401)


def test_the_service_says_where_its_streams_are(server: Server) -> None:
    answer = httpx.get(f"{server.url}/service", headers=bearer(server), timeout=WAIT_S)
    said = answer.json()["event_stream_mechanisms"]
    places = {each["name"]: each.get("config", {}).get("url") for each in said}
    assert places["server-sent-events"] == f"{server.url}/events"
    assert places["websocket"] == f"{server.url.replace('http', 'ws')}/events"
