"""Transactions on a VAST cluster: whole or not at all, once, and answered in time, whatever fails."""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import vastdb.errors

from store import errors
from store.metadata.vast_api import Transient, VastConfig, VastSession, connect
from store.metadata.vast_predicates import equal
from store.metadata.vast_tables import Table
from store.metadata.vast_tx import Stamps, Tx
from store.threads import Closed, Late, Threads

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.004
LONGEST_PAUSE_S: Final = 0.4
GRACE_S: Final = 0.5
LATEST_S: Final = 1.0
"""After this a call that should have ended by itself is not waited for any more."""
"""How long ending a transaction may take when the time is over."""

_PASSING = (
    Transient,
    vastdb.errors.Conflict,
    vastdb.errors.ServiceUnavailable,
    vastdb.errors.InternalServerError,
    vastdb.errors.RequestTimeout,
    vastdb.errors.UnexpectedError,
)


class Database:
    """Runs transactions on a few threads. `tables` is filled once they are loaded."""

    def __init__(self, config: VastConfig, stamps: Stamps) -> None:
        self.config = config
        self.stamps = stamps
        self.tables: dict[str, Table] = {}
        self.session: VastSession | None = None
        self._threads = Threads(config.threads, "vast")
        self._closed = False
        self._last = math.inf

    async def open(self) -> None:
        """Connect. Raises `errors.Unavailable`."""
        deadline_s = self.config.deadline_s
        self.session = await self._answer(
            deadline_s * len(self.config.endpoints), partial(connect, self.config, deadline_s)
        )

    async def read(self, work: Callable[[Tx], T], *, within_s: float | None = None) -> T:
        """The result of a read, all of one snapshot. It may run several times."""
        return await self._submit(work, False, within_s)

    async def write(self, work: Callable[[Tx], T], *, within_s: float | None = None) -> T:
        """The result of a transaction that was committed, once; of what it raises nothing is left.

        It may run several times. Raises `errors.Unavailable` when it could not be done in time; after a
        commit that was never answered it may have been done all the same.
        """
        return await self._submit(work, True, within_s)

    def hurry(self, within_s: float) -> None:
        """Answer all calls within so many seconds altogether, and after them none."""
        self._last = min(self._last, time.monotonic() + within_s)

    async def _submit(self, work: Callable[[Tx], T], writes: bool, within_s: float | None) -> T:
        now = time.monotonic()
        if self._closed or self.session is None or now >= self._last:
            raise errors.Unavailable("The metadata database is closed.")
        deadline = min(self._last, now + (self.config.deadline_s if within_s is None else within_s))
        call = _Call(self.session, self.config, self.tables, self.stamps, writes, deadline)
        return await self._answer(deadline - time.monotonic(), partial(call.run, work))

    async def _answer(self, within_s: float, call: Callable[[], T]) -> T:
        try:
            return await self._threads.run(within_s + LATEST_S, call)
        except Late as exc:
            raise errors.Unavailable("The metadata database does not answer in time.") from exc
        except Closed as exc:
            raise errors.Unavailable("The metadata database is closed.") from exc

    async def close(self) -> None:
        """Let the transactions in hand end, then close the connections."""
        self._closed = True
        await self._threads.close(self.config.deadline_s)
        if self.session is not None:
            self.session.api.shut()


class _Call:
    """One call, tried until it is done, refused, or out of time."""

    def __init__(
        self,
        session: VastSession,
        config: VastConfig,
        tables: Mapping[str, Table],
        stamps: Stamps,
        writes: bool,
        deadline: float,
    ) -> None:
        self._session = session
        self._config = config
        self._tables = tables
        self._stamps = stamps
        self._writes = writes
        self._deadline = deadline
        self._nonce = uuid.uuid4().hex
        self._attempt = 0

    def run(self, work: Callable[[Tx], T]) -> T:
        """The result of `work`."""
        self._session.api.until(self._deadline)
        while True:
            tx = None
            try:
                tx = self._begun()
                result = work(tx)
            except BaseException as exc:
                if tx is not None:
                    self._roll_back(tx)
                self._pause(exc)
                continue
            if not self._writes or not tx.wrote:
                self._roll_back(tx)
                return result
            if self._committed(tx):
                return result

    def _begun(self) -> Tx:
        stamp, now_ns = self._stamps.take() if self._writes else 0, self._stamps.now_ns()
        return Tx(self._session, self._config, self._tables, self._nonce, stamp, now_ns, self._attempt)

    def _committed(self, tx: Tx) -> bool:
        """Commit; False when it did not happen and is to be repeated."""
        try:
            tx.insert("commits", [{"stamp": tx.stamp, "nonce": self._nonce}])
        except BaseException as exc:
            self._roll_back(tx)
            self._pause(exc)
            return False
        try:
            self._session.api.commit_transaction(tx.txid)
        except vastdb.errors.Conflict as exc:
            self._roll_back(tx)
            self._pause(exc)
            return False
        except (*_PASSING, vastdb.errors.HttpError) as exc:
            return self._settled(tx, exc)
        return True

    def _settled(self, tx: Tx, cause: Exception) -> bool:
        """What became of a commit that was not answered: once the transaction is over, its mark tells."""
        while True:
            try:
                # Where it is over already, one way or the other, there is nothing to roll back.
                with suppress(vastdb.errors.NotFound, vastdb.errors.BadRequest):
                    self._session.api.rollback_transaction(tx.txid)
                probe = self._begun()
                try:
                    marks = (equal("stamp", tx.stamp), equal("nonce", self._nonce))
                    done = probe.count("commits", *marks, limit=1) > 0
                finally:
                    self._roll_back(probe)
            except (*_PASSING, vastdb.errors.NotFound) as exc:
                self._pause(exc)
                continue
            if not done:
                self._pause(cause)
            return done

    def _roll_back(self, tx: Tx) -> None:
        """End a transaction, be there time left or not, since until its end it keeps others from its rows.
        One that cannot be reached ends by itself."""
        self._session.api.until(max(self._deadline, time.monotonic() + GRACE_S))
        try:
            self._session.api.rollback_transaction(tx.txid)
        except (*_PASSING, vastdb.errors.HttpError):
            return
        finally:
            self._session.api.until(self._deadline)

    def _pause(self, cause: BaseException) -> None:
        """Wait a little before another attempt. Raises what `cause` is to callers when it will not pass, or
        when the time is over."""
        if not _passes(cause):
            told = _told(cause)
            if told is cause:
                raise cause
            raise told from cause
        self._attempt += 1
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._attempt, 10))
        pause_s = random.uniform(0, longest)
        if time.monotonic() + pause_s >= self._deadline:
            raise errors.Unavailable("The metadata database is busy or cannot be reached.") from cause
        time.sleep(pause_s)


def _passes(error: BaseException) -> bool:
    if isinstance(error, vastdb.errors.NotFound):
        return bool(error.code == "NoSuchTransaction")
    return isinstance(error, _PASSING)


def _told(error: BaseException) -> BaseException:
    """A failure as the store knows it."""
    if isinstance(error, vastdb.errors.InsufficientCapacity):
        return errors.Full("No space is left for metadata.")
    if isinstance(error, vastdb.errors.TooLargeRequest):
        return errors.BadRequest("The request is too large for the metadata database.")
    if isinstance(error, vastdb.errors.HttpError):
        return errors.Unavailable(f"The metadata database refuses: {error.status} {error.code}.")
    return error
