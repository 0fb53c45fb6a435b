"""Values that the nouns share, and the limits on what a client may send (TAMS 8.2 uuid, mime-type, tags)."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from store.timerange import NS_PER_S, TimeRange, format_timestamp, parse_timestamp

LABEL_BYTES: Final = 1024
DESCRIPTION_BYTES: Final = 32 * 1024
TAG_NAME_BYTES: Final = 256
TAG_VALUE_BYTES: Final = 4096
TAG_VALUES: Final = 1000
TAGS: Final = 1000
OBJECT_ID_BYTES: Final = 1024
URL_BYTES: Final = 8192
COLLECTION_MEMBERS: Final = 1000
FILTER_IDS: Final = 1000
GET_URLS: Final = 16
STORAGE_OBJECTS: Final = 10_000
BULK_SEGMENTS: Final = 10_000
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

AUTH_CLASSES: Final = "auth_classes"

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TOKEN = r"[0-9A-Za-z!#$%&'*+.^_`|~-]+"
UUID_PATTERN: Final = f"^{_UUID}$"
UUID_OR_EMPTY_PATTERN: Final = f"^({_UUID})?$"
MIME_TYPE_PATTERN: Final = (
    f"^(application|audio|font|example|image|message|model|multipart|text|video|x-(?:{_TOKEN}))/({_TOKEN})$"
)
# The schema takes any character; it becomes a Content-Type header, so printable ASCII it is.
CODEC_PATTERN: Final = "^[!-.0-~]+/[!-.0-~]+$"
URL_PATTERN: Final = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s\x00-\x1f\x7f/?#]+[^\s\x00-\x1f\x7f]*$"
HEADER_NAME_PATTERN: Final = "^[0-9A-Za-z!#$%&'*+.^_`|~-]{1,256}$"
# What a header field may hold (RFC 9110 5.5), so that a value never ends its own line.
HEADER_VALUE_PATTERN: Final = r"^([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?$"
_TIMESTAMP = "-?(0|[1-9][0-9]*):(0|[1-9][0-9]{0,8})"
TIMESTAMP_PATTERN: Final = f"^{_TIMESTAMP}$"
TIMERANGE_PATTERN: Final = rf"^(\(\)|\[{_TIMESTAMP}\]|([\[(]{_TIMESTAMP}|[\[(]?)_({_TIMESTAMP}[\])]|[\])]?))$"
# Answers only. The published examples leave the zone out in places, and so do other stores.
DATE_TIME_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?$"

# What a pattern means, for the people who read a refusal.
FORMS: Final[Mapping[str, str]] = {
    UUID_PATTERN: "must be a lower-case UUID",
    UUID_OR_EMPTY_PATTERN: "must be a lower-case UUID, or an empty string to unlink",
    MIME_TYPE_PATTERN: "must be a MIME type without parameters",
    CODEC_PATTERN: "must be a MIME type, as in video/h264",
    HEADER_NAME_PATTERN: "must be the name of a header, of at most 256 characters",
    HEADER_VALUE_PATTERN: "must be printable ASCII without surrounding blanks",
    URL_PATTERN: "must be an http or https URL",
    DATE_TIME_PATTERN: "must be a date and time, as in 2026-11-21T08:00:00Z",
}

_auth_class = re.compile(r"[A-Za-z0-9_.-]{1,128}").fullmatch

T = TypeVar("T")


class Model(BaseModel):
    """Base of the nouns: no coercion, unknown properties dropped, immutable, inputs kept out of messages."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    def document(self) -> dict[str, Any]:
        """The JSON-ready properties that were given, defaults left out; it validates to an equal model."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The model's JSON schema without `default: null`: absent is not null here."""
        found = handler(schema)
        for described in handler.resolve_ref_schema(found).get("properties", {}).values():
            if "default" in described and described["default"] is None:
                del described["default"]
        return found


class ClosedModel(Model):
    """A noun that refuses properties it does not know."""

    model_config = ConfigDict(extra="forbid")


class _Omissible:
    """Makes `T | None` mean: T or left out, never JSON null."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema


Opt = Annotated[T | None, _Omissible()]


def refusal(problem: str) -> PydanticCustomError:
    """What a validator raises to have `problem` told to the client as it stands."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


def _at_most(limit_bytes: int) -> AfterValidator:
    def check(text: str) -> str:
        if not text.isascii() and len(text.encode()) > limit_bytes:
            raise refusal(f"must be at most {limit_bytes} bytes of UTF-8")
        return text

    return AfterValidator(check)


def _whole(value: object) -> object:
    """JSON Schema counts 1.0 as an integer; beyond 2^53 a float no longer names one integer."""
    if type(value) is float and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value


@dataclass(frozen=True, slots=True)
class _Whole:
    """Marks an `int` as an integer of JSON Schema, of at least `least`.

    An int is settled in Rust; only what is none, say 1.0, costs a call of Python.
    """

    least: int
    wording: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = core_schema.int_schema(strict=True, ge=self.least, le=INT64_MAX)
        return core_schema.union_schema(
            [plain, core_schema.no_info_before_validator_function(_whole, plain)],
            mode="left_to_right",
            custom_error_type="whole",
            custom_error_message=f"must be {self.wording}",
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": INT64_MAX}


Integer = Annotated[int, _Whole(INT64_MIN, "an integer of 64 bits")]
NonNegative = Annotated[int, _Whole(0, "an integer of 64 bits, not negative")]
Positive = Annotated[int, _Whole(1, "an integer of 64 bits, greater than 0")]

Uuid = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
UuidOrEmpty = Annotated[str, StringConstraints(pattern=UUID_OR_EMPTY_PATTERN)]
MimeType = Annotated[str, StringConstraints(pattern=MIME_TYPE_PATTERN, max_length=255)]
CodecType = Annotated[str, StringConstraints(pattern=CODEC_PATTERN, max_length=255)]
Label = Annotated[str, StringConstraints(max_length=LABEL_BYTES), _at_most(LABEL_BYTES)]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_BYTES), _at_most(DESCRIPTION_BYTES)]
ObjectId = Annotated[
    str, StringConstraints(min_length=1, max_length=OBJECT_ID_BYTES), _at_most(OBJECT_ID_BYTES)
]
Url = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=URL_BYTES), _at_most(URL_BYTES)]
DateTime = Annotated[
    str, StringConstraints(pattern=DATE_TIME_PATTERN), Field(json_schema_extra={"format": "date-time"})
]
UuidList = Annotated[list[Uuid], Field(max_length=FILTER_IDS)]

TagValue = str | list[str]


def tag_problem(name: str, value: object) -> str | None:
    """What is wrong with a tag, None when nothing is; in time proportional to its size."""
    if _exceeds(name, TAG_NAME_BYTES):
        return f"a tag name must be at most {TAG_NAME_BYTES} bytes of UTF-8"
    shown = repr(name if len(name) <= 64 else name[:64] + "...")
    values = value if isinstance(value, list) else [value]
    if len(values) > TAG_VALUES:
        return f"tag {shown} must have at most {TAG_VALUES} values"
    for item in values:
        if not isinstance(item, str):
            return f"tag {shown} must be a string or an array of strings"
        if _exceeds(item, TAG_VALUE_BYTES):
            return f"a value of tag {shown} must be at most {TAG_VALUE_BYTES} bytes of UTF-8"
        if name == AUTH_CLASSES and _auth_class(item) is None:
            return f"each class in tag {shown} must be 1 to 128 of the characters A-Z a-z 0-9 _ . -"
    return None


def _exceeds(text: str, limit_bytes: int) -> bool:
    return len(text) > limit_bytes or (not text.isascii() and len(text.encode()) > limit_bytes)


def _tags(value: object) -> dict[str, TagValue]:
    if not isinstance(value, dict):
        raise refusal("must be an object of strings and arrays of strings")
    if len(value) > TAGS:
        raise refusal(f"must have at most {TAGS} tags")
    for name, item in value.items():
        problem = tag_problem(name, item)
        if problem is not None:
            raise refusal(problem)
    return value


def _tag_value(value: object) -> TagValue:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        return value
    raise refusal("must be a string or an array of strings")


_TAG_VALUE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
}
Tags = Annotated[
    dict[str, TagValue],
    PlainValidator(_tags),
    WithJsonSchema({"type": "object", "additionalProperties": _TAG_VALUE_SCHEMA}),
]


def classes_of(tags: Mapping[str, TagValue]) -> frozenset[str]:
    """The authorization classes that the tags name; a plain string is a list of one (AppNote 0016)."""
    value = tags.get(AUTH_CLASSES, ())
    return frozenset((value,) if isinstance(value, str) else value)


class _ParsedText(str):
    """A text that is parsed when a model reads it, and keeps what it means."""

    __slots__ = ()
    pattern: ClassVar[str]

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """Read a client's text. Raises `store.timerange.InvalidTimeRange`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema(strict=True))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": cls.pattern}


class TimeRangeText(_ParsedText):
    """The canonical text of a timerange, which keeps the parsed `value`."""

    __slots__ = ("value",)
    pattern = TIMERANGE_PATTERN
    value: TimeRange

    @classmethod
    def of(cls, value: TimeRange) -> Self:
        """The text of that timerange."""
        text = cls(value)
        text.value = value
        return text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a client's text. Raises `store.timerange.InvalidTimeRange`."""
        value = TimeRange.parse(text)
        start, end = value.start_ns, value.end_ns
        if start is None or end is None or start == end or "-0:0" in text:
            return cls.of(value)
        # Two bounds that differ have one spelling, and formatting it again costs as much as parsing.
        canonical = cls(text)
        canonical.value = value
        return canonical


class TimestampText(_ParsedText):
    """The canonical text of a timestamp, which keeps its nanoseconds `ns`."""

    __slots__ = ("ns",)
    pattern = TIMESTAMP_PATTERN
    ns: int

    @classmethod
    def of(cls, ns: int) -> Self:
        """The text of that many nanoseconds."""
        text = cls(format_timestamp(ns))
        text.ns = ns
        return text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a client's text. Raises `store.timerange.InvalidTimeRange`."""
        ns = parse_timestamp(text)
        stamp = cls(text if ns else "0:0")
        stamp.ns = ns
        return stamp


class Rational(Model):
    """A fraction whose denominator may be left out: a frame rate, a duration in seconds."""

    numerator: Positive
    denominator: Positive = 1


class Ratio(Model):
    """A fraction that gives both its parts: an aspect ratio."""

    numerator: Positive
    denominator: Positive


TAG_VALUE: Final[TypeAdapter[TagValue]] = TypeAdapter(
    Annotated[TagValue, PlainValidator(_tag_value), WithJsonSchema(_TAG_VALUE_SCHEMA)]
)
TAGS_BODY: Final[TypeAdapter[dict[str, TagValue]]] = TypeAdapter(Tags)
LABEL: Final[TypeAdapter[str]] = TypeAdapter(Label, config=ConfigDict(strict=True))
DESCRIPTION: Final[TypeAdapter[str]] = TypeAdapter(Description, config=ConfigDict(strict=True))


def format_time(ns: int) -> str:
    """RFC 3339 in UTC with microseconds, of nanoseconds since 1970; finer digits are cut off."""
    seconds, rest = divmod(ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest // 1000:06d}Z"
