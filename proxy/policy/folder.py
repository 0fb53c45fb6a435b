"""The policy folder while the proxy runs: changes come into force as a whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from proxy.policy.files import CLIENTS, InvalidPolicy, Policy, Signature, load, signature

LOOK_S = 1.0
WATCH_S = 0.25
SETTLE_S = 0.2
"""Files younger than this may still be being written."""
GONE = "is gone; put it back, with `clients: {}` where there are to be none"
_log = logging.getLogger(__name__)


class FolderPolicy:
    """The policy of a folder, read again when a file changes; an invalid change keeps the last good one,
    and so does a file that is gone: clients that are to have no more access are taken out of theirs.

    `problem` says what is wrong with the files as they stand, file, line and cure; `refused` counts such
    changes; `since_s`: since when the policy is in force. `now` gives Unix seconds. Raises `InvalidPolicy`
    when there is no valid policy to begin with.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self.problem: str | None = None
        self.refused = 0
        self._now = now
        self._seen = signature(folder)
        self._policy = load(folder)
        self._has_clients = _has_clients(self._seen)
        self._checked_s = self.since_s = now()
        self._reading = False
        _warn(self._policy)

    @property
    def version(self) -> str:
        """The version of the policy in force."""
        return self._policy.version

    def current(self) -> Policy:
        """The policy of now, at most one second old; while a change is read on a thread, the one before."""
        now = self._now()
        if not self._reading and (now - self._checked_s >= LOOK_S or now < self._checked_s):
            changed = self._changed()
            if changed is not None:
                self._take(changed, self._read())
        return self._policy

    async def watch(self) -> None:
        """Look for changes until cancelled. Reading happens on a thread: a large policy stops nobody."""
        while True:
            await asyncio.sleep(WATCH_S)
            changed = self._changed()
            if changed is None:
                continue
            self._reading = True
            try:
                self._take(changed, await asyncio.to_thread(self._read))
            finally:
                self._reading = False

    def _changed(self) -> Signature | None:
        """The signature of files that have changed and settled."""
        self._checked_s = self._now()
        seen = signature(self.folder)
        if seen == self._seen:
            return None
        age_s = self._now() - max((changed_ns for _, changed_ns, _, _ in seen), default=0) / 1e9
        if 0 <= age_s < SETTLE_S:
            self._checked_s = self._now() - LOOK_S + SETTLE_S
            return None
        return seen

    def _read(self) -> Policy | InvalidPolicy:
        try:
            found = load(self.folder)
            if self._has_clients and not (self.folder / CLIENTS).exists():
                raise InvalidPolicy([f"{CLIENTS}: {GONE}"])
            return found
        except InvalidPolicy as exc:
            return exc

    def _take(self, seen: Signature, found: Policy | InvalidPolicy) -> None:
        if signature(self.folder) != seen:
            return  # changed again while it was read: what was read may be of two states
        self._seen = seen
        if isinstance(found, InvalidPolicy):
            self.problem = str(found)
            self.refused += 1
            _log.error("The changed policy is refused, the last good one stays in force: %s", found)
            return
        self.problem = None
        self._policy = found
        self._has_clients = _has_clients(seen)
        self.since_s = self._now()
        _log.info("policy %s is in force", found.version)
        _warn(found)


def _has_clients(seen: Signature) -> bool:
    return any(name == CLIENTS for name, _, _, _ in seen)


def _warn(policy: Policy) -> None:
    for warning in policy.warnings:
        _log.warning("%s", warning)
