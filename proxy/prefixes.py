"""Keys belong to the classes of their longest prefix in `classes.yaml`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.policy.files import ClassInfo

Classes = frozenset[str]


class Prefixes:
    """The prefixes of a policy. A `*` at the end of one means nothing: every prefix goes on."""

    def __init__(self, classes: Mapping[str, ClassInfo]) -> None:
        found: dict[str, set[str]] = {}
        for name, info in classes.items():
            for prefix in info.key_prefixes:
                found.setdefault(prefix.removesuffix("*"), set()).add(name)
        self._classes = {prefix: frozenset(names) for prefix, names in found.items()}
        self._lengths = sorted({len(prefix) for prefix in self._classes}, reverse=True)

    def classes_of(self, key: str) -> Classes:
        """The classes of a key; none where no prefix fits, as with a resource that has none."""
        for length in self._lengths:
            classes = self._classes.get(key[:length])
            if classes is not None:
                return classes
        return frozenset()

    def marks(self, may: Callable[[Classes], bool]) -> tuple[tuple[str, bool], ...]:
        """For each prefix, the empty one among them, whether what has it as its longest may be seen."""
        classes = {"": frozenset[str](), **self._classes}
        return tuple((prefix, may(each)) for prefix, each in classes.items())
