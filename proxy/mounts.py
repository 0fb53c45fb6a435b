"""Several upstreams behind one address: by path prefix or by host, each a proxy of its own.

Nothing is shared between them: each has its own policies, clients, keys and state, so a permission on one
says nothing about another, and neither does a token of its own issuer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from proxy.asgi import App, Receive, Scope, Send
from proxy.errors import InvalidSettings
from proxy.upstream.options import MountedUpstream

FOLDER = "upstreams"
S = TypeVar("S", bound="MountSettings")


class MountSettings(Protocol):
    """What of the settings makes mounts."""

    @property
    def upstreams(self) -> tuple[MountedUpstream, ...]: ...

    @property
    def data(self) -> Path: ...

    def base_url(self) -> str: ...

    def model_copy(self: S, *, update: dict[str, object]) -> S: ...


@dataclass(frozen=True, slots=True)
class Mount:
    """An application, and what it answers for: all below `prefix`, or all that is asked of `host`."""

    app: App
    prefix: bytes | None
    host: bytes | None


class Mounts:
    """Gives each request to the mount it is for, by host first, then by the longest prefix; else to `main`.

    Prefixes are compared with the path as it is spelt, and taken off it.
    """

    def __init__(self, main: App, mounts: Iterable[Mount]) -> None:
        found = tuple(mounts)
        self._main = main
        self._hosts = {mount.host: mount.app for mount in found if mount.host is not None}
        self._prefixes = sorted(
            ((mount.prefix, mount.app) for mount in found if mount.prefix is not None),
            key=lambda pair: -len(pair[0]),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        host = next((value.lower() for name, value in scope["headers"] if name == b"host"), b"")
        app = self._hosts.get(host)
        if app is not None:
            await app(scope, receive, send)
            return
        path: bytes = scope["raw_path"]
        for prefix, mounted in self._prefixes:
            rest = path[len(prefix) :]
            if path.startswith(prefix) and rest[:1] in (b"", b"/"):
                inner = rest or b"/"
                below = {**scope, "raw_path": inner, "path": inner.decode("latin-1")}
                await mounted(below, receive, send)
                return
        await self._main(scope, receive, send)


@asynccontextmanager
async def mounted(settings: S, run: Callable[[S], AbstractAsyncContextManager[App]]) -> AsyncIterator[App]:
    """The proxy of these settings with all that is mounted beside it. Raises as `run`, and
    `InvalidSettings`."""
    problems = problems_of(settings.upstreams)
    if problems:
        raise InvalidSettings(problems)
    async with AsyncExitStack() as stack:
        main = await stack.enter_async_context(run(settings))
        mounts = []
        for each in settings.upstreams:
            app = await stack.enter_async_context(run(settings_of(settings, each)))
            mounts.append(Mount(app, _bytes(each.prefix), _bytes(each.host)))
        yield Mounts(main, mounts) if mounts else main


def settings_of(settings: S, mount: MountedUpstream) -> S:
    """The settings of one mount: those of the whole, but for what is its own."""
    return settings.model_copy(
        update={
            "upstream": mount.url,
            "upstream_options": mount,
            "upstreams": (),
            "policies": mount.policies,
            "data": settings.data / FOLDER / mount.name,
            "public_url": mount.public_url or f"{settings.base_url()}{mount.prefix}",
        }
    )


def problems_of(upstreams: Iterable[MountedUpstream]) -> list[str]:
    """What keeps these from being mounted together."""
    problems = []
    seen: set[tuple[str, str]] = set()
    for each in upstreams:
        for name in ("name", "prefix", "host"):
            value = getattr(each, name)
            if value is None:
                continue
            if (name, value.lower()) in seen:
                problems.append(f"TAMS_UPSTREAMS: two of them have the {name} {value}")
            seen.add((name, value.lower()))
        if not each.policies.is_dir():
            problems.append(f"TAMS_UPSTREAMS: {each.name}: {each.policies} is no folder")
    return problems


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.lower().encode() if not text.startswith("/") else text.encode()
