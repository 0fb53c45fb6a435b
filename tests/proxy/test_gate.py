"""The gate by itself, before an upstream that answers what a test says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from proxy.audit import Decision
from proxy.decide import Caller
from proxy.errors import BadUpstream, Error, Forbidden, InsufficientScope, NotFound, NotSupported, Unavailable
from proxy.gate import NO_PATH, Call, Gate, Sight
from proxy.identity.principal import ADMIN, READ, WRITE, Principal
from proxy.sights import sight_of
from proxy.upstream.protocol import BackendFact, Known, MediaFact, Ref, Request, Response, View
from tests.proxy.values import Facts, caller, classes, known, rule


@dataclass
class Found:
    """What deciding about an answer needs."""

    classes: frozenset[str] | None = None
    related: dict[str, frozenset[str]] = field(default_factory=dict)
    readable: bool = False


@dataclass
class Answer:
    """An answer of the upstream."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b"{}"
    facts: Found | None = None


class Scripted:
    """An upstream with its answers in order; the last one stays."""

    def __init__(self, *answers: Answer, facts: Facts | None = None) -> None:
        self.answers = list(answers)
        self.facts = facts or known()
        self.asked: list[Request] = []
        self.without: dict[str, str] = {}

    async def call(self, request: Request) -> Response:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        return self.facts

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        return None

    async def backends(self) -> Sequence[BackendFact]:
        return ()

    async def lacks(self, operation: str) -> str | None:
        return self.without.get(operation)


class Fixed:
    """One caller, whoever asks; counts how often it had to be looked at afresh."""

    def __init__(self, who: Caller) -> None:
        self.who = who
        self.fresh: list[bool] = []

    async def sight(self, principal: Principal, *, fresh: bool = False) -> Sight:
        self.fresh.append(fresh)
        return sight_of(self.who)

    async def permissions(self, principal: Principal, *, fresh: bool = False) -> Any:
        return self.who.permissions

    async def denying(self) -> frozenset[str]:
        return frozenset()


SOMEBODY = Principal("idp", "s", None, frozenset(), frozenset((READ, WRITE, ADMIN)), False, 2**40)


async def passed(
    operation: str, method: str, who: Caller, upstream: Scripted, body: bytes = b"", **params: str
) -> Response:
    async def whole() -> bytes:
        return body

    sights = Fixed(who)
    gate = Gate(sights, sights, upstream, orjson.loads, lambda: "now")
    decision = Decision("id", method, "/", 0.0)
    call = Call(method, "/", rule(operation), params, [], whole, decision)
    return await gate.pass_through(call, SOMEBODY)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_scope_of_administrators_does_not_make_one(method: str) -> None:
    """Of an issuer that is not said to make administrators: what is theirs is not there for others."""
    upstream = Scripted(Answer(facts=Found()))
    with pytest.raises(NotFound) as raised:
        await passed("GET_flow-delete-requests", method, caller("a", "a", "a", creator=True), upstream)
    assert raised.value.summary == NO_PATH
    with pytest.raises(Forbidden):
        await passed("POST_service", "POST", caller("a", "a", "a", creator=True), upstream)
    assert upstream.asked == []
    with pytest.raises(NotFound):
        hidden = Scripted(Answer(facts=Found(classes("v"))))
        await passed("GET_flows-flowId", method, caller("a"), hidden, flowId="f")
    answer = await passed("GET_flow-delete-requests", method, caller(admin=True), upstream)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("operation", "params"),
    [("GET_flows-flowId", {"flowId": "f"}), ("GET_flows", {}), ("GET_root", {}), ("GET_service", {})],
)
async def test_an_answer_without_facts_does_not_go_out(operation: str, params: dict[str, str]) -> None:
    for who in (caller("a"), caller(admin=True)):
        with pytest.raises(BadUpstream):
            await passed(operation, "GET", who, Scripted(Answer()), **params)


async def test_refusals_of_the_store_go_out_and_absence_is_said_as_hiding_is() -> None:
    refused = Scripted(Answer(400, body=b"its own words"))
    assert (await passed("GET_flows", "GET", caller("a"), refused)).body == b"its own words"
    words = set()
    for answer in (Answer(404, body=b"its own words"), Answer(facts=Found(classes("v")))):
        with pytest.raises(NotFound) as raised:
            await passed("GET_flows-flowId", "GET", caller("a"), Scripted(answer), flowId="f")
        words.add(raised.value.summary)
    assert len(words) == 1
    down = Scripted(Answer(503))
    assert (await passed("GET_flows-flowId", "GET", caller("a"), down, flowId="f")).status == 503


async def test_an_administrator_is_told_nothing_of_what_is_absent_but_segments() -> None:
    absent = Scripted(Answer(body=b"[]", facts=Found(None)))
    who = caller(admin=True)
    answer = await passed("GET_flows-flowId-segments", "GET", who, absent, flowId="f")
    assert answer.body == b"[]"
    for operation in ("GET_flows-flowId", "GET_flows-flowId-tags"):
        with pytest.raises(NotFound):
            await passed(operation, "GET", who, absent, flowId="f")
    with pytest.raises(NotFound):
        await passed("GET_flows-flowId-segments", "GET", caller("a"), absent, flowId="f")


@pytest.mark.parametrize(
    ("operation", "held", "readable", "error"),
    [
        ("GET_profiles-profileId", "", False, None),
        ("GET_profiles-profileId", "v", False, NotFound),
        ("GET_profiles-profileId", "a", False, None),
        ("GET_flows-flowId", "", False, NotFound),
        ("GET_objects", "", True, None),
        ("GET_objects", "a", False, NotFound),
        ("GET_webhooks-webhookId", "w", False, Forbidden),
    ],
)
async def test_reads_are_decided_on_the_facts_of_the_answer(
    operation: str, held: str, readable: bool, error: type[Error] | None
) -> None:
    body = b'{"referenced_by_flows":[]}'
    upstream = Scripted(Answer(body=body, facts=Found(classes(held), {}, readable)))
    param = rule(operation).param
    if error is None:
        await passed(operation, "GET", caller("a", "w"), upstream, **{param: "i"})
    else:
        with pytest.raises(error):
            await passed(operation, "GET", caller("a", "w"), upstream, **{param: "i"})


async def test_a_write_is_decided_afresh_while_what_it_rests_on_changes() -> None:
    facts = known({"flow/f": "a"})
    upstream = Scripted(Answer(409), Answer(409), Answer(204), facts=facts)
    answer = await passed("PUT_flows-flowId-label", "PUT", caller(write="a"), upstream, b'"x"', flowId="f")
    assert answer.status == 204
    assert [request.body for request in upstream.asked] == [b'"x"'] * 3
    assert all(r.expect and r.expect.classes == {("flow", "f"): {"a"}} for r in upstream.asked)
    restless = Scripted(Answer(409), facts=facts)
    with pytest.raises(Unavailable) as raised:
        await passed("PUT_flows-flowId-label", "PUT", caller(write="a"), restless, b'"x"', flowId="f")
    assert raised.value.retry_after_s == 1
    assert len(restless.asked) == 3


async def test_what_the_store_lacks_is_said_alike_whatever_a_write_names() -> None:
    """Before it is decided: how far deciding came would tell of hidden things."""
    upstream = Scripted(Answer(201))
    upstream.without["POST_objects-instances"] = "It lacks that."
    for who in (caller(), caller("a", "a"), caller(admin=True)):
        with pytest.raises(NotSupported) as raised:
            await passed("POST_objects-instances", "POST", who, upstream, b"{", objectId="o")
        assert raised.value.summary == "It lacks that."
    assert upstream.asked == []


async def test_a_scope_is_asked_for_that_is_least() -> None:
    nobody = Principal("idp", "s", None, frozenset(), frozenset(), False, 2**40)
    sights = Fixed(caller(admin=True))
    upstream = Scripted(Answer(facts=Found()))
    gate = Gate(sights, sights, upstream, orjson.loads, lambda: "now")

    async def body() -> bytes:
        raise AssertionError("the body of a refused request is not read")

    for operation, scope in (
        ("GET_flows", READ),
        ("PUT_flows-flowId", WRITE),
        ("POST_service", ADMIN),
        ("DELETE_flows-flowId", "tams-api/delete"),
    ):
        method = operation.partition("_")[0]
        call = Call(method, "/", rule(operation), {}, [], body, Decision("id", method, "/", 0.0))
        with pytest.raises(InsufficientScope) as raised:
            await gate.pass_through(call, nobody)
        assert raised.value.scope == scope
    assert sights.fresh == [] and upstream.asked == []
