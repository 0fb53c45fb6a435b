"""OpenFGA, embedded: the same model files and tuples, the same answers, without a server."""

from proxy.policy.embedded.dsl import parse
from proxy.policy.embedded.errors import (
    ConditionFailed,
    InvalidModel,
    InvalidQuery,
    InvalidTuple,
    PolicyError,
    Problem,
    TooDeep,
    UnknownRelation,
    UnknownType,
)
from proxy.policy.embedded.evaluate import Engine
from proxy.policy.embedded.explain import Explanation, Reason
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.tuples import ConditionRef, Tuple
from proxy.policy.embedded.validate import validate

__all__ = [
    "ConditionFailed",
    "ConditionRef",
    "Engine",
    "Explanation",
    "InvalidModel",
    "InvalidQuery",
    "InvalidTuple",
    "Model",
    "PolicyError",
    "Problem",
    "Reason",
    "TooDeep",
    "Tuple",
    "UnknownRelation",
    "UnknownType",
    "parse_model",
]


def parse_model(text: str, file: str | None = None) -> Model:
    """The model of a text in OpenFGA's language. Raises `InvalidModel` with all its problems."""
    model = parse(text, file).model
    problems = validate(model)
    if problems:
        raise InvalidModel(problems)
    return model
