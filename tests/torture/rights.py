"""The rules of authorization beside a plain model, with writers and watchers at once, and crashes in between.

Each team's flows change only by that team, one call at a time; anybody watches. A watcher's answer must be
right for one of the states that the flow could be in while the call lasted. What was asked when the server
was killed may have been done or not; an administrator's look says which, and then it stays so.
"""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from proxy.demo.client import Client, path
from proxy.demo.ingest import Programme
from tests.authorization.model import Grant, Model
from tests.end_to_end.server import Server
from tests.proxy.support import Client as Granted
from tests.proxy.support import write_policy
from tests.torture.report import Broken, Report

TEAMS = ("a", "b", "v")
SHARED = "shared"
FULL = ("reader", "writer", "deleter")
SHORTEST_S, LONGEST_S = 0.3, 1.5
FLOWS = 6

State = frozenset[str] | None
"""The classes of a flow; None when it is not there."""


def run(report: Report, *, quick: bool, seed: int) -> None:
    """Kills at points drawn by lot, and every answer in between compared."""
    kills = 6 if quick else 100
    what = f"{kills} kills under writers and watchers, beside the model"
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder:
        report.attempt("rights", what, lambda: _run(Path(folder), kills, random.Random(seed)))


@dataclass
class Flow:
    """One flow, and all that it may have been, in order; several at once where that is not known."""

    id: str
    body: dict[str, object]
    history: list[set[State]] = field(default_factory=lambda: [{None}])

    @property
    def now(self) -> set[State]:
        """What it may be."""
        return self.history[-1]


@dataclass
class Stage:
    """What all threads share. `answers`: how many were compared."""

    server: Server
    model: Model
    clients: dict[str, Client] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    broken: list[Exception] = field(default_factory=list)
    answers: int = 0
    writes: int = 0

    def became(self, flow: Flow, *states: State) -> None:
        """What a flow may be from now on."""
        with self.lock:
            flow.history.append(set(states))

    def compare(self, who: str, flow: Flow) -> None:
        """Ask for a flow as somebody. Raises `Broken` when that is right for no state it could be in."""
        with self.lock:
            since = len(flow.history) - 1
        status = self.clients[who].call("GET", path("flows", flow.id)).status_code
        with self.lock:
            states = set[State]().union(*flow.history[since:])
            self.answers += 1
        right = {self.model.status(who, "reader", None if s is None else set(s)) for s in states}
        if status not in right:
            raise Broken(f"{who} is answered {status} for a flow that may be {states}: {right} are right")


Act = Callable[[Stage, str, random.Random], None]


def _run(folder: Path, kills: int, random_: random.Random) -> str:
    grants: set[Grant] = {(team, relation, team) for team in TEAMS for relation in FULL}
    grants |= {(team, relation, SHARED) for team in TEAMS for relation in FULL}
    grants |= {(f"{team}-guest", "reader", team) for team in TEAMS}
    names = sorted({who for who, _, _ in grants})
    clients = {
        name: Granted(tuple(f"{r} {c}" for who, r, c in sorted(grants) if who == name), creator=name in TEAMS)
        for name in names
    }
    clients["admin"] = Granted(scopes=("read", "write", "delete", "admin"), admin=True)
    write_policy(folder / "policies", clients, "classes: {}")
    stage = Stage(Server(folder), Model(grants, frozenset(TEAMS), {}))
    stage.server.start()
    with ExitStack() as stack:
        stack.callback(stage.server.stop)
        for name in (*names, "admin"):
            stage.clients[name] = stack.enter_context(stage.server.client(name))
            stage.clients[name].login()
        for _ in range(kills):
            _at_once(stage, names, random_)
            stage.server.start()
            _settle(stage)
    return f"{stage.writes:,} writes, {stage.answers:,} answers compared, none diverged"


def _at_once(stage: Stage, names: list[str], random_: random.Random) -> None:
    stage.stop.clear()
    work: list[tuple[Act, str]] = [*((_write, team) for team in TEAMS), *((_watch, name) for name in names)]
    threads = []
    for act, who in work:
        given = (stage, act, who, random.Random(random_.random()))
        threads.append(threading.Thread(target=_until_gone, args=given))
    for thread in threads:
        thread.start()
    stage.stop.wait(random_.uniform(SHORTEST_S, LONGEST_S))
    stage.server.kill()
    stage.stop.set()
    for thread in threads:
        thread.join()
    if stage.broken:
        raise stage.broken[0]


def _until_gone(stage: Stage, act: Act, who: str, lot: random.Random) -> None:
    try:
        while not stage.stop.is_set():
            act(stage, who, lot)
    except httpx.TransportError:
        return
    # Told by the main thread, which the thread's own end would not stop.
    except Exception as exc:
        stage.broken.append(exc)
        stage.stop.set()


def _write(stage: Stage, team: str, lot: random.Random) -> None:
    """Create, share, unshare or delete one of the team's flows."""
    mine = [flow for flow in stage.flows if flow.body["label"] == team and flow.now != {None}]
    if len(mine) < FLOWS and lot.random() < 0.5 or not mine:
        programme = Programme.new(team, 0)
        body = programme.flows([team])[0]
        flow = Flow(body["id"], body)
        with stage.lock:
            stage.flows.append(flow)
        _do(stage, team, flow, frozenset((team,)), "PUT", path("flows", flow.id), body)
        return
    flow = lot.choice(mine)
    if lot.random() < 0.15:
        _do(stage, team, flow, None, "DELETE", path("flows", flow.id), None)
        return
    classes = lot.choice(((team,), (SHARED,), (team, SHARED)))
    _do(
        stage,
        team,
        flow,
        frozenset(classes),
        "PUT",
        path("flows", flow.id, "tags", "auth_classes"),
        classes,
    )


def _do(stage: Stage, team: str, flow: Flow, after: State, method: str, where: str, body: object) -> None:
    before = next(iter(flow.now))
    stage.became(flow, before, after)
    status = stage.clients[team].call(method, where, body).status_code
    if status not in (201, 204):
        raise Broken(f"{method} {where} is answered {status}")
    stage.became(flow, after)
    stage.writes += 1


def _watch(stage: Stage, who: str, lot: random.Random) -> None:
    with stage.lock:
        flows = list(stage.flows)
    if flows:
        stage.compare(who, lot.choice(flows[-3 * FLOWS :]))


def _settle(stage: Stage) -> None:
    """Find out what became of what was asked when the server was killed, and look at all that is recent."""
    recent = stage.flows[-5 * FLOWS :]
    for flow in {flow.id: flow for flow in stage.flows if len(flow.now) > 1 or flow in recent}.values():
        found = stage.clients["admin"].call("GET", path("flows", flow.id))
        state = None if found.status_code == 404 else frozenset(found.json()["tags"]["auth_classes"])
        if state not in flow.now:
            raise Broken(f"a flow is {state} after a crash, and may be {flow.now}")
        stage.became(flow, state)
        for who in ("a-guest", "b", "v"):
            stage.compare(who, flow)
