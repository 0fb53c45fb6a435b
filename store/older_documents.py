"""Documents as older deployments wrote them, in the words of TAMS 8.2. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from store.errors import BadRequest
from store.models.essence import AudioEssence, VideoEssence

_URN: Final = "urn:x-nmos:format:"
_TYPES: Final = {
    "video": _URN + "video",
    "audio": _URN + "audio",
    "data": _URN + "data",
    "multi": _URN + "multi",
    "image": "urn:x-tam:format:image",
}
_FLAT: Final = {
    _URN + "video": frozenset(VideoEssence.model_fields),
    _URN + "audio": frozenset(AudioEssence.model_fields),
}
_RATIOS: Final = frozenset(("frame_rate", "aspect_ratio", "pixel_aspect_ratio"))
_MOST_DIGITS: Final = 24


def flow_of(said: Mapping[str, Any], new_id: Callable[[], str] | None = None) -> dict[str, Any]:
    """A flow; what its essence is may stand beside its other properties, and rates may be texts.

    `new_id` makes ids where there are none. Raises `BadRequest` for a rate that is none.
    """
    flow = dict(said)
    if new_id is not None:
        for name in ("id", "source_id"):
            flow.setdefault(name, new_id())
    flow["format"] = _format(flow.get("format"))
    names = _FLAT.get(str(flow["format"]), frozenset())
    flat = {name: flow.pop(name) for name in names & flow.keys()}
    inside = flow.get("essence_parameters", {})
    if not isinstance(inside, dict):
        return flow
    essence = {
        name: _ratio(name, value) if name in _RATIOS else value for name, value in {**flat, **inside}.items()
    }
    return {**flow, "essence_parameters": essence} if essence else flow


def source_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """A source; `name` is its label, `type` its format, `location` a tag."""
    source = dict(said)
    name, kind, location = (source.pop(each, None) for each in ("name", "type", "location"))
    if name is not None:
        source.setdefault("label", name)
    if location is not None:
        tags = source.get("tags", {})
        source["tags"] = {**tags, "location": location} if isinstance(tags, dict) else tags
    source["format"] = _format(source.get("format", kind))
    return source


def _format(value: object) -> object:
    return _TYPES.get(value, value) if isinstance(value, str) else value


def _ratio(name: str, value: object) -> object:
    """A ratio of whole numbers, from "25/1", "16:9" or "29.97" too."""
    if isinstance(value, dict):
        return value
    text = str(value).replace(":", "/")
    try:
        if isinstance(value, bool) or len(text) > _MOST_DIGITS or "e" in text.lower():
            raise ValueError(text)
        found = Fraction(text)
    except (ValueError, ZeroDivisionError) as exc:
        raise BadRequest(f"`{name}` must be a ratio, as 25/1.") from exc
    return {"numerator": found.numerator, "denominator": found.denominator}
