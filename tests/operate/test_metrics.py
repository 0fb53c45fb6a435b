"""What is told to Prometheus: the right figures, to the right ones, and nobody's secrets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy.audit import Decision
from proxy.figures import DECISION_S, Figures, Histogram
from proxy.rules import RULES
from store.exposition import Exposition, Together, measured, merged
from store.measures import Figure, Measure, Values
from store.workers import Member
from tests.proxy.support import Proxy

CANARY = "canary-7f3e"


def samples(text: bytes | str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels."""
    decoded = text if isinstance(text, str) else text.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(decoded)
        for sample in family.samples
    }


def at(text: bytes | str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


async def told(proxy: Proxy) -> str:
    return (await proxy.made("admin", "GET", "/metrics")).text


async def test_requests_are_counted_by_rule_and_verdict(proxy: Proxy) -> None:
    flow = await proxy.flow(["v"])
    for _ in range(3):
        await proxy.call("attacker", "GET", f"/flows/{flow['id']}")
    await proxy.made("victim", "GET", f"/flows/{flow['id']}")
    await proxy.call(None, "GET", "/flows")
    text = await told(proxy)
    assert at(text, "tams_requests_total", operation="GET_flows-flowId", verdict="deny") == 3
    assert at(text, "tams_requests_total", operation="GET_flows-flowId", verdict="allow") == 1
    assert at(text, "tams_requests_total", operation="none", verdict="deny") == 1
    assert at(text, "tams_request_seconds_count", operation="GET_flows-flowId") == 4
    assert at(text, "tams_responses_total", status="404") == 3


async def test_store_and_decision_are_timed_apart(proxy: Proxy) -> None:
    flow = await proxy.flow(["a"])
    text = await told(proxy)
    before = at(text, "tams_store_seconds_count")
    await proxy.made("attacker", "GET", f"/flows/{flow['id']}")
    after = await told(proxy)
    assert at(after, "tams_store_seconds_count") == before + 1
    assert at(after, "tams_decision_seconds_sum") > at(text, "tams_decision_seconds_sum") > 0


async def test_caches_tell_their_hits(proxy: Proxy) -> None:
    await proxy.made("reader", "GET", "/flows")
    before = await told(proxy)
    for _ in range(5):
        await proxy.made("reader", "GET", "/flows")
    after = await told(proxy)
    for cache in ("credentials", "permissions"):
        assert at(after, "tams_cache_hits_total", cache=cache) >= 5 + at(
            before, "tams_cache_hits_total", cache=cache
        )
        assert at(after, "tams_cache_misses_total", cache=cache) >= 1


async def test_the_policy_in_force_is_told(proxy: Proxy) -> None:
    text = await told(proxy)
    (info,) = [labels for name, labels in samples(text) if name == "tams_policy_info"]
    assert dict(info)["version"]
    assert at(text, "tams_policy_valid") == 1
    assert at(text, "tams_policy_since_timestamp_seconds") > 1.7e9


async def test_webhooks_that_wait_are_told(proxy: Proxy) -> None:
    await proxy.made(
        "admin", "POST", "/service/webhooks", {"url": "https://example.com/x", "events": ["flows/created"]}
    )
    text = await told(proxy)
    assert sum(value for (name, _), value in samples(text).items() if name == "tams_webhooks") == 1
    assert at(text, "tams_webhook_backlog_events") == 0
    assert at(text, "tams_webhook_failing_deliveries") == 0


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("nobody", 403), ("owner", 403), ("grouped", 403), ("admin", 200)]
)
async def test_they_are_for_administrators(proxy: Proxy, who: str | None, status: int) -> None:
    answer = await proxy.call(who, "GET", "/metrics")
    assert answer.status_code == status
    assert (b"tams_requests_total" in answer.content) == (status == 200)


async def test_head_is_get_without_a_body_and_other_methods_are_refused(proxy: Proxy) -> None:
    head = await proxy.call("admin", "HEAD", "/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert (await proxy.call("admin", "POST", "/metrics")).status_code == 405


async def test_what_clients_say_is_in_no_label(proxy: Proxy) -> None:
    for path in (f"/flows/{CANARY}", f"/{CANARY}", f"/flows?tag.x={CANARY}", f"/store/objects/{CANARY}"):
        await proxy.call("admin", "GET", path, headers={"x-request-id": CANARY, "user-agent": CANARY})
    await proxy.call(None, "GET", f"/flows?access_token={CANARY}", headers={"x-api-key": CANARY})
    text = await told(proxy)
    assert CANARY not in text
    assert "admin" not in text


async def test_operations_bound_the_number_of_series(proxy: Proxy) -> None:
    for number in range(50):
        await proxy.call("admin", "GET", f"/nothing/{number}")
        await proxy.call("admin", f"X{number}", "/flows")
    found = [dict(labels) for name, labels in samples(await told(proxy)) if name == "tams_requests_total"]
    operations = {rule.operation for methods in RULES.values() for rule in methods.values()}
    assert {labels["operation"] for labels in found} <= operations | {"none", "GET_metrics", "POST_token"}


def test_a_bucket_takes_its_upper_end() -> None:
    histogram = Histogram((0.001, 0.01))
    for took_ns in (0, 1_000_000, 1_000_001, 10_000_000, 10_000_001, 10**12):
        histogram.add(took_ns)
    assert histogram.buckets() == [("0.001", 2.0), ("0.01", 4.0), ("+Inf", 6.0)]


def test_time_that_went_backwards_counts_as_none() -> None:
    figures = Figures()
    decision = Decision("id", "GET", "/", 0.0)
    decision.ended_ns = decision.began_ns - 5
    figures.take([decision])
    assert figures.deciding.sum_ns == 0
    assert sum(figures.deciding.counts) == 1 and len(figures.deciding.counts) == len(DECISION_S) + 1


def exposition(value: float, *, fails: bool = False) -> Exposition:
    async def read() -> tuple[Values, ...]:
        if fails:
            raise TimeoutError
        return ({("x",): value},)

    figure = Figure("tams_tried_total", "Tried.", ("label",), "counter")
    return Exposition(measured([Measure((figure,), read)]))


async def test_a_source_that_fails_hides_no_other() -> None:
    good, bad = exposition(3), exposition(0, fails=True)
    text = await Exposition([*good._sources, *bad._sources]).text()
    assert at(text, "tams_tried_total", label="x") == 3


async def test_processes_that_serve_together_tell_of_all(tmp_path: Path) -> None:
    members = [Together(Member(number, tmp_path, -1), exposition(number + 1)) for number in range(3)]
    async with members[0].listening(), members[1].listening():
        async with members[2].listening():
            text = await members[0].text()
            assert [at(text, "tams_tried_total", label="x", worker=str(n)) for n in range(3)] == [1, 2, 3]
        text = await members[1].text()
    assert {dict(labels)["worker"] for name, labels in samples(text) if name == "tams_tried_total"} == {
        "0",
        "1",
    }


async def test_a_process_that_is_opened_anew_takes_over_its_place(tmp_path: Path) -> None:
    old, new = (Together(Member(0, tmp_path, -1), exposition(value)) for value in (1, 2))
    other = Together(Member(1, tmp_path, -1), exposition(5))
    async with other.listening(), new.listening():
        async with old.listening():
            pass
        assert not list(tmp_path.glob("0.sock"))
        async with old.listening(), new.listening():
            text = await other.text()
            assert at(text, "tams_tried_total", label="x", worker="0") == 2
        assert [path.name for path in tmp_path.glob("*.sock")] == ["1.sock"]


def test_histograms_of_several_processes_stay_apart() -> None:
    one = b'# TYPE h histogram\nh_bucket{le="+Inf"} 1.0\nh_count 1.0\nh_sum 0.5\n'
    text = merged({"0": one, "1": one})
    assert at(text, "h_count", worker="0") == at(text, "h_count", worker="1") == 1
    families: list[Metric] = list(text_string_to_metric_families(text.decode()))
    assert [family.type for family in families] == ["histogram"]


async def test_counting_is_cheap() -> None:
    """Ratios only: counting a decision costs less than making one."""
    loop = asyncio.get_running_loop()
    figures, rule = Figures(), RULES["/flows/{flowId}"]["GET"]
    best = {"make": 1e9, "count": 1e9}
    for _ in range(20):
        began = loop.time()
        decisions = [Decision("id", "GET", "/flows", 0.0, rule, status=200, calls=1) for _ in range(500)]
        made = loop.time()
        figures.take(decisions)
        best = {"make": min(best["make"], made - began), "count": min(best["count"], loop.time() - made)}
    assert best["count"] < 5 * best["make"]
