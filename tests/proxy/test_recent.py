"""The bounded mapping of the request path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.recent import Recent

STEPS = st.lists(st.tuples(st.sampled_from(("put", "get")), st.integers(0, 12)), max_size=80)


@given(most=st.integers(2, 9), steps=STEPS)
def test_it_is_bounded_and_keeps_what_was_used_lately(most: int, steps: list[tuple[str, int]]) -> None:
    kept: Recent[int, int] = Recent(most)
    last: dict[int, int] = {}
    used: list[int] = []
    for value, (step, key) in enumerate(steps):
        if step == "put":
            kept[key] = value
            last[key] = value
        found = kept.get(key)
        assert found is None or found == last[key]
        assert (found is None) <= (key not in used[: most // 2])
        if found is not None:
            used = [key, *(each for each in used if each != key)]
        assert len(kept) <= most


def test_what_is_asked_for_again_and_again_stays_whatever_comes() -> None:
    kept: Recent[int, str] = Recent(10)
    kept[-1] = "mine"
    for key in range(100):
        kept[key] = "other"
        assert kept.get(-1) == "mine"
    assert kept.get(0) is None
