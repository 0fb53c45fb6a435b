"""When a delivery is tried again; its signature; sealed secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.events.schedule import NS, Schedule, retry_after_s
from store.events.sealing import Seal, Unreadable
from store.events.signing import delivery_id, headers_of, signature

DAY_S = 86_400
HOOK = "00000000-0000-4000-8000-000000000001"


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_a_bound_and_stay_near_their_mean(attempts: int, chance: float) -> None:
    schedule = Schedule()
    wait, mean = schedule.wait_ns(attempts, chance), schedule.wait_ns(attempts, 0.5)
    assert 0.79 * mean <= wait <= 1.21 * mean
    assert wait <= 1.2 * schedule.longest_s * NS
    assert mean <= schedule.wait_ns(attempts + 1, 0.5)


def test_a_receiver_that_stays_away_is_tried_for_about_three_days() -> None:
    schedule, now, attempts = Schedule(), 0, 1
    while not schedule.is_over(0, now):
        now += schedule.wait_ns(attempts, 0.5)
        attempts += 1
    assert 3 * DAY_S <= now / NS <= 3.5 * DAY_S
    assert 10 <= attempts <= 30


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("-5", 0),
        ("1.5", 0),
        ("9" * 100, DAY_S),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_S),
        ("tomorrow", 0),
        ("Thu, 99 Jan 1970 00:00:10 GMT", 0),
        ("\u0661", 0),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, 60.0) == seconds


def test_signatures_are_those_of_standard_webhooks() -> None:
    """The example of the specification's reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_delivery_carries_its_id_time_signature_and_key() -> None:
    id = delivery_id(HOOK, 7)
    assert id == delivery_id(HOOK, 7) != delivery_id(HOOK, 8)
    headers = headers_of(b"{}", id=id, sent_s=5, key_name="X-Key", secret="s")
    assert headers["webhook-id"] == id
    assert headers["webhook-timestamp"] == "5"
    assert headers["webhook-signature"] == signature("s", id, 5, b"{}")
    assert headers["X-Key"] == "s"
    assert headers["Content-Type"] == "application/json"
    bare = headers_of(b"{}", id=id, sent_s=5, key_name=None, secret=None)
    assert "webhook-signature" not in bare
    only_signed = headers_of(b"{}", id=id, sent_s=5, key_name=None, secret="s")
    assert "s" not in only_signed.values() and "webhook-signature" in only_signed


def test_a_secret_that_only_looks_like_base64_signs_as_text() -> None:
    assert signature("whsec_!", "i", 1, b"") != signature("whsec_", "i", 1, b"")


def test_a_sealed_text_opens_with_any_key_and_for_its_own_purpose_only() -> None:
    old, new = b"o" * 32, b"n" * 32
    before = Seal((old,)).close("secret", "a")
    assert "secret" not in before
    both = Seal((new, old))
    assert both.open(before, "a") == "secret"
    assert not both.is_current(before, "a")
    after = both.close("secret", "a")
    assert both.is_current(after, "a")
    assert after != both.close("secret", "a")
    for seal, text, purpose in (
        (Seal((new,)), before, "a"),
        (both, before, "b"),
        (both, before[:-2], "a"),
        (both, "secret", "a"),
        (both, "v1.", "a"),
        (both, "v1.é", "a"),
        (both, "", "a"),
    ):
        with pytest.raises(Unreadable):
            seal.open(text, purpose)
