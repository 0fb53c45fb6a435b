"""A receiver of webhooks on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import cast


class Receiver(ThreadingHTTPServer):
    """Takes deliveries on loopback; `status` is what it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: Queue[tuple[dict[str, str], bytes]] = Queue()
        self.status = 204
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that is killed breaks its connections off: nothing to tell of."""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook"

    def until(self, event_type: str, flow_id: str | None = None) -> dict[str, str]:
        """The headers of the first delivery of that event; others, delivered twice over a crash, go by."""
        while True:
            headers, body = self.taken.get(timeout=180)
            told = json.loads(body)
            if told["event_type"] == event_type and (not flow_id or told["event"]["flow"]["id"] == flow_id):
                return headers


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        receiver = cast(Receiver, self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        # Before it is passed on: whoever takes it may have the next one answered otherwise.
        status = receiver.status
        receiver.taken.put((dict(self.headers.items()), body))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver at work."""
    found = Receiver()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
