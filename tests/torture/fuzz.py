"""Every operation by every kind of caller with requests drawn by lot, in JSON, in URLs and in bytes.

What must hold: no 5xx, no traceback, and nothing of what is hidden. A canary is planted in a flow of the
sports desk, another in secrets that are sent along; neither may be in an answer to others or in the log.
Requests that broke something once are kept in `corpus/` and are sent first, as they were.
"""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from proxy.demo.client import Client, path
from proxy.demo.ingest import Programme, allocate
from tests.bench.servers import token
from tests.end_to_end.server import Server
from tests.torture.mutate import VALUES, changed, mangled, text_of
from tests.torture.report import Broken, Report
from tests.torture.wire import WAIT_S, Wire, request_of, statuses_of

CORPUS = Path(__file__).with_name("corpus")
AT_ONCE = 8
# What cannot be had in this deployment may say so; nothing else that begins with 5 may be answered.
ALLOWED = frozenset((501,))
ODD = ("", ".", "..", "%2e%2e", "%00", "%ff", "%2F", "a%2Fb", "%25", "x" * 3000, "%ED%A0%80", "*", "ä", "a;b")
QUERIES = (
    "limit",
    "page",
    "timerange",
    "tag.auth_classes",
    "tag_exists.auth_classes",
    "presigned",
    "sort_by",
)
TEXTS = ("", "0", "-1", "1", "true", "news", "sport", "_", "[0:0_5:0)", "(", "%", "\x00", "9" * 40, "x" * 999)
# Stands for a caller's credentials while bytes are mangled: most of them would be the token's.
CREDENTIALS = b"Bearer @"
# What was mangled may lack its end: then none will come.
CUT_OFF_S = 0.3


@dataclass(frozen=True)
class Stage:
    """A server with something to find; `headers` and `known` by caller, `operations` of the API."""

    server: Server
    canary: str
    headers: dict[str, dict[str, str]]
    known: dict[str, list[str]]
    hidden: list[str]
    operations: list[tuple[str, str]]
    bodies: list[Any]

    @property
    def callers(self) -> list[str]:
        """Who sends requests; the owner of what is hidden does not."""
        return list(self.headers)


@dataclass
class Case:
    """One request, who sends it, and how long to wait for an answer before saying that no more will come."""

    caller: str
    request: bytes
    patience_s: float = WAIT_S


def run(report: Report, *, quick: bool, seed: int) -> None:
    """The corpus, then requests mutated in their parts, then in their bytes; then the log is read."""
    count = 3000 if quick else 60_000
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder, _stage(Path(folder)) as stage:
        kept = sorted(CORPUS.glob("*.http"))
        report.attempt(
            "fuzz",
            f"{len(kept)} requests of the corpus",
            lambda: _send(stage, [_kept(stage, file.read_bytes()) for file in kept]),
        )
        drawn = _drawn(stage, count, random.Random(seed))
        report.attempt("fuzz", f"{count:,} requests, operations by callers", lambda: _send(stage, drawn))
        bytes_ = _mangled(stage, count, random.Random(seed + 1))
        report.attempt("fuzz", f"{count:,} requests with their bytes mangled", lambda: _send(stage, bytes_))
        report.attempt("fuzz", "nothing secret in the log", lambda: _log(stage))


def _kept(stage: Stage, request: bytes) -> Case:
    clear = stage.headers["newsroom"]["Authorization"].encode()
    return Case("newsroom", request.replace(CREDENTIALS, clear), CUT_OFF_S)


def _send(stage: Stage, cases: list[Case]) -> str:
    return asyncio.run(_send_all(stage, cases))


async def _send_all(stage: Stage, cases: list[Case]) -> str:
    wire, seen, waiting = Wire(stage.server.url), Counter[str](), iter(cases)

    async def sender() -> None:
        for case in waiting:
            try:
                answer = await wire.exchange(case.request, case.patience_s)
            except TimeoutError:
                raise Broken(f"no answer to {_keep(stage, case)}") from None
            seen[_judge(stage, case, answer)] += 1

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(seen.items())) or "none"


def _judge(stage: Stage, case: Case, answer: bytes) -> str:
    statuses = statuses_of(answer)
    for status in statuses:
        if status >= 500 and status not in ALLOWED:
            raise Broken(f"{status} for {_keep(stage, case)}")
    if b"Traceback" in answer:
        raise Broken(f"a traceback for {_keep(stage, case)}")
    if stage.canary.encode() in answer and case.caller != "admin":
        raise Broken(f"what is hidden was told to {case.caller} by {_keep(stage, case)}")
    return str(statuses[0]) if statuses else "closed"


def _keep(stage: Stage, case: Case) -> str:
    """Keep a request that broke something, without its credentials; where."""
    file = CORPUS / f"{secrets.token_hex(4)}.http"
    clear = stage.headers[case.caller].get("Authorization", "-").encode()
    file.write_bytes(case.request.replace(clear, CREDENTIALS))
    return f"{file.name} of {case.caller}"


def _log(stage: Stage) -> str:
    text = (stage.server.folder / "server.log").read_text(errors="replace")
    if "Traceback" in text:
        raise Broken("a traceback: " + text[text.index("Traceback") :][:2000])
    clear = [value.split(" ", 1)[1] for headers in stage.headers.values() for value in headers.values()]
    secret_texts = [*clear, *(base64.b64decode(text).decode() for text in clear if len(text) < 60)]
    for secret in [*secret_texts, stage.canary, "X-Amz-Signature", "access_token="]:
        if secret in text:
            raise Broken(f"the log holds {secret[:20]}...")
    return f"{text.count(chr(10)):,} lines, no secret, no traceback"


def _drawn(stage: Stage, count: int, random_: random.Random) -> list[Case]:
    """Each operation by each caller in turn, with parts drawn by lot."""
    pairs = [(operation, caller) for operation in stage.operations for caller in stage.callers]
    return [_case(stage, *pairs[number % len(pairs)], random_) for number in range(count)]


def _case(stage: Stage, operation: tuple[str, str], caller: str, random_: random.Random) -> Case:
    method, template = operation
    ids = stage.known[caller] + ([] if caller == "admin" else stage.hidden)
    # There has to be something left for the others.
    known = 0.7 if method != "DELETE" else 0.02
    target = "".join("/" + _piece(piece, ids, known, random_) for piece in template.split("/")[1:])
    if random_.random() < 0.4:
        pairs = [(random_.choice(QUERIES), random_.choice(TEXTS)) for _ in range(random_.randint(1, 3))]
        target += "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    body = None
    if method in ("PUT", "POST"):
        body = text_of(changed(random_.choice([*stage.bodies, random_.choice(VALUES)]), random_), random_)
    return Case(caller, request_of(method, target, stage.headers[caller], body))


def _piece(piece: str, ids: list[str], known: float, random_: random.Random) -> str:
    if not piece.startswith("{"):
        return piece
    if random_.random() < known:
        return random_.choice(ids)
    return random_.choice([*ODD, str(uuid4())])


def _mangled(stage: Stage, count: int, random_: random.Random) -> list[Case]:
    # A byte more or less may make of anyone's request another's of the same rights, never of more.
    callers = [caller for caller in stage.callers if caller != "admin"]
    cases = []
    for _ in range(count):
        case = _case(stage, random_.choice(stage.operations), random_.choice(callers), random_)
        clear = stage.headers[case.caller].get("Authorization", "-").encode()
        request = mangled(case.request.replace(clear, CREDENTIALS), random_)
        cases.append(Case(case.caller, request.replace(CREDENTIALS, clear), CUT_OFF_S))
    return cases


@contextmanager
def _stage(folder: Path) -> Iterator[Stage]:
    settings = {"TAMS_ALLOW_BASIC": "true", "TAMS_ALLOW_URL_TOKEN": "true"}
    server = Server(folder, settings)
    server.start()
    try:
        with server.client("newsroom") as news, server.client("sportdesk") as sport:
            canary = "canary" + secrets.token_hex(8)
            mine, bodies = _furnish(news, "news", "open")
            hidden, _ = _furnish(sport, "sport", canary)
        tokens = {name: token(server.url, server.data, name) for name in ("newsroom", "admin")}
        headers = {name: {"Authorization": f"Bearer {value}"} for name, value in tokens.items()}
        basic = base64.b64encode(b"newsroom:not the " + secrets.token_hex(8).encode()).decode()
        headers |= {"nobody": {}, "stranger": {"Authorization": f"Basic {basic}"}}
        document = httpx.get(f"{server.url}/openapi.json", timeout=60).json()
        operations = [
            (method.upper(), template)
            for template, item in document["paths"].items()
            for method in item
            if method in ("get", "head", "put", "post", "delete")
        ]
        # The administrator sees what is hidden; its answers are searched for other faults with other ids.
        yield Stage(server, canary, headers, dict.fromkeys(headers, mine), hidden, operations, bodies)
    finally:
        server.stop()


def _furnish(client: Client, class_: str, word: str) -> tuple[list[str], list[Any]]:
    """Flows with a segment, named by a word: the ids of all there is, and bodies that made them."""
    programme = Programme.new(word, 0)
    flows = programme.flows([class_])
    for body in flows:
        body["description"] = body["tags"]["word"] = word
        client.expect(201, "PUT", path("flows", body["id"]), body)
    (place,) = allocate(client, programme, 1)
    client.upload(place, word.encode(), len(word))
    segment = programme.segment(0, place["object_id"])
    client.expect(201, "POST", path("flows", programme.multi.flow_id, "segments"), segment)
    ids = [body[name] for body in flows for name in ("id", "source_id")] + [place["object_id"]]
    webhook = {
        "url": "http://127.0.0.1:9/x",
        "events": ["flows/created"],
        "api_key_name": "X",
        "api_key_value": "y",
    }
    others = [
        segment,
        webhook,
        {"limit": 1},
        {"label": word},
        "text",
        1,
        ["news"],
        {"object_ids": ["a"]},
        True,
    ]
    return [*(quote(id_, safe="") for id_ in ids), "auth_classes"], [*flows, *others]
