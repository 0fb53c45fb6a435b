"""How torture tells what came of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import TextIO


class Broken(Exception):
    """What must hold did not; says what was seen."""


class Report:
    """One line a fault or attack, as soon as it is known."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self.failed = 0

    def line(self, area: str, what: str, figure: str, *, ok: bool | None = True) -> None:
        """`ok`: whether what must hold held; None where it could not be tried here."""
        verdict = {True: "ok", False: "FAIL", None: "-"}[ok]
        self.failed += ok is False
        print(f"{verdict:<4}  {area:<7}  {what:<52}  {figure}", file=self._out, flush=True)

    def attempt(self, area: str, what: str, trial: Callable[[], str]) -> None:
        """Run a trial that returns its figure; a trial that raises is a line that failed."""
        try:
            self.line(area, what, trial())
        except Broken as exc:
            self.line(area, what, str(exc), ok=False)
        # A trial's own defect must not end the others; it fails, with all that is known of it.
        except Exception:
            self.line(area, what, traceback.format_exc(), ok=False)
