"""What the commands of `tams-store` about storage backends do and print; each returns the exit status."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime

import typer

from store import errors
from store.domain.orphans import Seen, before_s, orphans
from store.media.config import build, problems
from store.media.files import Files
from store.media.protocol import Media
from store.media.signing import Lifetime, Signer
from store.metadata.opening import open_metadata
from store.metadata.protocol import Metadata
from store.settings import StoreSettings

DELETED_AT_ONCE = 500


@asynccontextmanager
async def opened(settings: StoreSettings) -> AsyncIterator[Mapping[str, Media]]:
    """The configured backends, by id. Nothing can be signed with them.

    Raises `errors.Unavailable`, `errors.BadRequest` for settings that cannot be.
    """
    configs = settings.backends()
    wrong = problems(configs, Lifetime())
    if wrong:
        raise errors.BadRequest("\n".join(wrong))
    signer = Signer((secrets.token_bytes(32),))
    async with AsyncExitStack() as stack:
        found: dict[str, Media] = {}
        for config in configs:
            media = build(
                config, public_url=settings.base_url(), signer=signer, lifetime=Lifetime(), clock=time.time
            )
            stack.push_async_callback(media.close)
            found[config.id] = media
        yield found


def _name(media: Media) -> str:
    label = media.backend.label
    return media.backend.id if label is None else f"{label} ({media.backend.id})"


async def examine(settings: StoreSettings) -> int:
    """Print of each backend whether it works, and what is wrong: 0 when nothing is."""
    well = True
    try:
        async with opened(settings) as backends:
            for media in backends.values():
                found = await media.check()
                typer.echo(f"{_name(media)}: {'has problems' if found else 'works'}")
                for problem in found:
                    typer.echo(f"  {problem}")
                well = well and not found
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    return 0 if well else 1


async def recount(settings: StoreSettings) -> int:
    """Count the bytes of each folder that has a quota anew, and print them."""
    try:
        async with opened(settings) as backends:
            for media in backends.values():
                used = await media.recount() if isinstance(media, Files) else None
                typer.echo(f"{_name(media)}: {'has no quota' if used is None else f'{used} bytes'}")
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    return 0


async def scan(settings: StoreSettings, *, delete: bool, now_ns: Callable[[], int] = time.time_ns) -> int:
    """Print the keys of bytes that no object has, and remove them if so asked: 0 when all went well.

    Nothing is removed from a backend of which the metadata know nothing at all: they are other ones, then.
    """
    path = settings.data / "metadata.sqlite"
    if settings.metadata == "sqlite" and not path.is_file():
        typer.echo(f"{path}: there is no database", err=True)
        return 1
    modified_before_s = before_s(now_ns(), settings.min_object_timeout_s)
    well = True
    try:
        async with opened(settings) as backends:
            metadata = await open_metadata(settings)
            try:
                for media in backends.values():
                    well &= await _scan(metadata, media, modified_before_s, delete=delete)
            finally:
                await metadata.close()
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    return 0 if well else 1


async def _scan(metadata: Metadata, media: Media, modified_before_s: int, *, delete: bool) -> bool:
    seen, found = Seen(), []
    async with aclosing(orphans(metadata, media, modified_before_s, seen)) as keys:
        async for key in keys:
            typer.echo(key)
            found.append(key)
    since = datetime.fromtimestamp(modified_before_s, UTC)
    typer.echo(
        f"{_name(media)}: {seen.orphans} orphans older than {since:%Y-%m-%d %H:%M} UTC; "
        f"{seen.known} objects, {seen.young} younger, {seen.foreign} that no store made"
    )
    if not delete or not found:
        return True
    if not seen.known and not seen.young:
        typer.echo("  nothing removed: the metadata know no object there. Are they the right ones?", err=True)
        return False
    for first in range(0, len(found), DELETED_AT_ONCE):
        await media.delete(found[first : first + DELETED_AT_ONCE])
    typer.echo(f"  {len(found)} removed")
    return True
