"""What the server depends on fails in every way that a network allows, and comes back.

While it does, callers get a refusal in time or the right answer, never what they may not have; afterwards all
is well again without a restart, and what was acknowledged is there.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from proxy.demo.client import path
from proxy.demo.ingest import Programme
from tests.bench.servers import ROOT, store, token
from tests.contract import media_servers
from tests.end_to_end.receiver import receiving
from tests.end_to_end.server import Server, environment
from tests.identity.tokens import ec_pair, provider
from tests.installed import binary
from tests.policy import openfga_server
from tests.torture.faulty import MODES, Mode, Relay
from tests.torture.journal import KeyWorker
from tests.torture.report import Broken, Report
from tests.torture.world import World
from tests.vast_emulator import EmulatorProcess, Options

REFUSALS = frozenset((502, 503, 504))
QUICK: tuple[Mode, ...] = ("hangs", "garbles")
# Answers come within seconds; this is twice what is promised, for machines that do other things too.
LONGEST_S = 20.0
# The deadline of what is asked of an upstream, which may answer at length.
UPSTREAM_S = 30.0
BACK_WITHIN_S = 60.0
# A cached decision counts for ten seconds.
TRIED_FOR_S = 14.0


@dataclass
class Caller:
    """Reads what it may and may not, and writes a text; knows what the text may be."""

    server: Server
    token: str
    seen: str
    hidden: str
    longest_s: float = LONGEST_S
    texts: set[str] = field(default_factory=lambda: {"first"})
    slowest_s: float = 0.0

    def ask(self, method: str, target: str, body: str | None = None) -> tuple[int, bytes]:
        """The status and body of an answer. `Broken` when there is none in time."""
        parts = urlsplit(self.server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.longest_s)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        began = time.monotonic()
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError as exc:
            raise Broken(f"{method} {target}: {exc!r}") from exc
        finally:
            connection.close()
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def rounds(self, refusals: int) -> Counter[int]:
        """Ask for everything until refused so often or time is up. `Broken` for a wrong answer."""
        seen = Counter[int]()
        until = time.monotonic() + TRIED_FOR_S
        asked = itertools.cycle((self._write, self._read, self._pry))
        while sum(seen[status] for status in REFUSALS) < refusals and time.monotonic() < until:
            seen[next(asked)()] += 1
            time.sleep(0.02)
        return seen

    def _write(self) -> int:
        text = f"text {random.random()}"
        self.texts.add(text)
        status, _ = self.ask("PUT", f"{self.seen}/description", text)
        if status == 204:
            self.texts = {text}
        return _checked(status, 204)

    def _read(self) -> int:
        return _checked(self.ask("GET", self.seen)[0], 200)

    def _pry(self) -> int:
        return _checked(self.ask("GET", self.hidden)[0], 404)

    def settled(self) -> float:
        """Wait until reads and writes work: after how many seconds. `Broken` when a text was lost."""
        began = time.monotonic()
        while True:
            status, body = self.ask("GET", f"{self.seen}/description")
            if status == 200 and self.ask("PUT", f"{self.seen}/label", "well")[0] == 204:
                break
            if time.monotonic() - began > BACK_WITHIN_S:
                raise Broken(f"still answered {status} after {BACK_WITHIN_S:.0f} s")
            time.sleep(0.1)
        if self.texts and json.loads(body) not in self.texts:
            raise Broken("what was written last is not there")
        return time.monotonic() - began


def _checked(status: int, right: int) -> int:
    if status != right and status not in REFUSALS:
        raise Broken(f"answered {status}, not {right} or a refusal")
    return status


def run(report: Report, *, quick: bool, seed: int) -> None:
    """Each dependency in turn, in each mode."""
    modes = QUICK if quick else MODES
    if binary("openfga") is None:
        report.line("faults", "OpenFGA", "not tried: no OpenFGA server", ok=None)
    else:
        _each(report, "OpenFGA", modes, seed, _openfga)
    _each(report, "VAST DB", modes, seed, _vast)
    _each(report, "an upstream", modes, seed, _upstream)
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as name:
        report.attempt("faults", "S3", lambda: _s3(Path(name), modes, seed))
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as name:
        report.attempt("faults", "a webhook's receiver", lambda: _receiver(Path(name), modes, seed))
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as name:
        report.attempt("faults", "an issuer's keys", lambda: _issuer(Path(name), modes, seed))


Setting = Callable[[ExitStack, Path, int], tuple[Relay, Caller]]


def _each(report: Report, name: str, modes: tuple[Mode, ...], seed: int, setting: Setting) -> None:
    refusals = 2 if modes == QUICK else 9
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tams-torture-")))
        relay, caller = setting(stack, folder, seed)
        for mode in modes:
            report.attempt("faults", f"{name} {mode}", partial(_fault, relay, caller, mode, refusals))


def _fault(relay: Relay, caller: Caller, mode: Mode, refusals: int) -> str:
    caller.slowest_s = 0.0
    relay.mode = mode
    try:
        seen = caller.rounds(refusals)
    finally:
        relay.mode = "well"
    slowest_s = caller.slowest_s
    back_s = caller.settled()
    told = ", ".join(f"{count} {status}" for status, count in sorted(seen.items()))
    return f"{told}; slowest {slowest_s:.1f} s; back after {back_s:.1f} s"


def _openfga(stack: ExitStack, folder: Path, seed: int) -> tuple[Relay, Caller]:
    url = stack.enter_context(openfga_server.running())
    relay = _relay(stack, url, seed)
    shutil.copytree(ROOT / "policies", folder / "policies")
    _command(folder, "policy", "apply", TAMS_OPENFGA__URL=url)
    return relay, _caller(stack, Server(folder, {"TAMS_OPENFGA__URL": relay.url}))


def _vast(stack: ExitStack, folder: Path, seed: int) -> tuple[Relay, Caller]:
    emulator = stack.enter_context(EmulatorProcess(Options()))
    relay = _relay(stack, emulator.endpoint, seed)
    environ = {
        "TAMS_METADATA": "vast",
        "TAMS_VAST__ENDPOINTS": json.dumps([relay.url]),
        "TAMS_VAST__BUCKET": emulator.bucket,
        "TAMS_VAST__ACCESS_KEY": emulator.access_key,
        "TAMS_VAST__SECRET_KEY": emulator.secret_key,
    }
    _command(folder, "keyring", "create", **environ)
    return relay, _caller(stack, Server(folder, environ))


def _upstream(stack: ExitStack, folder: Path, seed: int) -> tuple[Relay, Caller]:
    url = stack.enter_context(store(folder / "upstream"))
    relay = _relay(stack, url, seed)
    caller = _caller(stack, Server(folder, {"TAMS_UPSTREAM": relay.url}))
    caller.longest_s = 2 * UPSTREAM_S
    return relay, caller


def _s3(folder: Path, modes: tuple[Mode, ...], seed: int) -> str:
    with ExitStack() as stack:
        bucket = stack.enter_context(media_servers.running("moto", folder))
        relay = _relay(stack, bucket.endpoint, seed)
        (folder / "tams.toml").write_text(
            '[[storage_backends]]\nid = "0f7a5a52-9c3d-4a57-8d2b-6a1f3f1a7c11"\nlabel = "s3"\ntype = "s3"\n'
            f'bucket = "{media_servers.BUCKET}"\nendpoints = ["{relay.url}"]\ndefault = true\n'
            f'access_key = "{media_servers.ACCESS}"\nsecret_key = "{media_servers.SECRET}"\n'
        )
        server = Server(folder)
        stack.callback(server.stop)
        server.start()
        access = token(server.url, server.data, "newsroom")
        keys = KeyWorker(server.url, access, "news/", random.Random(seed))
        refused = 0
        for mode in modes:
            keys.write(10)
            relay.mode = mode
            refused += keys.try_to_write(2, REFUSALS, 200_000)
            relay.mode = "well"
            _await(keys.writable, "writes to S3 are still refused")
            keys.check()
        return f"{refused} writes refused, {keys.acknowledged} acknowledged, 0 lost"


def _receiver(folder: Path, modes: tuple[Mode, ...], seed: int) -> str:
    with receiving() as receiver, Relay(receiver.server_port, seed).running() as relay:
        world = World(folder, seed, receiver, hook=relay.url.replace("127.0.0.1", "localhost"))
        try:
            for mode in modes:
                relay.mode = mode
                world.flows[0].make()
                time.sleep(1)
                relay.mode = "well"
            doubled = world.await_events()
        finally:
            world.server.stop()
        return f"{len(world.flows[0].created)} events, all told; {doubled} told twice"


def _issuer(folder: Path, modes: tuple[Mode, ...], seed: int) -> str:
    pair, later = ec_pair("first"), ec_pair("later")
    with provider() as remote, Relay(urlsplit(remote.url).port or 0, seed).running() as relay:
        remote.publish(pair)
        issuer = {
            "alias": "idp",
            "issuer": remote.url,
            "audiences": ["tams"],
            "jwks_url": f"{relay.url}/jwks",
        }
        relay.mode = "hangs"
        server = Server(folder, {"TAMS_ISSUERS": json.dumps([issuer])})
        server.start()
        try:
            now_s = int(time.time())
            claims = {"iss": remote.url, "aud": "tams", "sub": "anna", "iat": now_s, "exp": now_s + 3600}
            claims["scope"] = "tams-api/read"
            known = Caller(server, pair.sign(claims), "/flows", "")
            unknown = Caller(server, later.sign(claims), "/flows", "")
            cold, _ = known.ask("GET", "/flows")
            if cold != 503:
                raise Broken(f"keys that could never be fetched: answered {cold}, not 503")
            relay.mode = "well"
            _await(lambda: known.ask("GET", "/flows")[0] == 200, "known keys are not accepted")
            for mode in modes:
                relay.mode = mode
                found = [each.ask("GET", "/flows")[0] for each in (known, unknown) for _ in range(5)]
                if found[:5] != [200] * 5 or not set(found[5:]) <= {401, 503}:
                    raise Broken(f"keys {mode}: answered {found}")
            relay.mode = "well"
            remote.publish(pair, later)
            _await(lambda: unknown.ask("GET", "/flows")[0] == 200, "a new key is not accepted")
        finally:
            server.stop()
        return f"cold 503, known keys 200 in {len(modes)} modes, then a new key 200"


def _command(folder: Path, *words: str, **settings: str) -> None:
    """`tams-proxy` with these words, for the server in the folder."""
    environ = environment() | settings | {"TAMS_DATA": str(folder / "data")}
    command = [sys.executable, "-m", "proxy", *words]
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)


def _relay(stack: ExitStack, url: str, seed: int) -> Relay:
    return stack.enter_context(Relay(urlsplit(url).port or 0, seed).running())


def _caller(stack: ExitStack, server: Server) -> Caller:
    stack.callback(server.stop)
    server.start()
    mine, theirs = Programme.new("Faults", 0), Programme.new("Faults", 0)
    for name, class_, programme in (("newsroom", "news", mine), ("sportdesk", "sport", theirs)):
        with server.client(name) as client:
            body = programme.flows([class_])[0]
            client.expect(201, "PUT", path("flows", body["id"]), body)
    caller = Caller(
        server,
        token(server.url, server.data, "newsroom"),
        path("flows", mine.video.flow_id),
        path("flows", theirs.video.flow_id),
    )
    if caller.ask("PUT", f"{caller.seen}/description", "first")[0] != 204:
        raise Broken("a text cannot be written though all is well")
    return caller


def _await(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + BACK_WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise Broken(f"{otherwise} after {BACK_WITHIN_S:.0f} s")
        time.sleep(0.2)
