"""Classes that go on to others, and what settings change, before the plain upstream of TAMS 7.0."""

from __future__ import annotations

from tests.upstream.before_plain import PLAIN
from tests.upstream.over_http import copied

for name in ("propagation", "settings"):
    found = copied(f"authorization/test_{name}", PLAIN)
    globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
