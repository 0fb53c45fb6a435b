"""Rights that are taken away: within ten seconds nobody is told of what they may not see any more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

import httpx
import pytest

from tests.bench.servers import ROOT
from tests.end_to_end.receiver import Receiver, receiving
from tests.end_to_end.server import Server, environment
from tests.end_to_end.test_events import bearer

IN_TIME_S = 10.0
READING = ("group:news", "reader", "news")

pytestmark = pytest.mark.slow


class Site:
    """A server whose policy can be edited, decided by itself or by an OpenFGA server."""

    def __init__(self, folder: Path, openfga_url: str | None) -> None:
        shutil.copytree(ROOT / "policies", folder / "policies")
        self.openfga_url = openfga_url
        environ = {"TAMS_EVENTS__RECEIVERS": '["127.0.0.0/8", "::1"]'}
        if openfga_url is not None:
            environ["TAMS_OPENFGA__URL"] = openfga_url
        self.server = Server(folder, environ)

    def policy(self, *words: str) -> None:
        """Run a policy command, and bring it to the OpenFGA server where there is one."""
        self._run(*words)
        if self.openfga_url is not None:
            self._run("apply")

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "policy", *words],
            cwd=self.server.folder,
            env=environment() | {"TAMS_DATA": str(self.server.data)} | self.server.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(params=["embedded", "openfga"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        url = None
        if request.param == "openfga":
            from tests.policy.openfga_server import running

            url = stack.enter_context(running())
        found = Site(tmp_path, url)
        if url is not None:
            found.server.data.mkdir()
            found._run("apply")
        found.server.start()
        stack.callback(found.server.stop)
        yield found


def news_flow(server: Server, headers: dict[str, str], label: str) -> None:
    number = time.time_ns()
    flow = {
        "id": f"00000000-0000-4000-8000-{number % 16**12:012x}",
        "source_id": f"00000000-0000-4000-9000-{number % 16**12:012x}",
        "label": label,
        "format": "urn:x-nmos:format:data",
        "codec": "text/plain",
        "container": "text/plain",
        "essence_parameters": {},
        "tags": {"auth_classes": ["news"]},
    }
    answer = httpx.put(f"{server.url}/flows/{flow['id']}", json=flow, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text


def followed(server: Server, headers: dict[str, str], labels: Queue[str]) -> threading.Thread:
    """Follow the live stream in the background: the labels of the flows that it tells of."""
    opened = threading.Event()

    def follow() -> None:
        with httpx.stream(
            "GET", f"{server.url}/events?events=flows/created", headers=headers, timeout=60
        ) as stream:
            opened.set()
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    labels.put(json.loads(line.removeprefix("data: "))["event"]["flow"]["label"])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert opened.wait(60)
    return thread


def until(labels: Queue[str], label: str) -> list[str]:
    found: list[str] = []
    while label not in found:
        found.append(labels.get(timeout=60))
    return found


def delivered(receiver: Receiver, labels: Queue[str]) -> None:
    """Pass on what a receiver is told of."""
    while True:
        _, body = receiver.taken.get()
        labels.put(json.loads(body)["event"]["flow"]["label"])


def test_a_revocation_acts_on_deliveries_and_streams_within_ten_seconds(
    site: Site, receiver: Receiver
) -> None:
    server = site.server
    mine, admin = bearer(server), bearer(server, "admin")
    hook = {"url": receiver.url, "events": ["flows/created"]}
    answer = httpx.post(f"{server.url}/service/webhooks", json=hook, headers=mine, timeout=60)
    assert answer.status_code == 201, answer.text
    hooked: Queue[str] = Queue()
    streamed: Queue[str] = Queue()
    threading.Thread(target=delivered, args=(receiver, hooked), daemon=True).start()
    followed(server, mine, streamed)
    news_flow(server, admin, "before")
    assert until(hooked, "before") == until(streamed, "before") == ["before"]

    site.policy("revoke", *READING)
    # The clock of this test is the promise itself.
    revoked_s = time.monotonic()
    late: list[str] = []
    number = 0
    while len(late) < 3:
        passed_s = time.monotonic() - revoked_s
        label = f"{number} after {passed_s:.1f} s"
        news_flow(server, admin, label)
        if passed_s > IN_TIME_S:
            late.append(label)
        number += 1
        time.sleep(0.4)
    site.policy("grant", *READING)
    # Whoever stops getting events cannot tell when it may again: some are made until one arrives.
    told: list[list[str]] = []
    for labels in (hooked, streamed):
        found: list[str] = []
        for attempt in range(300):
            news_flow(server, admin, f"again {attempt}")
            time.sleep(0.2)
            while not labels.empty():
                found.append(labels.get())
            if any(label.startswith("again") for label in found):
                break
        told.append(found)
    for found in told:
        assert any(label.startswith("again") for label in found)
        assert not set(found) & set(late), found
