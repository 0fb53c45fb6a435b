"""The stateful model of the rules once more, before a store that is reached over HTTP."""

from __future__ import annotations

from tests.upstream.over_http import copied

found = copied("authorization/test_stateful")
globals().update({name: value for name, value in vars(found).items() if name.startswith("test_")})
