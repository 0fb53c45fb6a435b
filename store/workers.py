"""Several processes that serve one port: who starts them, watches them, and ends with them."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from uvicorn.config import STARTUP_FAILURE

from store.serving import StopSettings

SLACK_S = 5.0
LONGEST_WAIT_S = 30.0
STEADY_S = 60.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """One of several processes. `folder`: where they find one another. `parent`: a descriptor that is at its
    end when the parent is no more."""

    number: int
    folder: Path
    parent: int


@dataclass(slots=True)
class _Seat:
    """A place for a process, whether there is one in it or not."""

    number: int
    pid: int | None = None
    began_s: float = 0.0
    due_s: float = 0.0
    wait_s: float = 0.0


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to all addresses of a host, for several processes to accept from. Raises `OSError`."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound = stack.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(address)
            bound.setblocking(False)
            sockets.append(bound)
        stack.pop_all()
    return sockets


class Workers:
    """`count` processes that run `work`, which returns an exit status. One that dies is replaced; one that
    could not start at all ends them all.

    SIGHUP goes on to all of them, SIGTERM and SIGINT stop them as `stop` says. Call `run` before there are
    threads or an event loop.
    """

    def __init__(self, count: int, stop: StopSettings, work: Callable[[Member], int]) -> None:
        self._seats = [_Seat(number) for number in range(count)]
        self._longest_stop_s = stop.drain_s + stop.grace_s + SLACK_S
        self._work = work
        self._stopping_s: float | None = None
        self._status = 0
        self._alive = (-1, -1)
        self._folder = Path()

    def run(self) -> int:
        """Serve until stopped. Returns the exit status."""
        self._folder = Path(tempfile.mkdtemp(prefix="tams-"))
        self._alive = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for seat in self._seats:
                self._start(seat)
            while any(seat.pid is not None for seat in self._seats) or self._stopping_s is None:
                self._wake_in_time()
                self._react(signal.sigwait(_SIGNALS))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self._alive[0])
            os.close(self._alive[1])
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._status

    def _start(self, seat: _Seat) -> None:
        # What is buffered now would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            seat.pid, seat.began_s = pid, time.monotonic()
            return
        status = 1
        try:
            os.close(self._alive[1])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(Member(seat.number, self._folder, self._alive[0]))
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 1
        # A fork must not fall into its parent's code, whatever happens; that it did is logged.
        except BaseException:
            _log.exception("worker %d", seat.number)
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _wake_in_time(self) -> None:
        """Have a SIGALRM when something is due."""
        now_s = time.monotonic()
        due = [seat.due_s for seat in self._seats if seat.pid is None and self._stopping_s is None]
        if self._stopping_s is not None:
            due.append(self._stopping_s + self._longest_stop_s)
        wait_s = max(0.001, min(due) - now_s) if due else 0
        signal.setitimer(signal.ITIMER_REAL, wait_s)

    def _react(self, got: int) -> None:
        now_s = time.monotonic()
        if got in (signal.SIGTERM, signal.SIGINT):
            self._stop(now_s)
        elif got == signal.SIGHUP:
            self._tell(signal.SIGHUP)
        elif got == signal.SIGCHLD:
            self._reap(now_s)
        elif self._stopping_s is not None:
            if now_s >= self._stopping_s + self._longest_stop_s:
                self._tell(signal.SIGKILL)
        else:
            for seat in self._seats:
                if seat.pid is None and seat.due_s <= now_s:
                    self._start(seat)

    def _stop(self, now_s: float) -> None:
        self._stopping_s = self._stopping_s or now_s
        self._tell(signal.SIGTERM)

    def _tell(self, what: signal.Signals) -> None:
        for seat in self._seats:
            if seat.pid is not None:
                os.kill(seat.pid, what)

    def _reap(self, now_s: float) -> None:
        """Several deaths may come as one signal."""
        for seat in self._seats:
            if seat.pid is None:
                continue
            pid, status = os.waitpid(seat.pid, os.WNOHANG)
            if pid:
                self._ended(seat, os.waitstatus_to_exitcode(status), now_s)

    def _ended(self, seat: _Seat, status: int, now_s: float) -> None:
        lived_s, seat.pid = now_s - seat.began_s, None
        if self._stopping_s is not None:
            return
        if status == STARTUP_FAILURE:
            self._status = status
            self._stop(now_s)
            return
        seat.wait_s = 0.0 if lived_s >= STEADY_S else min(LONGEST_WAIT_S, max(0.5, seat.wait_s * 2))
        seat.due_s = now_s + seat.wait_s
        how = f"signal {-status}" if status < 0 else f"status {status}"
        _log.error("worker %d ended by %s; it is started again in %.1f s", seat.number, how, seat.wait_s)
