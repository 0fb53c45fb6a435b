"""What the proxy tells Prometheus. The names are those that `deploy/monitoring` looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from proxy.figures import Figures

if TYPE_CHECKING:
    from prometheus_client import Metric


class PolicyFacts(Protocol):
    """The policy in force. `since_s`: since when, in Unix seconds; `refused`: how often a change of its files
    was not accepted; `problem`: what is wrong with them as they stand."""

    @property
    def version(self) -> str: ...

    @property
    def since_s(self) -> float: ...

    @property
    def refused(self) -> int: ...

    @property
    def problem(self) -> str | None: ...


class Hits(Protocol):
    """How often a cache knew, and did not."""

    @property
    def hits(self) -> int: ...

    @property
    def misses(self) -> int: ...


class ProxySource:
    """The proxy's families. `flush`: have what is pending counted."""

    def __init__(
        self, figures: Figures, policy: PolicyFacts, permissions: Hits, flush: Callable[[], None]
    ) -> None:
        self._figures = figures
        self._policy = policy
        self._permissions = permissions
        self._flush = flush

    async def __call__(self) -> Iterable[Metric]:
        """The figures of now."""
        self._flush()
        return [*self._requests(), *self._durations(), *self._caches(), *self._of_policy()]

    def _requests(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily

        requests = CounterMetricFamily(
            "tams_requests_total", "Requests by rule and verdict.", labels=("operation", "verdict")
        )
        for (operation, verdict), count in self._figures.requests.items():
            requests.add_metric((operation, verdict), count)
        responses = CounterMetricFamily("tams_responses_total", "Answers by status.", labels=("status",))
        for status, count in self._figures.statuses.items():
            responses.add_metric((str(status),), count)
        return requests, responses

    def _durations(self) -> Iterable[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        figures = self._figures
        took = HistogramMetricFamily(
            "tams_request_seconds", "From a request's head to its answer.", labels=("operation",)
        )
        for operation, histogram in figures.took.items():
            took.add_metric((operation,), histogram.buckets(), histogram.sum_ns / 1e9)
        deciding = HistogramMetricFamily(
            "tams_decision_seconds",
            "What a request takes besides the store: who, what, whether.",
            figures.deciding.buckets(),
            figures.deciding.sum_ns / 1e9,
        )
        store = HistogramMetricFamily(
            "tams_store_seconds",
            "What the store, or the upstream, takes for one request.",
            figures.store.buckets(),
            figures.store.sum_ns / 1e9,
        )
        return took, deciding, store

    def _caches(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily

        credentials, permissions = self._figures.credentials, self._permissions
        hits = CounterMetricFamily(
            "tams_cache_hits_total", "What was known without asking anybody.", labels=("cache",)
        )
        misses = CounterMetricFamily(
            "tams_cache_misses_total", "What had to be verified or evaluated.", labels=("cache",)
        )
        for family, of_credentials, of_permissions in (
            (hits, credentials[True], permissions.hits),
            (misses, credentials[False], permissions.misses),
        ):
            family.add_metric(("credentials",), of_credentials)
            family.add_metric(("permissions",), of_permissions)
        return hits, misses

    def _of_policy(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        policy = self._policy
        info = GaugeMetricFamily("tams_policy_info", "The policy in force.", labels=("version",))
        info.add_metric((policy.version,), 1)
        return (
            info,
            GaugeMetricFamily(
                "tams_policy_since_timestamp_seconds", "Since when it is in force.", value=policy.since_s
            ),
            GaugeMetricFamily(
                "tams_policy_valid",
                "Whether the policy's files, as they stand, are the policy in force.",
                value=policy.problem is None,
            ),
            CounterMetricFamily(
                "tams_policy_refused_total", "Changes of the policy that were refused.", value=policy.refused
            ),
        )
