from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import errors
from store.mac import Mac
from store.media.signing import Lifetime, Signer, key_of, token_of

SIGNER = Signer((b"a" * 32,))
NOW_S = 1_800_000_000

texts = st.text(st.characters(codec="utf-8"), max_size=40)
types = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
requests = st.tuples(
    st.sampled_from(["GET", "PUT"]), st.sampled_from(["b1", "b2"]), texts, st.integers(1, 10**11), types
)


@given(texts)
def test_a_token_names_its_key(key: str) -> None:
    assert key_of(token_of(key)) == key
    assert "/" not in token_of(key)
    assert "=" not in token_of(key)


@given(requests, requests)
def test_a_signature_is_good_for_its_own_request_only(
    signed: tuple[str, str, str, int, str | None], asked: tuple[str, str, str, int, str | None]
) -> None:
    method, backend_id, key, expires_s, content_type = signed
    query = SIGNER.signing(method, backend_id, expires_s=expires_s)(key, content_type)
    assert SIGNER.verify(method, backend_id, key, query, now_s=expires_s - 1) == content_type
    if signed[:3] != asked[:3]:
        with pytest.raises(errors.Forbidden):
            SIGNER.verify(asked[0], asked[1], asked[2], query, now_s=0)


@given(texts)
def test_no_query_is_worse_than_forbidden(query: str) -> None:
    with pytest.raises(errors.Forbidden):
        SIGNER.verify("GET", "b1", "k", query, now_s=0)


@pytest.mark.parametrize("content_type", ["video/mp2t\nx", "a\r\nb: c", "ü", ""])
def test_a_type_that_is_no_header_value_is_not_signed(content_type: str) -> None:
    with pytest.raises(errors.BadRequest):
        SIGNER.signing("GET", "b1", expires_s=1)("k", content_type)


def test_the_newest_key_signs_and_the_older_still_verifies() -> None:
    old, new = Signer((b"o" * 32,)), Signer((b"n" * 32,))
    both = Signer((b"n" * 32, b"o" * 32))
    by_old, by_new, by_both = (
        signer.signing("GET", "b", expires_s=NOW_S + 1)("k", None) for signer in (old, new, both)
    )
    assert by_both == by_new
    both.verify("GET", "b", "k", by_old, now_s=NOW_S)
    with pytest.raises(errors.Forbidden):
        new.verify("GET", "b", "k", by_old, now_s=NOW_S)


@pytest.mark.parametrize("keys", [(), (b"short",), (b"a" * 32, b"")])
def test_weak_keys_are_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Signer(keys)


@given(
    st.integers(30, 4000),
    st.integers(0, 4000),
    st.integers(1, 4000),
    st.integers(0, 10**10),
    st.integers(0, 10),
)
def test_a_reading_url_never_has_less_left_than_promised_nor_more_than_configured(
    shortest_s: int, more_s: int, interval_s: int, now_s: int, later_s: int
) -> None:
    lifetime = Lifetime(shortest_s + more_s, shortest_s, interval_s)
    start_s = lifetime.start_s(now_s)
    left_s = start_s + lifetime.longest_s - now_s
    assert shortest_s <= left_s <= lifetime.longest_s
    assert now_s - start_s < interval_s


@pytest.mark.parametrize(("longest_s", "shortest_s", "interval_s"), [(60, 61, 1), (60, 0, 1), (60, 30, 0)])
def test_an_impossible_lifetime_is_refused(longest_s: int, shortest_s: int, interval_s: int) -> None:
    with pytest.raises(ValueError, match="signed URL"):
        Lifetime(longest_s, shortest_s, interval_s)


def test_what_is_prepared_for_signing_is_bounded_and_changes_no_signature() -> None:
    signer = Signer((b"a" * 32,))
    for expires_s in [*range(1, 200), 1]:
        fresh = Signer((b"a" * 32,)).signing("GET", "b", expires_s=expires_s)
        kept = signer.signing("GET", "b", expires_s=expires_s)
        for content_type in ("video/mp2t", None, "video/mp2t", "audio/wav"):
            assert kept("k", content_type) == fresh("k", content_type)
        assert len(signer._prepared) <= 64


def test_keys_are_not_shown() -> None:
    assert "aaaa" not in repr(SIGNER)


@pytest.mark.parametrize("length", [0, 32, 64, 65, 200])
def test_a_mac_of_what_begins_alike_is_an_hmac(length: int) -> None:
    key = bytes(range(256))[:length]
    mac = Mac(key, b"begins alike, ")
    for rest in (b"", b"and ends so", b"or so" * 100):
        assert mac.digest(rest) == hmac.digest(key, b"begins alike, " + rest, "sha256")
