"""Figures in Prometheus' text format: of this process, or of all that serve one port together.

The client library is imported when somebody asks, so that whoever never does pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from store.errors import Error, Unavailable
from store.measures import Measure
from store.server import Lines
from store.workers import Member

if TYPE_CHECKING:
    from prometheus_client import Metric

Source = Callable[[], Awaitable[Iterable["Metric"]]]
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
READ_S: Final = 5.0
MOST_BYTES: Final = 16 << 20
_log = logging.getLogger(__name__)


class Exposition:
    """All figures of this process. `sources` give families of them; one that fails is left out."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    async def text(self) -> bytes:
        """The figures of now."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        found = await asyncio.gather(*(self._families(source) for source in self._sources))
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(_Families([family for families in found for family in families]))
        return generate_latest(registry)

    async def _families(self, source: Source) -> Iterable[Metric]:
        try:
            async with asyncio.timeout(READ_S):
                return await source()
        except (Error, TimeoutError) as exc:
            _log.warning("some figures cannot be told: %s", exc or "too slow")
            return ()


class _Families:
    """Families as a collector."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def measured(measures: Iterable[Measure]) -> list[Source]:
    """Sources of what is read only when asked for."""
    return [_source(measure) for measure in measures]


def _source(measure: Measure) -> Source:
    async def read() -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found: list[Metric] = []
        for figure, values in zip(measure.figures, await measure.read(), strict=True):
            kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
            family = kind(figure.name, figure.help, labels=figure.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            found.append(family)
        return found

    return read


def of_server(lines: Lines, version: str) -> Source:
    """Figures of the server itself."""

    async def read() -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        build = GaugeMetricFamily("tams_build_info", "The version that runs.", labels=("version",))
        build.add_metric((version,), 1)
        return (
            build,
            GaugeMetricFamily("tams_connections", "Open connections of clients.", value=lines.open),
            CounterMetricFamily(
                "tams_connections_refused_total", "Connections beyond the limit.", value=lines.refused
            ),
        )

    return read


class Alone:
    """One process: what it tells is all there is."""

    def __init__(self, exposition: Exposition) -> None:
        self.text = exposition.text


class Together:
    """Several processes that serve one port: whoever is asked asks the others, and tells of all, each with
    its number as the label `worker`."""

    def __init__(self, member: Member, exposition: Exposition) -> None:
        self._member = member
        self._exposition = exposition

    async def text(self) -> bytes:
        """The figures of all of them; one that does not answer is left out."""
        others = [path for path in self._member.folder.glob("*.sock") if path != _place(self._member)]
        answers = await asyncio.gather(self._exposition.text(), *(_ask(path) for path in others))
        numbers = [str(self._member.number), *(path.stem for path in others)]
        pairs = zip(numbers, answers, strict=True)
        return merged({number: text for number, text in pairs if text is not None})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer the others for as long as the context lasts."""
        place = _place(self._member)
        # The one before, after a reload or a crash, may have left its own.
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, fresh)
        fresh.rename(place)
        mine = place.stat().st_ino
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                if place.stat().st_ino == mine:
                    place.unlink()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await self._exposition.text())
            await writer.drain()
        except ConnectionError as exc:
            _log.debug("another worker is gone: %s", exc)
        finally:
            writer.close()


def _place(member: Member) -> Path:
    return member.folder / f"{member.number}.sock"


async def _ask(path: Path) -> bytes | None:
    """What another process tells; None when it does not."""
    try:
        async with asyncio.timeout(READ_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=MOST_BYTES)
            try:
                return await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as exc:
        _log.warning("worker %s does not tell its figures: %s", path.stem, exc or "too slow")
        return None


def merged(texts: Mapping[str, bytes]) -> bytes:
    """The figures of several processes as one text, by the label `worker`. Raises `errors.Unavailable`."""
    from prometheus_client import CollectorRegistry, Metric, generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    families: dict[str, Metric] = {}
    try:
        for worker, text in sorted(texts.items()):
            for family in text_string_to_metric_families(text.decode()):
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    except ValueError as exc:
        raise Unavailable("The figures of the other processes cannot be read.") from exc
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(list(families.values())))
    return generate_latest(registry)
