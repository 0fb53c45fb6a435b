"""The table once more, before a plain upstream that breaks off every answer once."""

from __future__ import annotations

import pytest

from tests.upstream.before_plain import FLAKY
from tests.upstream.over_http import copied

found = copied("authorization/test_table", FLAKY)
globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
pytestmark = [found.pytestmark, pytest.mark.slow]
