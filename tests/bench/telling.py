"""What telling of a request costs beside answering it, parts of P1: the metrics, and the decision's record.

CPU time of one thread, of decisions as a batch of the journal has them.
"""

from __future__ import annotations

import os
import time

from proxy.audit import Decision
from proxy.decide import Caller
from proxy.figures import Figures
from proxy.policy.protocol import Permissions
from proxy.rules import RULES
from store.logs import lines
from tests.bench.metadata import cpu_us
from tests.bench.seed import identifier
from tests.bench.table import Result

BATCH = 100
NEWS = frozenset(("news",))


def telling() -> list[Result]:
    """Both, for one request."""
    decisions = [_decision() for _ in range(BATCH)]
    figures = Figures()
    with open(os.devnull, "w") as nowhere:
        write = lines("json", nowhere)
        counted = cpu_us(lambda: figures.take(decisions)) / BATCH
        recorded = cpu_us(lambda: write([each.record() for each in decisions])) / BATCH
    return [
        Result("P1", "  of which metrics, to 3 us", counted, 3.0, "us", 1.0, higher=False),
        Result(
            "P1",
            "  of which the audit record, written, to the metrics",
            recorded,
            counted,
            "us",
            None,
            higher=False,
        ),
    ]


def _decision() -> Decision:
    """That a flow was read."""
    permissions = Permissions(NEWS, NEWS, NEWS, NEWS, frozenset(), False, False, "sha256:0")
    made = Decision("0123456789abcdef", "GET", f"/flows/{identifier(0)}", time.time())
    made.rule = RULES["/flows/{flowId}"]["GET"]
    made.principal, made.client, made.peer = "local/newsroom", "newsroom", "127.0.0.1"
    made.caller, made.classes, made.is_known = Caller(permissions), NEWS, True
    made.status, made.calls, made.store_ns, made.ended_ns = 200, 1, 20_000, made.began_ns + 60_000
    return made
