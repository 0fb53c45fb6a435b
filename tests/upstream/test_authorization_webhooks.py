"""Registering webhooks and profiles, with the store behind HTTP."""

from __future__ import annotations

from tests.upstream.over_http import copied

found = copied("authorization/test_webhooks")
globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
