"""What of the proofs written for the store inside does not apply to one elsewhere."""

from __future__ import annotations

import pytest

# Media elsewhere are reached by signed URLs alone; those of the store inside have unsigned paths too.
# `test_http.py` tries again what of the third does apply.
INSIDE_ONLY = ("GET_media", "PUT_media", "test_9_a_new_flow_under_the_id_of_one_that_is_gone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cells about unsigned media paths."""
    dropped = [item for item in items if _is_ours(item) and any(name in item.name for name in INSIDE_ONLY)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _is_ours(item: pytest.Item) -> bool:
    return item.path.name.startswith("test_authorization_") and item.path.parent.name == "upstream"
