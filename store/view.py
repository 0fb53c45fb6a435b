"""What a caller may see: the filter that every read of the store takes."""

from __future__ import annotations

from typing import NamedTuple


class View(NamedTuple):
    """Classes a caller may read (`allow`) and may not whatever else allows it (`deny`).

    `default_class` stands for the classes of a resource that has none; without one, such a resource is
    for administrators. Where a `View | None` is taken, None is the store on its own: everything is seen.
    """

    admin: bool
    allow: frozenset[str]
    deny: frozenset[str]
    default_class: str | None = None

    def sees(self, classes: frozenset[str]) -> bool:
        """Whether a resource of these classes is visible."""
        if self.admin:
            return True
        if not classes:
            if self.default_class is None:
                return False
            classes = frozenset((self.default_class,))
        return not self.allow.isdisjoint(classes) and self.deny.isdisjoint(classes)

    @property
    def sees_untagged(self) -> bool:
        """Whether a resource without classes is visible."""
        return self.sees(frozenset())


def visible(view: View | None, classes: frozenset[str]) -> bool:
    """`view.sees(classes)`, where no view at all sees everything."""
    return view is None or view.sees(classes)
