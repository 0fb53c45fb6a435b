"""The table once more, before a plain upstream of TAMS 6.0."""

from __future__ import annotations

import pytest

from tests.upstream.before_plain import SIX
from tests.upstream.over_http import copied

found = copied("authorization/test_table", SIX)
globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
pytestmark = [found.pytestmark, pytest.mark.slow]
