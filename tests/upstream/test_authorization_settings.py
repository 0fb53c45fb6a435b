"""Classes that go on to others, and what settings change, with the store behind HTTP."""

from __future__ import annotations

from tests.upstream.over_http import OVER_HTTP, copied

for name in ("propagation", "settings"):
    found = copied(f"authorization/test_{name}", OVER_HTTP)
    globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
