"""Clients that keep asking, and count what failed."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from uuid import uuid4

import httpx

FORM = {"grant_type": "client_credentials"}


class Load:
    """So many clients at a URL, each with a connection of its own, reading and writing all the time."""

    def __init__(self, url: str, client: str, secret: str, clients: int) -> None:
        self._url = url
        answer = httpx.post(f"{url}/token", data=FORM, auth=(client, secret), timeout=20)
        answer.raise_for_status()
        self._headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        flow = str(uuid4())
        document = {
            "id": flow,
            "source_id": str(uuid4()),
            "format": "urn:x-nmos:format:data",
            "codec": "text/plain",
            "container": "text/plain",
            "essence_parameters": {},
            "tags": {"auth_classes": ["news"]},
        }
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=30) as http:
            self._one(http, "PUT", f"/flows/{flow}", document)
            while not self._ended.is_set():
                self._one(http, "GET", f"/flows/{flow}", None)
                self._one(http, "POST", f"/flows/{flow}/storage", {"limit": 1})
                self._one(http, "PUT", f"/flows/{flow}/label", uuid4().hex)
                self._one(http, "GET", "/flows?limit=5", None)

    def _one(self, http: httpx.Client, method: str, path: str, body: object) -> None:
        try:
            answer = http.request(method, path, json=body) if body is not None else http.request(method, path)
            failed = "" if answer.is_success else f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        except httpx.TransportError as exc:
            failed = f"{method} {path}: {exc!r}"
        with self._lock:
            self.done[method] += 1
            if failed:
                self.failed.append(failed)
