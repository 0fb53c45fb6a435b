"""An emulator to start and stop: in this process, or in one of its own that can be killed."""

import json
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.ports import free_port
from tests.vast_emulator.counts import Counts, Tally
from tests.vast_emulator.faults import Fault, Faults
from tests.vast_emulator.options import Options
from tests.vast_emulator.server import CONTROL, Core, Server, core

ROOT = Path(__file__).resolve().parents[2]


class Emulator:
    """A VAST DB emulator in threads of this process; a context manager.

    `restart` keeps the ports, and of the data what the journal of the options holds.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.faults = Faults(self.options.seed)
        self.counts = Counts()
        self._core: Core | None = None
        self._servers: dict[int, Server] = {}
        others = [free_port() for _ in range(self.options.endpoints - 1)]
        self._ports = [self.options.port or free_port(), *others]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses of the data, also of those that are closed."""
        return tuple(f"{self.options.scheme}://{self.options.host}:{port}" for port in self._ports)

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def bucket(self) -> str:
        return self.options.buckets[0]

    @property
    def access_key(self) -> str:
        return self.options.access_key

    @property
    def secret_key(self) -> str:
        return self.options.secret_key

    @property
    def open_transactions(self) -> int:
        return self._core.store.open_transactions if self._core else 0

    def tally(self) -> Tally:
        """What has been done so far; subtract an earlier one."""
        return self.counts.tally()

    def start(self) -> Self:
        self._core = core(self.options, self.faults, self.counts)
        for place in range(len(self._ports)):
            self.open_endpoint(place)
        return self

    def open_endpoint(self, place: int) -> None:
        """Listen again at an endpoint that was closed, with the data of the others."""
        if self._core is None:
            raise RuntimeError("the emulator is not running")
        server = self._servers[place] = Server(self._core, self._ports[place])
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close_endpoint(self, place: int) -> None:
        """Close one endpoint and its connections, while the others go on."""
        server = self._servers.pop(place)
        server.shutdown()
        server.close_connections()
        server.server_close()

    def stop(self) -> None:
        """Close the ports and every connection; open transactions are lost."""
        for place in list(self._servers):
            self.close_endpoint(place)
        self._core = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmulatorProcess:
    """The same in a process of its own, steered over HTTP; a context manager.

    `kill` ends it as a crash would; `start` then brings it back on the same port with what its journal holds.
    """

    def __init__(self, options: Options) -> None:
        if options.endpoints != 1:
            raise ValueError("a process of its own has one endpoint")
        self.options = options
        self._port = options.port or free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.options.scheme}://{self.options.host}:{self._port}"

    @property
    def bucket(self) -> str:
        return self.options.buckets[0]

    @property
    def access_key(self) -> str:
        return self.options.access_key

    @property
    def secret_key(self) -> str:
        return self.options.secret_key

    def start(self) -> Self:
        """Start it and return once it listens."""
        options = self.options
        command = [
            sys.executable,
            "-m",
            "tests.vast_emulator",
            "--host",
            options.host,
            "--port",
            str(self._port),
        ]
        command += ["--version", options.version, "--conflicts", options.conflicts, "--keys-from-stdin"]
        command += [part for bucket in options.buckets for part in ("--bucket", bucket)]
        command += [part for vip in options.vips for part in ("--vip", vip)]
        command += ["--transaction-timeout", str(options.transaction_timeout_s), "--seed", str(options.seed)]
        command += ["--journal", str(options.journal)] if options.journal else []
        command += ["--scramble"] if options.scramble else []
        command += ["--tls", *map(str, options.tls)] if options.tls else []
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{options.access_key}\n{options.secret_key}\n")
        process.stdin.flush()
        self._process = process
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the emulator ended with status {process.wait()}")
        return self

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def add_faults(self, faults: Sequence[Fault]) -> None:
        self._call("POST", "faults", [asdict(fault) for fault in faults])

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def tally(self) -> Tally:
        told = self._call("GET", "counts")
        return Tally(told["requests"], told["rows_read"], told["rows_scanned"], told["queries"])

    @property
    def open_transactions(self) -> int:
        return int(self._call("GET", "counts")["open_transactions"])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/{CONTROL}/{path}", data=data, method=method)
        trust = ssl.create_default_context(cafile=self.options.tls[0] if self.options.tls else None)
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with direct.open(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
