"""An emulator to start and stop: in this process, or in one of its own that can be killed."""

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.vast_emulator.counts import Counts, Tally
from tests.vast_emulator.faults import Fault, Faults
from tests.vast_emulator.options import Options
from tests.vast_emulator.server import CONTROL, Server

ROOT = Path(__file__).resolve().parents[2]


class Emulator:
    """A VAST DB emulator in a thread of this process; a context manager.

    `restart` keeps the port, and of the data what the journal of the options holds.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.faults = Faults(self.options.seed)
        self.counts = Counts()
        self._server: Server | None = None
        self._port = self.options.port

    @property
    def endpoint(self) -> str:
        return f"http://{self.options.host}:{self._port}"

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
        return self._server.store.open_transactions if self._server else 0

    def tally(self) -> Tally:
        """What has been done so far; subtract an earlier one."""
        return self.counts.tally()

    def start(self) -> Self:
        self._server = Server(self.options, self.faults, self.counts, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Close the port and every connection; open transactions are lost."""
        if self._server is not None:
            self._server.shutdown()
            self._server.close_connections()
            self._server.server_close()
            self._server = None

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
        self.options = options
        self._port = options.port
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self.options.host}:{self._port}"

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
        self._port = int(json.loads(line)["port"])
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
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
