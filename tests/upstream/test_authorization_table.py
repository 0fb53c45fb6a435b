"""Every cell of the table of `tests/authorization/test_table.py`, with the store behind HTTP."""

from __future__ import annotations

from tests.upstream.over_http import copied

globals().update(
    {name: value for name, value in vars(copied("authorization/test_table")).items() if name[:2] != "__"}
)
