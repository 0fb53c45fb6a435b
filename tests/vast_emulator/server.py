"""The HTTP side: keep-alive, bodies on every method, signatures, faults."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.vast_emulator import wire
from tests.vast_emulator.api import Api, operation_of
from tests.vast_emulator.counts import Counts
from tests.vast_emulator.errors import Refusal, bad_request
from tests.vast_emulator.faults import Fault, Faults
from tests.vast_emulator.journal import Journal
from tests.vast_emulator.mvcc import Store
from tests.vast_emulator.options import Options
from tests.vast_emulator.sigv4 import verify
from tests.vast_emulator.wire import Reply, Request

CHUNK_BYTES = 256 * 1024
CONTROL = "_emulator"
"""First part of the paths by which another process steers an emulator; no bucket can have this name."""


@dataclass(frozen=True)
class Core:
    """What all endpoints of an emulator share."""

    options: Options
    faults: Faults
    counts: Counts
    store: Store
    api: Api


def core(options: Options, faults: Faults, counts: Counts) -> Core:
    """Build an emulator's inside, with what its journal holds."""
    journal = Journal(options.journal) if options.journal else None
    store = Store(
        options.conflicts, timeout_s=options.transaction_timeout_s, clock=time.monotonic, journal=journal
    )
    return Core(options, faults, counts, store, Api(options, store, counts))


class Server(ThreadingHTTPServer):
    """Serves an emulator at one endpoint. `stopping` ends hanging requests."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, core: Core, port: int) -> None:
        self.core = core
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((core.options.host, port), Handler)
        if core.options.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*core.options.tls)
            # The handshake waits for the thread of the connection, lest a silent client stop the others.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def opened(self, connection: socket.socket) -> None:
        with self._connections_lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._connections_lock:
            self._connections.discard(connection)

    def close_connections(self) -> None:
        self.stopping.set()
        with self._connections_lock:
            for connection in self._connections:
                sever(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no errors; the rest is shown by the base class."""
        if not self.stopping.is_set():
            super().handle_error(request, client_address)


def sever(connection: socket.socket) -> None:
    """End a connection in both directions, whether or not its peer still listens."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class Handler(BaseHTTPRequestHandler):
    """One connection: reads requests with their bodies, checks them, and answers or fails as a fault says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        try:
            super().finish()
        except OSError:
            self.close_connection = True

    def version_string(self) -> str:
        return self.server.core.options.server_header

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not logged."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = wire.parse(self.command, self.path, headers, body)
        if request.parts()[0] == CONTROL:
            self._send(self._control(request))
        else:
            self._answer(request)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _answer(self, request: Request) -> None:
        core = self.server.core
        operation = operation_of(request)
        core.counts.request(operation)
        secrets = {core.options.access_key: core.options.secret_key}
        try:
            verify(request.method, self.path, request.headers, request.body, secrets, datetime.now(UTC))
        except Refusal as refusal:
            self._send(wire.error_reply(refusal))
            return
        fault = core.faults.take(operation, request.path)
        if fault is None:
            self._send(core.api.answer(request, operation))
        else:
            if operation == "commit" and fault.aborts:
                core.api.answer(request, "rollback")
            self._fail(fault, lambda: core.api.answer(request, operation))

    def _fail(self, fault: Fault, work: Callable[[], Reply]) -> None:
        """Do what a fault says with a request whose work would be `work`."""
        refusal = fault.refusal()
        if refusal is not None:
            self._send(wire.error_reply(refusal))
            return
        match fault.kind:
            case "drop":
                self._drop()
            case "drop_after":
                work()
                self._drop()
            case "hang":
                self.server.stopping.wait(fault.seconds)
                self._drop()
            case "hang_after":
                work()
                self.server.stopping.wait(fault.seconds)
                self._drop()
            case "delay":
                self.server.stopping.wait(fault.seconds)
                self._send(work())
            case "truncate":
                self._send(work(), truncated=True)
            case "fail_stream":
                self._send(Reply(body=wire.failed(1), streamed=True))
            case _:
                raise ValueError(f"no such fault: {fault.kind}")

    def _drop(self) -> None:
        self.close_connection = True
        sever(self.connection)

    def _send(self, reply: Reply, *, truncated: bool = False) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        sent = reply.body[: len(reply.body) // 2] if truncated else reply.body
        if reply.streamed:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._write_chunks(sent, ended=not truncated)
        else:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else sent)
        self.wfile.flush()
        if truncated:
            self._drop()

    def _write_chunks(self, body: bytes, *, ended: bool) -> None:
        for at in range(0, len(body), CHUNK_BYTES):
            chunk = body[at : at + CHUNK_BYTES]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if ended:
            self.wfile.write(b"0\r\n\r\n")

    def _control(self, request: Request) -> Reply:
        """Steering from another process: faults are added and cleared, counts are read."""
        faults, counts, store = self.server.core.faults, self.server.core.counts, self.server.core.store
        match (request.method, request.path.removeprefix(f"{CONTROL}/")):
            case ("POST", "faults"):
                try:
                    faults.add(*(Fault(**given) for given in json.loads(request.body)))
                except (TypeError, ValueError) as exc:
                    return wire.error_reply(bad_request("InvalidArgument", str(exc)))
            case ("DELETE", "faults"):
                faults.clear()
            case ("GET", "counts"):
                told = {**asdict(counts.tally()), "hits": faults.hits}
                told["open_transactions"] = store.open_transactions
                return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(told).encode())
            case _:
                return wire.error_reply(Refusal(404, "NotFound", request.path))
        return Reply()
