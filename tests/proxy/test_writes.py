"""What of each write may go on, and on what that rests: facts in, verdicts out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.asked import Authorised, Spread
from proxy.decide import Caller
from proxy.errors import BadRequest, Error, Forbidden, NotFound
from proxy.writes import authorise
from tests.proxy.values import ADMIN, Backend, Facts, asked, caller, classes, ground, known

A = caller("a", "a", "a", creator=True, defaults="a")
FLOW = {"id": "f", "source_id": "s", "tags": {}}


def put(who: Caller, body: object, facts: Facts, denying: str = "") -> Authorised:
    return authorise(asked("PUT_flows-flowId", body, flowId="f"), ground(who, facts, denying))


def document(found: Authorised) -> Any:
    return orjson.loads(found.body)


def refused(
    error: type[Error], operation: str, who: Caller, facts: Facts, body: object = None, **params: str
) -> str:
    """The words of a refusal."""
    params = {"flowId": "f", **params} if "flows-flowId" in operation else params
    with pytest.raises(error) as raised:
        authorise(asked(operation, body, **params), ground(who, facts, "x"))
    return raised.value.summary


SIMPLE = [
    # operation, parameter, kind, needs
    ("PUT_flows-flowId-label", "flowId", "flow", "write"),
    ("DELETE_flows-flowId-label", "flowId", "flow", "write"),
    ("PUT_flows-flowId-read-only", "flowId", "flow", "write"),
    ("DELETE_flows-flowId", "flowId", "flow", "delete"),
    ("DELETE_flows-flowId-segments", "flowId", "flow", "delete"),
    ("PUT_sources-sourceId-description", "sourceId", "source", "write"),
    ("DELETE_webhooks-webhookId", "webhookId", "webhook", "delete"),
]


@pytest.mark.parametrize(("operation", "param", "kind", "needs"), SIMPLE)
def test_a_simple_write_needs_one_permission_and_rests_on_the_classes(
    operation: str, param: str, kind: str, needs: str
) -> None:
    facts = known({f"{kind}/i": "a"})
    found = authorise(asked(operation, **{param: "i"}), ground(caller(**{needs: "a"}), facts))
    assert found.expect.classes == {(kind, "i"): {"a"}}
    assert (found.body, found.refused, found.spreads) == (b"", {}, ())
    for other in {"read", "write", "delete"} - {needs}:
        assert kind in refused(Forbidden, operation, caller(**{other: "a"}), facts, **{param: "i"})
    hidden = refused(NotFound, operation, caller("b", "b", "b"), facts, **{param: "i"})
    assert hidden == refused(NotFound, operation, A, known(), **{param: "i"})


def test_the_service_is_changed_by_administrators() -> None:
    found = authorise(asked("POST_service", {}), ground(ADMIN, known()))
    assert (found.body, found.expect.classes) == (b"{}", {})
    refused(Forbidden, "POST_service", A, known(), {})


# Tags


def tag(who: Caller, value: object, held: str, name: str = "auth_classes", method: str = "PUT") -> Authorised:
    call = asked(f"{method}_flows-flowId-tags-name", value, flowId="f", name=name)
    return authorise(call, ground(who, known({"flow/f": held}), "x"))


def test_other_tags_are_written_by_writers() -> None:
    found = tag(caller(write="a"), 5, "a", "colour")
    assert (found.body, found.expect.classes, found.spreads) == (b"5", {("flow", "f"): {"a"}}, ())


def test_classes_are_changed_by_the_rules_for_them() -> None:
    found = tag(caller(write="a b"), ["b"], "a")
    assert found.expect.classes == {("flow", "f"): {"a"}}
    assert found.spreads == (Spread(("flow", "f"), classes("b"), classes("a"), below=True),)
    assert tag(caller(write="a"), "a", "a").spreads == ()
    with pytest.raises(Forbidden):
        tag(caller(write="a"), ["a", "b"], "a")
    with pytest.raises(BadRequest):
        tag(caller(write="a"), 5, "a")
    with pytest.raises(BadRequest):
        tag(caller(write="a"), BadRequest("no JSON"), "a")
    with pytest.raises(Forbidden):
        tag(caller(write="a x"), ["a"], "a x")


def test_the_tag_of_classes_is_removed_by_administrators_whatever_the_body_says() -> None:
    with pytest.raises(Forbidden):
        tag(caller(write="a"), ["a"], "a", method="DELETE")
    found = tag(ADMIN, None, "a", method="DELETE")
    assert found.spreads == (Spread(("flow", "f"), classes(""), classes("a"), below=True),)


# Flows that exist


PRESENT = {"flow/f": "a", "source/s": "z"}
THERE: dict[str, Any] = {"source_ids": {"f": "s"}}


def test_a_put_keeps_the_classes_it_does_not_name() -> None:
    found = put(caller(write="a"), FLOW, known(PRESENT, **THERE))
    assert document(found) == {**FLOW, "tags": {"auth_classes": ["a"]}}
    assert found.expect.classes == {("flow", "f"): {"a"}}
    assert found.expect.members == {"f": ()}
    assert found.spreads == ()
    untagged = put(ADMIN, FLOW, known({"flow/f": ""}, **THERE))
    assert document(untagged) == FLOW


def test_a_put_that_names_classes_changes_them() -> None:
    body = {**FLOW, "tags": {"auth_classes": "b", "colour": "red"}}
    found = put(caller(write="a b"), body, known(PRESENT, **THERE))
    assert document(found) == body
    assert found.spreads == (Spread(("flow", "f"), classes("b"), classes("a"), below=True),)
    for who, given, denying in (
        (caller(write="a"), ["a", "b"], ""),
        (caller(write="a"), [], ""),
        (caller(write="a b"), ["b"], "a"),
    ):
        with pytest.raises(Forbidden):
            put(who, {**FLOW, "tags": {"auth_classes": given}}, known(PRESENT, **THERE), denying)


@pytest.mark.parametrize(
    "body", [[], None, "x", {**FLOW, "tags": None}, {**FLOW, "tags": {"auth_classes": [1]}}]
)
def test_a_put_of_what_is_no_flow_is_refused_to_its_writers_only(body: object) -> None:
    facts = known(PRESENT, **THERE)
    refused(BadRequest, "PUT_flows-flowId", caller(write="a"), facts, body)
    refused(Forbidden, "PUT_flows-flowId", caller(read="a"), facts, body)
    refused(NotFound, "PUT_flows-flowId", caller(write="b"), facts, body)
    refused(BadRequest, "PUT_flows-flowId", caller(write="a"), facts, BadRequest("no JSON"))


def test_a_flow_stays_at_its_source_whoever_that_is_for() -> None:
    found = put(caller(write="a"), FLOW, known({"flow/f": "a", "source/s": "v"}, **THERE))
    assert ("source", "s") not in found.expect.classes


def test_a_flow_moves_to_a_source_that_its_writer_writes() -> None:
    moved = {**FLOW, "source_id": "t"}
    facts = known({"flow/f": "a", "source/t": "b"}, **THERE)
    found = put(caller(write="a b"), moved, facts)
    assert found.expect.classes == {("flow", "f"): {"a"}, ("source", "t"): {"b"}}
    assert found.spreads == (Spread(("flow", "f"), classes("b")),)
    assert "source" in refused(Forbidden, "PUT_flows-flowId", caller(read="b", write="a"), facts, moved)
    assert "source" in refused(NotFound, "PUT_flows-flowId", caller(write="a"), facts, moved)


def test_a_flow_moves_to_a_new_source_of_its_creator() -> None:
    moved = {**FLOW, "source_id": "t"}
    found = put(A, moved, known(PRESENT, **THERE))
    assert found.expect.classes == {("flow", "f"): {"a"}, ("source", "t"): None}
    assert found.spreads == ()
    refused(Forbidden, "PUT_flows-flowId", caller(write="a"), known(PRESENT, **THERE), moved)
    for source in (None, 5, ["s"]):
        refused(BadRequest, "PUT_flows-flowId", A, known(PRESENT, **THERE), {**FLOW, "source_id": source})


def test_a_link_to_a_profile_is_checked_when_it_is_new() -> None:
    linked = {**FLOW, "profile_id": "p"}
    there = {"flow/f": "a", "profile/p": "v"}
    kept = put(caller(write="a"), linked, known(there, profile_ids={"f": "p"}, **THERE))
    assert ("profile", "p") not in kept.expect.classes
    for held, who, works in (
        ("v", caller(write="a"), False),
        ("v", caller(write="a v"), False),
        ("v", caller("v", "a"), True),
        ("", caller(write="a"), True),
        ("v", ADMIN, True),
    ):
        facts = known({"flow/f": "a", "profile/p": held}, **THERE)
        if works:
            assert put(who, linked, facts).expect.classes["profile", "p"] == classes(held)
        else:
            hidden = refused(BadRequest, "PUT_flows-flowId", who, facts, linked)
            absent = known({"flow/f": "a"}, **THERE)
            assert hidden == refused(BadRequest, "PUT_flows-flowId", who, absent, linked)
    for nothing in ("", 5, None):
        put(caller(write="a"), {**FLOW, "profile_id": nothing}, known({"flow/f": "a"}, **THERE))


# New flows


def test_a_new_flow_makes_its_source_and_gets_classes() -> None:
    found = put(A, FLOW, known())
    assert document(found) == {**FLOW, "tags": {"auth_classes": ["a"]}}
    assert found.expect.classes == {("flow", "f"): None, ("source", "s"): None}
    assert found.expect.members == {"f": ()}
    given = {**FLOW, "tags": {"auth_classes": ["b", "a"]}}
    assert document(put(caller(write="a b", creator=True), given, known()))["tags"] == {
        "auth_classes": ["a", "b"]
    }
    assert document(put(ADMIN, FLOW, known())) == FLOW
    refused(Forbidden, "PUT_flows-flowId", caller(write="a", creator=True), known(), FLOW)
    refused(Forbidden, "PUT_flows-flowId", caller(write="a"), known(), given)
    refused(BadRequest, "PUT_flows-flowId", A, known(), [])


def test_a_new_flow_on_a_source_needs_write_there() -> None:
    facts = known({"source/s": "b"})
    found = put(caller(write="a b", defaults="a"), FLOW, facts)
    assert found.expect.classes == {("flow", "f"): None, ("source", "s"): {"b"}}
    assert found.spreads == (Spread(("flow", "f"), classes("b")),)
    refused(NotFound, "PUT_flows-flowId", A, facts, FLOW)
    refused(Forbidden, "PUT_flows-flowId", caller(read="b", creator=True, defaults="a"), facts, FLOW)


def test_a_new_flow_with_a_profile_rests_on_it() -> None:
    found = put(A, {**FLOW, "profile_id": "p"}, known({"profile/p": "a"}))
    assert found.expect.classes["profile", "p"] == {"a"}
    refused(BadRequest, "PUT_flows-flowId", A, known({"profile/p": "v"}), {**FLOW, "profile_id": "p"})


# Collections


def items(*ids: str) -> list[dict[str, str]]:
    return [{"id": id} for id in ids]


MEMBERS = {"flow/f": "a", "flow/m": "a", "flow/n": "a b", "flow/h": "v"}


def collected(*current: str) -> Facts:
    return known(MEMBERS, collections={"f": items(*current)}, **THERE)


def collect(who: Caller, wanted: object, facts: Facts) -> Authorised:
    return authorise(asked("PUT_flows-flowId-flow-collection", wanted, flowId="f"), ground(who, facts))


def test_members_are_readable_or_as_nonexistent() -> None:
    found = collect(A, items("m", "n"), collected("m"))
    assert document(found) == items("m", "n")
    assert found.expect.classes == {("flow", "f"): {"a"}, ("flow", "m"): {"a"}, ("flow", "n"): {"a", "b"}}
    assert found.expect.members == {"f": ("m",)}
    assert found.spreads == (Spread(("flow", "n"), classes("a")),)
    words = {
        refused(BadRequest, operation, A, collected("h"), body)
        for member in ("h", "absent")
        for operation, body in (
            ("PUT_flows-flowId-flow-collection", items(member)),
            ("PUT_flows-flowId", {**FLOW, "flow_collection": items(member)}),
        )
    }
    assert len(words) == 1
    with pytest.raises(BadRequest):
        collect(A, [5], collected())
    with pytest.raises(BadRequest):
        collect(A, BadRequest("no JSON"), collected())


def test_members_are_seen_by_reading_alone() -> None:
    there = {"flow/f": "a", "flow/read": "r", "flow/written": "w"}
    who = caller("a r", "a w")
    facts = known(there, collections={"f": items("written")}, **THERE)
    assert document(collect(who, items("read"), facts)) == items("written", "read")
    with pytest.raises(BadRequest):
        collect(who, items("written"), facts)


def test_hidden_members_stay_whatever_is_put() -> None:
    for wanted in ([], items("m")):
        found = collect(A, wanted, collected("h", "m"))
        assert document(found) == items("h", *(i["id"] for i in wanted))
        assert found.expect.classes["flow", "h"] == {"v"}
        assert found.expect.members == {"f": ("h", "m")}
    whole = put(A, {**FLOW, "flow_collection": items("m")}, collected("m", "h"))
    assert document(whole)["flow_collection"] == items("m", "h")
    omitted = put(A, FLOW, collected("m", "h"))
    assert document(omitted)["flow_collection"] == items("h")
    assert omitted.expect.members == {"f": ("m", "h")}
    emptied = put(A, {**FLOW, "flow_collection": []}, collected("m"))
    assert "flow_collection" not in document(emptied)
    # A member that is gone is hidden, and must not come back in between.
    gone = collect(A, [], collected("gone"))
    assert document(gone) == items("gone")
    assert gone.expect.classes["flow", "gone"] is None


def test_a_new_member_of_a_put_follows_the_classes_of_the_flow() -> None:
    body = {**FLOW, "tags": {"auth_classes": ["a", "b"]}, "flow_collection": items("m", "n")}
    found = put(caller("a b", "a b"), body, collected("m"))
    assert found.spreads == (
        Spread(("flow", "f"), classes("b"), below=True),
        Spread(("flow", "n"), classes("a b")),
    )


def test_a_collection_with_hidden_members_is_not_deleted() -> None:
    call = asked("DELETE_flows-flowId-flow-collection", flowId="f")
    found = authorise(call, ground(A, collected("m")))
    assert (found.body, found.expect.members, found.spreads) == (b"", {"f": ("m",)}, ())
    assert found.expect.classes == {("flow", "f"): {"a"}, ("flow", "m"): {"a"}}
    refused(Forbidden, "DELETE_flows-flowId-flow-collection", A, collected("m", "h"))
    authorise(call, ground(ADMIN, collected("h")))


# Profiles and webhooks


def test_profiles_are_made_by_creators_of_classes_they_may_assign() -> None:
    for who, tags, works in (
        (A, {"auth_classes": ["a"]}, True),
        (A, {}, True),
        (ADMIN, {"auth_classes": ["z"]}, True),
        (A, {"auth_classes": ["v"]}, False),
        (A, {"auth_classes": ["a", "v"]}, False),
        (caller("a", "a", "a"), {}, False),
    ):
        for facts in (known(), known({"profile/p": "v"})):
            body = {"id": "p", "tags": tags}
            if works:
                call = asked("POST_profiles-profileId", body, profileId="p")
                found = authorise(call, ground(who, facts))
                assert (document(found), found.expect.classes) == (body, {})
            else:
                refused(Forbidden, "POST_profiles-profileId", who, facts, body, profileId="p")
    refused(BadRequest, "POST_profiles-profileId", A, known(), [], profileId="p")
    refused(Forbidden, "POST_profiles-profileId", caller(), known(), [], profileId="p")


WATCHED = {"flow_ids": ["f"], "source_ids": ["s"], "flow_collected_by_ids": ["g"]}
SEEN = {"flow/f": "a", "flow/g": "a", "source/s": "a"}


def test_a_new_webhook_watches_what_its_writer_reads() -> None:
    found = authorise(asked("POST_webhooks", WATCHED), ground(A, known(SEEN)))
    assert document(found) == {**WATCHED, "tags": {"auth_classes": ["a"]}}
    for name in SEEN:
        hidden = refused(BadRequest, "POST_webhooks", A, known({**SEEN, name: "v"}), WATCHED)
        absent = {known_: held for known_, held in SEEN.items() if known_ != name}
        assert hidden == refused(BadRequest, "POST_webhooks", A, known(absent), WATCHED)
    assert document(authorise(asked("POST_webhooks", WATCHED), ground(ADMIN, known()))) == WATCHED
    written = caller(write="a", creator=True, defaults="a")
    assert "ids" in refused(BadRequest, "POST_webhooks", written, known(SEEN), WATCHED)
    refused(BadRequest, "POST_webhooks", ADMIN, known(), {"flow_ids": 5})
    refused(BadRequest, "POST_webhooks", A, known(), [])
    refused(Forbidden, "POST_webhooks", caller("a"), known(), {})
    refused(Forbidden, "POST_webhooks", A, known(), {"tags": {"auth_classes": ["v"]}})


def test_a_webhook_is_replaced_by_its_writers_with_the_classes_it_has() -> None:
    def replace(who: Caller, body: object, facts: Facts, denying: str = "") -> Authorised:
        return authorise(asked("PUT_webhooks", body, webhookId="w"), ground(who, facts, denying))

    facts = known({**SEEN, "webhook/w": "a"})
    found = replace(A, WATCHED, facts)
    assert document(found) == {**WATCHED, "tags": {"auth_classes": ["a"]}}
    assert found.expect.classes == {("webhook", "w"): {"a"}}
    kept = {"tags": {"auth_classes": ["a", "b"]}}
    assert document(replace(caller(write="a b"), kept, facts)) == kept
    assert document(replace(ADMIN, {}, known({"webhook/w": ""}))) == {}
    for body, error in (
        ({"tags": {"auth_classes": ["a", "v"]}}, Forbidden),
        ({"tags": {"auth_classes": []}}, Forbidden),
        ({"flow_ids": ["absent"]}, BadRequest),
        ([], BadRequest),
    ):
        with pytest.raises(error):
            replace(A, body, facts)
    with pytest.raises(Forbidden):
        replace(caller(write="a b"), {"tags": {"auth_classes": ["b"]}}, facts, "a")
    with pytest.raises(Forbidden):
        replace(caller("a"), {}, facts)
    with pytest.raises(NotFound):
        replace(caller("v"), {}, facts)


# The default backend is used further in `test_objects.py`.


def test_storage_is_asked_for_by_writers_of_the_flow() -> None:
    call = asked("POST_flows-flowId-storage", None, flowId="f")
    found = authorise(call, ground(caller(write="a"), known({"flow/f": "a"}), "", Backend("b", default=True)))
    assert found.expect.classes == {("flow", "f"): {"a"}}
    refused(Forbidden, "POST_flows-flowId-storage", caller("a"), known({"flow/f": "a"}))
