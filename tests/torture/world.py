"""A server, and clients with journals that work on it all at once."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.bench.servers import token
from tests.end_to_end.receiver import Receiver
from tests.end_to_end.server import Server
from tests.torture.journal import FlowWorker, Gone, KeyWorker, Worker
from tests.torture.report import Broken

TOLD_WITHIN_S = 120
# Five seconds are promised; machines that do much else too take longer to start anything.
BACK_WITHIN_S = 30.0


class World:
    """A demo server in `folder`, two clients of keys and two of flows, and a webhook: to `hook`, by default
    straight to the receiver."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        receiver: Receiver,
        environ: Mapping[str, str] | None = None,
        hook: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tams.toml").write_text('[events]\nreceivers = ["127.0.0.0/8", "::1"]\n')
        self.random = random.Random(seed)
        self.receiver = receiver
        self.server = Server(folder, environ)
        self.slowest_start_s = self.server.start()
        access = token(self.server.url, self.server.data, "newsroom")
        self._register(hook or receiver.url, access)
        url = self.server.url
        self.keys = [KeyWorker(url, access, f"news/{n}/", random.Random(f"{seed} k{n}")) for n in range(2)]
        self.flows = [
            FlowWorker(self.server.client("newsroom"), random.Random(f"{seed} flows {n}")) for n in range(2)
        ]
        self._told: set[str] = set()
        self._errors: list[Exception] = []

    @property
    def workers(self) -> list[Worker]:
        """All of them."""
        return [*self.keys, *self.flows]

    @property
    def acknowledged(self) -> int:
        """The writes that were acknowledged."""
        return sum(worker.acknowledged for worker in self.workers)

    def work(self, seconds: float) -> None:
        """All at work at once, until the server is killed after so long."""
        threads = [threading.Thread(target=self._toil, args=(worker,)) for worker in self.workers]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.server.kill()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def restart(self) -> None:
        """Start the server again, and compare all journals with it."""
        took_s = self.server.start()
        self.slowest_start_s = max(self.slowest_start_s, took_s)
        if took_s > BACK_WITHIN_S:
            raise Broken(f"back after {took_s:.1f} s")
        for worker in self.workers:
            worker.check()

    def await_events(self) -> int:
        """Wait until the webhook was told of every flow; how many deliveries were doubled."""
        expected = set().union(*(worker.created for worker in self.flows))
        until = time.monotonic() + TOLD_WITHIN_S
        doubled = 0
        while not expected <= self._told:
            if time.monotonic() > until:
                raise Broken(f"{len(expected - self._told)} of {len(expected)} events were never delivered")
            while not self.receiver.taken.empty():
                flow_id = json.loads(self.receiver.taken.get()[1])["event"]["flow"]["id"]
                doubled += flow_id in self._told
                self._told.add(flow_id)
            time.sleep(0.05)
        return doubled

    def _toil(self, worker: Worker) -> None:
        try:
            while True:
                worker.step()
        except Gone:
            return
        # Told by the main thread; a thread's own end would go unseen.
        except Exception as exc:
            self._errors.append(exc)

    def _register(self, url: str, access: str) -> None:
        body = {
            "url": url,
            "events": ["flows/created"],
            "api_key_name": "X-Key",
            "api_key_value": "torture",
        }
        headers = {"Authorization": f"Bearer {access}"}
        answer = httpx.post(f"{self.server.url}/service/webhooks", json=body, headers=headers, timeout=60)
        if answer.status_code != 201:
            raise Broken(f"the webhook is answered {answer.status_code}: {answer.text}")
