"""Registering webhooks and profiles, before the plain upstream of TAMS 7.0."""

from __future__ import annotations

from tests.upstream.before_plain import PLAIN
from tests.upstream.over_http import copied

found = copied("authorization/test_webhooks", PLAIN)
globals().update({name: value for name, value in vars(found).items() if name[:2] != "__"})
