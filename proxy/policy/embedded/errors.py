"""What a policy can be refused for, and why a query of it has no answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy import errors


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line of a source text; line and columns count from 0, `end` is exclusive."""

    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a model. `kind` is OpenFGA's error type, or "syntax"; `span` is None for a JSON model."""

    message: str
    kind: str
    span: Span | None = None
    file: str | None = None

    def __str__(self) -> str:
        """`file:line:column: message`, counting from 1 as editors do."""
        place = [self.file] if self.file else []
        if self.span is not None:
            place += [str(self.span.line + 1), str(self.span.start + 1)]
        return ": ".join([":".join(place), self.message] if place else [self.message])


class PolicyError(errors.Unavailable):
    """Base of this package. To a request any of these is "cannot decide": a 503, never an allow."""

    def __init__(self, summary: str) -> None:
        super().__init__(summary)


class InvalidModel(PolicyError):
    """The model cannot be used. `problems` holds all that were found, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class InvalidTuple(PolicyError):
    """A tuple is malformed or does not fit the model (OpenFGA 2027)."""


class InvalidQuery(PolicyError):
    """A query names something malformed, or a user that the model does not know (OpenFGA 2000)."""


class UnknownType(InvalidQuery):
    """The queried type is not in the model (OpenFGA 2021)."""


class UnknownRelation(InvalidQuery):
    """The queried relation is not in the model (OpenFGA 2022)."""


class ConditionFailed(PolicyError):
    """A condition that the answer hangs on failed: a parameter is missing or mistyped, or CEL fails."""


class TooDeep(PolicyError):
    """The answer lies beyond the limit of hops (OpenFGA 2002)."""
