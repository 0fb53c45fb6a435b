"""The stateful model of the rules once more, before the plain upstream of TAMS 7.0."""

from __future__ import annotations

import pytest

from tests.upstream.before_plain import PLAIN
from tests.upstream.over_http import copied

found = copied("authorization/test_stateful", PLAIN)
globals().update({name: value for name, value in vars(found).items() if name.startswith("test_")})
pytestmark = pytest.mark.slow
