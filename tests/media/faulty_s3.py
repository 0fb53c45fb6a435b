"""An S3 that answers as a test tells it to, and otherwise keeps objects in memory as S3 would."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "media"


@dataclass(frozen=True)
class Fault:
    """What happens instead of the right answer.

    `code` is S3's word in the error's body. `cut` sends so many bytes of the right answer's body and closes
    (or resets). `hang` does not answer until the server stops. `after` does the right thing first.
    """

    status: int = 500
    code: str = "InternalError"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    reset: bool = False
    hang: bool = False
    after: bool = False


RESET = Fault(reset=True)
OK = None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def operation(self) -> str:
        kind = next((name for name in self.query if name in _SUBRESOURCES), "")
        part = "" if self.path.strip("/") != BUCKET else "bucket"
        return " ".join(word for word in (self.method, part, kind) if word)


_SUBRESOURCES = {"uploads", "uploadId", "delete", "versioning", "lifecycle", "versions", "list-type"}


class FaultyS3:
    """`faults` are used up one per request; `None` is the right answer. `requests` is what came."""

    def __init__(self) -> None:
        self.faults: list[Fault | None] = []
        self.requests: list[Request] = []
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.date_s: float | None = None
        self.endpoint = ""
        self.stopping = threading.Event()
        self.lock = threading.Lock()

    def reset(self) -> None:
        """As new."""
        self.faults, self.requests, self.objects, self.uploads, self.date_s = [], [], {}, {}, None

    def operations(self) -> list[str]:
        return [request.operation for request in self.requests]


@contextmanager
def running() -> Iterator[FaultyS3]:
    s3 = FaultyS3()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"s3": s3}))
    s3.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield s3
    finally:
        s3.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: FaultyS3

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            unquote(parts.path),
            parse_qs(parts.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
        )
        with self.s3.lock:
            self.s3.requests.append(request)
            fault = self.s3.faults.pop(0) if self.s3.faults else None
            right = None
            if fault is None or fault.after or fault.cut is not None:
                right = self.right(request, body)
        if fault is None and right is not None:
            self.send(*right)
        elif fault is not None:
            self.fail(fault, right)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.s3.date_s, usegmt=True)

    def fail(self, fault: Fault, right: tuple[int, dict[str, str], bytes] | None) -> None:
        self.close_connection = True
        if fault.hang:
            self.s3.stopping.wait()
        elif fault.cut is not None and right is not None:
            self.send(right[0], right[1], right[2], cut=fault.cut)
        elif not fault.reset:
            error = f"<Error><Code>{fault.code}</Code><Message>m</Message></Error>".encode()
            # Unsaid, the next request on the connection may meet its end.
            headers = {"Connection": "close", **fault.headers}
            self.send(fault.status, headers, error if fault.body is None else fault.body)
        if fault.reset:
            # Close with RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()

    def right(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        key = request.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        if not key:
            return self.of_bucket(request, body)
        if "uploads" in request.query or "uploadId" in request.query:
            return self.of_upload(request, key, body)
        if request.method == "PUT":
            self.s3.objects[key] = body
            return 200, {"ETag": etag_of(body)}, b""
        if request.method == "DELETE":
            self.s3.objects.pop(key, None)
            return 204, {}, b""
        return self.of_object(request, key)

    def of_object(self, request: Request, key: str) -> tuple[int, dict[str, str], bytes]:
        content = self.s3.objects.get(key)
        if content is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        etag = etag_of(content)
        if request.headers.get("if-match", etag) != etag:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        headers = {"ETag": etag, "Content-Type": "video/mp2t"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked is None:
            return 200, headers, content
        start, last = int(asked[1]), int(asked[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        return 206, headers, content[start : last + 1]

    def of_upload(self, request: Request, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in request.query:
            upload_id = f"upload-{len(self.s3.uploads)}"
            self.s3.uploads[upload_id] = {}
            return 200, {}, f"<R><UploadId>{upload_id}</UploadId></R>".encode()
        upload_id = request.query["uploadId"][0]
        if upload_id not in self.s3.uploads:
            return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
        if request.method == "PUT":
            self.s3.uploads[upload_id][int(request.query["partNumber"][0])] = body
            return 200, {"ETag": etag_of(body)}, b""
        parts = self.s3.uploads.pop(upload_id)
        if request.method == "DELETE":
            return 204, {}, b""
        self.s3.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return 200, {}, b'<R><ETag>"e"</ETag></R>'

    def of_bucket(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "delete" in request.query:
            for name in re.findall(rb"<Key>(.*?)</Key>", body):
                self.s3.objects.pop(name.decode(), None)
            return 200, {}, b"<DeleteResult/>"
        if "versioning" in request.query:
            return 200, {}, b"<VersioningConfiguration/>"
        if "lifecycle" in request.query:
            return 404, {}, b"<Error><Code>NoSuchLifecycleConfiguration</Code></Error>"
        listed = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents>"
            for key in sorted(self.s3.objects)
        )
        return 200, {}, f"<ListBucketResult>{listed}</ListBucketResult>".encode()


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
