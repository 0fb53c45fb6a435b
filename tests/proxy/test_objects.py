"""Writes that name objects and storage backends: facts in, verdicts out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.asked import Asked, Authorised, Limits
from proxy.decide import Caller, Verdict
from proxy.errors import BadRequest, Error, Forbidden, NotFound, Unavailable
from proxy.facts import is_weighty, later_refs, refs_of
from proxy.objects import backend_named, media_verdict
from proxy.rules import Action
from proxy.writes import authorise
from tests.proxy.values import ADMIN, Backend, Facts, Object, asked, caller, classes, ground, known, rule

A = caller("a", "a", "a")
SEEN = Object("media", "g", classes("b"), ("g",))
HIDDEN = Object("media", None, classes(""), ("h",))
OWN = Object("unused", None, classes(""), ("f",))
OTHERS = Object("unused", None, classes(""), ("h",))
ORPHAN = Object("unused", None, classes(""), ())
URLS = [{"url": "https://example.org/", "label": "x"}]
OBJECTS = {"seen": SEEN, "hidden": HIDDEN, "own": OWN, "others": OTHERS, "orphan": ORPHAN, "init": SEEN}


def register(body: object, who: Caller = A, limits: Limits | None = None) -> Authorised:
    facts = known({"flow/f": "a"}, objects=OBJECTS)
    return authorise(asked("POST_flows-flowId-segments", body, limits, flowId="f"), ground(who, facts))


USES = [
    ({"object_id": "seen"}, True),
    ({"object_id": "own"}, True),
    ({"object_id": "hidden"}, False),
    ({"object_id": "others"}, False),
    ({"object_id": "orphan"}, False),
    ({"object_id": "absent"}, False),
    ({"object_id": "absent", "get_urls": URLS}, True),
    ({"object_id": "absent", "get_urls": []}, False),
    ({"object_id": "hidden", "get_urls": URLS}, False),
    ({"object_id": "others", "get_urls": URLS}, False),
    ({"object_id": "own", "init_object_id": "init"}, True),
    ({"object_id": "own", "init_object_id": "own"}, True),
    ({"object_id": "own", "init_object_id": "hidden"}, False),
    ({"object_id": "own", "init_object_id": "others"}, False),
    ({"object_id": "own", "init_object_id": "absent"}, False),
    ({"object_id": "own", "init_object_id": "absent", "get_urls": URLS}, False),
    ({"object_id": "own", "init_object_id": 5}, False),
    ({"object_id": "hidden", "init_object_id": "init"}, False),
]


@pytest.mark.parametrize(("segment", "allowed"), USES)
def test_objects_are_own_or_seen_or_brought(segment: dict[str, Any], allowed: bool) -> None:
    assert (not register(segment).refused) is allowed
    bulk = register([{"object_id": "own"}, segment, {"object_id": "seen"}])
    assert list(bulk.refused) == ([] if allowed else [1])
    if not allowed:
        use, problem = bulk.refused[1]
        assert use.object_id == segment["object_id"] and problem
        assert orjson.loads(bulk.body) == [{"object_id": "own"}, {"object_id": "seen"}]
    assert not register(segment, ADMIN).refused


def test_refusals_differ_for_what_is_no_id_only() -> None:
    words = {register(segment).refused[0][1] for segment, allowed in USES if not allowed}
    assert len(words) == 2


def test_a_registration_rests_on_witnesses_and_on_what_is_unknown() -> None:
    body = [
        {"object_id": "seen"},
        {"object_id": "own", "init_object_id": "init"},
        {"object_id": "new", "get_urls": URLS},
        {"object_id": "new"},
        {"object_id": "hidden"},
        {"object_id": "absent"},
        {"object_id": "hidden", "init_object_id": "init2"},
    ]
    found = register(body)
    assert list(found.refused) == [4, 5, 6]
    assert found.expect.classes == {("flow", "f"): {"a"}, ("flow", "g"): {"b"}}
    assert found.expect.references == {("seen", "g"), ("init", "g")}
    assert found.expect.unknown == {"new"}
    spelt = Asked(rule("POST_flows-flowId-segments"), {"flowId": "f"}, [], b" as spelt", body[:3])
    facts = known({"flow/f": "a"}, objects=OBJECTS)
    assert authorise(spelt, ground(A, facts)).body == b" as spelt"
    assert orjson.loads(register(body[4]).body) == body[4]
    admin = register(body, ADMIN)
    assert (admin.expect.classes, admin.expect.references) == ({("flow", "f"): {"a"}}, frozenset())
    assert orjson.loads(admin.body) == body


@pytest.mark.parametrize("body", [[], "x", [1], {}, BadRequest("no JSON"), [{"object_id": "own"}] * 3])
def test_what_are_no_segments_or_too_many_is_refused(body: object) -> None:
    for who in (A, ADMIN):
        with pytest.raises(BadRequest):
            register(body, who, Limits(segments=2))
    with pytest.raises(Forbidden):
        register(body, caller("a"), Limits(segments=2))
    with pytest.raises(NotFound):
        register(body, caller(), Limits(segments=2))


BACKENDS = (
    Backend("open", "o", default=True),
    Backend("tagged", "t", classes("a")),
    Backend("seen", "s", classes("r")),
    Backend("hidden", "h", classes("v")),
)


def allocate(body: object, who: Caller = A, *backends: Backend) -> Authorised:
    call = asked("POST_flows-flowId-storage", body, flowId="f")
    return authorise(call, ground(who, known({"flow/f": "a"}), "", *(backends or BACKENDS)))


def refusal(error: type[Error], *args: Any) -> str:
    with pytest.raises(error) as raised:
        allocate(*args)
    return raised.value.summary


def test_storage_is_allocated_on_backends_that_may_be_written() -> None:
    reader = caller("a r", "a")
    for body in (None, {}, {"storage_id": "open"}, {"storage_id": "tagged"}, {"storage_id": None}):
        assert allocate(body, reader).expect.classes == {("flow", "f"): {"a"}}
    refusal(Forbidden, {"storage_id": "seen"}, reader)
    absent = refusal(BadRequest, {"storage_id": "absent"}, reader)
    assert refusal(BadRequest, {"storage_id": "hidden"}, reader) == absent
    assert refusal(BadRequest, {"storage_id": 5}, reader) == absent
    allocate({"storage_id": "hidden"}, ADMIN)
    refusal(BadRequest, [], reader)
    refusal(BadRequest, BadRequest("no JSON") and "x", reader)


def test_the_default_backend_is_checked_as_one_that_is_named() -> None:
    hidden = (Backend("h", classes=classes("v"), default=True), Backend("o", default=True), Backend("p"))
    none = (Backend("p"),)
    words = refusal(BadRequest, None, A, *hidden)
    assert words == refusal(BadRequest, None, A, *none)
    assert "default" in words
    assert "default" not in refusal(BadRequest, {"storage_id": "h"}, A, *hidden)
    refusal(Forbidden, None, caller("a v", "a"), *hidden)
    allocate(None, caller("a", "a v"), *hidden)


def instances(who: Caller, method: str, fact: Object | None, body: object = None, **query: str) -> Authorised:
    objects = {} if fact is None else {"o": fact}
    facts = known({"flow/f": "a", "flow/g": "b"}, objects=objects)
    call = asked(f"{method}_objects-instances", body, objectId="o", **query)
    return authorise(call, ground(who, facts, "", *BACKENDS))


def test_instances_are_changed_by_the_writers_of_the_owning_flows() -> None:
    fact = Object("media", None, classes(""), ("f",))
    url = {"url": "https://example.org/", "label": "new"}
    found = instances(A, "POST", fact, url)
    assert found.expect.classes == {("flow", "f"): {"a"}}
    assert found.expect.references == {("o", "f")}
    assert orjson.loads(found.body) == url
    both = Object("media", "g", classes("b"), ("f", "g"))
    assert instances(caller(write="a b"), "POST", both, url).expect.references == {("o", "f"), ("o", "g")}
    for who, about, error in (
        (A, both, Forbidden),
        (caller("a"), fact, Forbidden),
        (caller("v"), fact, NotFound),
        (caller(write="v"), both, Forbidden),
        (A, None, NotFound),
        (A, OWN, NotFound),
        (ADMIN, OWN, NotFound),
        (ADMIN, None, NotFound),
    ):
        with pytest.raises(error):
            instances(who, "POST", about, url)
    with pytest.raises(BadRequest):
        instances(A, "POST", fact, [])
    # The owning flow went between two look-ups.
    with pytest.raises(Unavailable) as raised:
        instances(A, "POST", Object("media", None, classes(""), ("gone",)), url)
    assert raised.value.retry_after_s == 1
    # What was never registered is as absent, whatever became of its flow.
    with pytest.raises(NotFound):
        instances(A, "POST", Object("unused", None, classes(""), ("gone",)), url)


def test_instances_on_a_backend_need_write_there() -> None:
    fact = Object("media", None, classes(""), ("f",))
    who = caller("a r", "a")
    for body, query, error in (
        ({"storage_id": "open"}, {}, None),
        ({"storage_id": "seen"}, {}, Forbidden),
        ({"storage_id": "hidden"}, {}, BadRequest),
        (None, {"query_storage_id": "tagged"}, None),
        (None, {"query_storage_id": "seen"}, Forbidden),
        (None, {"query_storage_id": "hidden"}, BadRequest),
        (None, {"query_label": "t"}, None),
        (None, {"query_label": "s"}, Forbidden),
        (None, {"query_label": "h"}, BadRequest),
        (None, {"query_label": "of no backend"}, None),
        (None, {"query_label": "t", "query_storage_id": "seen"}, Forbidden),
    ):
        method = "DELETE" if body is None else "POST"
        if error is None:
            instances(who, method, fact, body, **query)
        else:
            with pytest.raises(error):
                instances(who, method, fact, body, **query)


def test_unlabelled_backends_are_not_what_a_delete_without_label_means() -> None:
    facts = known({"flow/f": "a"}, objects={"o": Object("media", None, classes(""), ("f",))})
    call = asked("DELETE_objects-instances", objectId="o")
    authorise(call, ground(A, facts, "", Backend("hidden", None, classes("v"))))


MEDIA = [
    # who, action, fact, classes of the flow, classes of the backend, verdict
    (caller("a b"), Action.READ, SEEN, None, "a", Verdict.ALLOW),
    (caller("a b"), Action.READ, SEEN, None, "", Verdict.ALLOW),
    (caller("b", "a"), Action.READ, SEEN, None, "a", Verdict.FORBID),
    (caller("b"), Action.READ, SEEN, None, "v", Verdict.HIDE),
    (caller("a"), Action.READ, HIDDEN, None, "a", Verdict.HIDE),
    (caller("a", "a"), Action.READ, OWN, classes("a"), "a", Verdict.HIDE),
    (caller("a"), Action.READ, None, None, "a", Verdict.HIDE),
    (ADMIN, Action.READ, OWN, None, "v", Verdict.ALLOW),
    (ADMIN, Action.READ, None, None, "", Verdict.HIDE),
    (caller(write="a"), Action.WRITE, OWN, classes("a"), "a", Verdict.ALLOW),
    (caller(write="a"), Action.WRITE, OWN, classes("a"), "", Verdict.ALLOW),
    (caller("r", "a"), Action.WRITE, OWN, classes("a"), "r", Verdict.FORBID),
    (caller(write="a"), Action.WRITE, OWN, classes("a"), "v", Verdict.HIDE),
    (caller("a"), Action.WRITE, OWN, classes("a"), "", Verdict.FORBID),
    (caller("a", "b"), Action.WRITE, OWN, classes("v"), "", Verdict.HIDE),
    (caller(write="a"), Action.WRITE, ORPHAN, None, "", Verdict.HIDE),
    (ADMIN, Action.WRITE, ORPHAN, None, "", Verdict.ALLOW),
]


@pytest.mark.parametrize(("who", "action", "fact", "flow", "backend", "verdict"), MEDIA)
def test_unsigned_media_are_for_those_who_may_use_the_object_and_the_backend(
    who: Caller, action: Action, fact: Object | None, flow: Any, backend: str, verdict: Verdict
) -> None:
    assert media_verdict(who, action, fact, flow, Backend("b", classes=classes(backend))) is verdict


def test_a_backend_is_found_by_its_id() -> None:
    assert backend_named(BACKENDS, "seen") is BACKENDS[2]
    with pytest.raises(NotFound):
        backend_named(BACKENDS, "o")


FACTS: list[tuple[str, dict[str, str], object, list[tuple[str, str]], list[str]]] = [
    ("DELETE_flows-flowId", {"flowId": "f"}, None, [("flow", "f")], []),
    ("PUT_sources-sourceId-label", {"sourceId": "s"}, "x", [("source", "s")], []),
    ("POST_service", {}, {}, [], []),
    ("POST_profiles-profileId", {"profileId": "p"}, {}, [("profile", "p")], []),
    ("POST_objects-instances", {"objectId": "o"}, {}, [], ["o"]),
    (
        "POST_flows-flowId-segments",
        {"flowId": "f"},
        [{"object_id": "o", "init_object_id": "i"}, {"object_id": "o"}, 5, {"object_id": 5}],
        [("flow", "f")],
        ["o", "i"],
    ),
    ("POST_flows-flowId-segments", {"flowId": "f"}, {"object_id": "o"}, [("flow", "f")], ["o"]),
    ("POST_flows-flowId-segments", {"flowId": "f"}, [{"object_id": "o"}] * 5, [("flow", "f")], []),
    ("POST_flows-flowId-segments", {"flowId": "f"}, [{"object_id": "o"}] * 4, [("flow", "f")], ["o"]),
    ("POST_flows-flowId-segments", {"flowId": "f"}, BadRequest("x"), [("flow", "f")], []),
    (
        "PUT_flows-flowId",
        {"flowId": "f"},
        {"source_id": "s", "profile_id": "p", "flow_collection": [{"id": "m"}, 5, {"id": 5}]},
        [("flow", "f"), ("source", "s"), ("profile", "p"), ("flow", "m")],
        [],
    ),
    (
        "PUT_flows-flowId",
        {"flowId": "f"},
        {"source_id": 5, "profile_id": None, "flow_collection": [{"id": "m"}] * 1001},
        [("flow", "f")],
        [],
    ),
    ("PUT_flows-flowId", {"flowId": "f"}, [{"id": "m"}], [("flow", "f")], []),
    (
        "PUT_flows-flowId-flow-collection",
        {"flowId": "f"},
        [{"id": "m"}] * 2,
        [("flow", "f"), ("flow", "m"), ("flow", "m")],
        [],
    ),
    ("PUT_flows-flowId-flow-collection", {"flowId": "f"}, {"id": "m"}, [("flow", "f")], []),
    (
        "POST_webhooks",
        {},
        {"flow_ids": ["f", 5], "source_ids": ["s"], "flow_collected_by_ids": "x"},
        [("flow", "f"), ("source", "s")],
        [],
    ),
    ("POST_webhooks", {}, {"flow_ids": ["f"] * 1001}, [], []),
    ("POST_webhooks", {}, {"flow_ids": ["f"] * 1000}, [("flow", "f")] * 1000, []),
    (
        "PUT_flows-flowId-flow-collection",
        {"flowId": "f"},
        [{"id": "m"}] * 1000,
        [("flow", "f"), *[("flow", "m")] * 1000],
        [],
    ),
    ("POST_webhooks", {}, [], [], []),
    (
        "PUT_webhooks",
        {"webhookId": "w"},
        {"source_collected_by_ids": ["s"]},
        [("webhook", "w"), ("source", "s")],
        [],
    ),
]


@pytest.mark.parametrize(("operation", "params", "body", "refs", "objects"), FACTS)
def test_what_is_looked_up_is_what_decides(
    operation: str, params: dict[str, str], body: object, refs: list[Any], objects: list[str]
) -> None:
    assert refs_of(asked(operation, body, Limits(segments=4), **params)) == (refs, objects)


def test_the_first_facts_tell_what_else_is_needed() -> None:
    def later(operation: str, facts: Facts, **params: str) -> list[Any]:
        return later_refs(asked(operation, None, **params), facts)

    facts = known({"flow/f": "a", "flow/m": "a"}, collections={"f": [{"id": "m"}, {"id": "n"}]})
    for operation in (
        "PUT_flows-flowId",
        "PUT_flows-flowId-flow-collection",
        "DELETE_flows-flowId-flow-collection",
    ):
        assert later(operation, facts, flowId="f") == [("flow", "n")]
        assert later(operation, facts, flowId="m") == []
    assert later("PUT_flows-flowId-label", facts, flowId="f") == []
    owned = known(objects={"o": Object(flow_ids=("g", "h"))})
    assert later("DELETE_objects-instances", owned, objectId="o") == [("flow", "g"), ("flow", "h")]


@pytest.mark.parametrize(
    ("operation", "body", "name", "weighty"),
    [
        ("DELETE_flows-flowId", None, "", True),
        ("POST_service", {}, "", True),
        ("PUT_flows-flowId-tags-name", "x", "auth_classes", True),
        ("DELETE_flows-flowId-tags-name", None, "auth_classes", True),
        ("PUT_flows-flowId-tags-name", "x", "colour", False),
        ("PUT_flows-flowId", {"tags": {"auth_classes": ["a"]}}, "", True),
        ("PUT_flows-flowId", {"tags": {"colour": "red"}}, "", False),
        ("PUT_flows-flowId", {"tags": None}, "", False),
        ("PUT_flows-flowId", [], "", False),
        ("PUT_flows-flowId-label", {"tags": {"auth_classes": ["a"]}}, "", False),
        ("POST_webhooks", {"tags": {"auth_classes": ["a"]}}, "", True),
        ("PUT_webhooks", {"tags": {"auth_classes": ["a"]}}, "", True),
        ("POST_profiles-profileId", {"tags": {"auth_classes": ["a"]}}, "", True),
        ("POST_flows-flowId-segments", {}, "", False),
    ],
)
def test_deletions_and_changes_of_classes_ask_for_fresh_permissions(
    operation: str, body: object, name: str, weighty: bool
) -> None:
    params = {rule(operation).param: "i", "name": name}
    assert is_weighty(asked(operation, body, **params)) is weighty


def test_a_parameter_that_is_there_twice_is_refused() -> None:
    call = asked("DELETE_objects-instances", None, objectId="o", query_label="x")
    assert (call.said("label"), call.said("storage_id")) == ("x", None)
    call.query.append(("label", "y"))  # type: ignore[attr-defined]
    with pytest.raises(BadRequest):
        call.said("label")
