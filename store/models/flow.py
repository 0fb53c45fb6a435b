"""Flows, as they are put and as they are got (TAMS 8.2 flow-put.json, flow-get.json)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Discriminator, Tag, TypeAdapter

from store.models.collection import FlowCollection
from store.models.common import (
    DateTime,
    Description,
    Label,
    Model,
    NonNegative,
    Opt,
    Tags,
    TimeRangeText,
    Uuid,
    UuidOrEmpty,
    refusal,
)
from store.models.technical import (
    TECHNICAL_PROPERTIES,
    AudioTechnical,
    DataTechnical,
    ImageTechnical,
    MultiTechnical,
    VideoTechnical,
)

FlowStatus = Literal["awaiting_content", "ingesting", "replication_in_progress", "closed_complete"]


class FlowCommon(Model):
    """What every flow may say, and a client may set. `max_bit_rate` is in 1000 bit/s (AppNote 0013).

    `created_by` and `updated_by` count where clients are trusted with them (`trust_created_by`).
    """

    id: Uuid
    source_id: Uuid
    label: Opt[Label] = None
    description: Opt[Description] = None
    tags: Opt[Tags] = None
    metadata_version: Opt[Label] = None
    created_by: Opt[Label] = None
    updated_by: Opt[Label] = None
    generation: Opt[NonNegative] = None
    status: Opt[FlowStatus] = None
    read_only: Opt[bool] = None
    max_bit_rate: Opt[NonNegative] = None
    flow_collection: Opt[FlowCollection] = None


class _Put(FlowCommon):
    """A flow with its own technical metadata; an empty `profile_id` unlinks it from its profile."""

    profile_id: Opt[Literal[""]] = None


class VideoFlowPut(_Put, VideoTechnical):
    """A video flow."""


class AudioFlowPut(_Put, AudioTechnical):
    """An audio flow."""


class ImageFlowPut(_Put, ImageTechnical):
    """An image flow."""


class DataFlowPut(_Put, DataTechnical):
    """A data flow."""


class MultiFlowPut(_Put, MultiTechnical):
    """A flow of several essences."""


class ProfileFlowPut(FlowCommon):
    """A flow that takes its technical metadata from a profile, or, when empty, keeps what it had."""

    profile_id: UuidOrEmpty


def _refuse_profile_and_technical(document: object) -> object:
    if isinstance(document, dict) and document.get("profile_id", "") != "":
        given = [name for name in TECHNICAL_PROPERTIES if name in document]
        if given:
            raise refusal(
                f"profile_id excludes the technical metadata that a profile holds: {', '.join(given)}"
            )
    return document


def _kind(document: object) -> str:
    if not isinstance(document, dict) or "profile_id" not in document:
        return "<technical>"
    return "<technical>" if any(name in document for name in TECHNICAL_PROPERTIES) else "<profile>"


TechnicalFlowPut = Annotated[
    VideoFlowPut | AudioFlowPut | ImageFlowPut | DataFlowPut | MultiFlowPut, Discriminator("format")
]
FlowPut = Annotated[
    Annotated[TechnicalFlowPut, Tag("<technical>")] | Annotated[ProfileFlowPut, Tag("<profile>")],
    Discriminator(_kind),
    BeforeValidator(_refuse_profile_and_technical),
]

FLOW_PUT: Final[TypeAdapter[FlowPut]] = TypeAdapter(FlowPut)
READ_ONLY: Final[TypeAdapter[bool]] = TypeAdapter(bool, config={"strict": True})
BIT_RATE: Final[TypeAdapter[int]] = TypeAdapter(NonNegative, config={"strict": True})


class _Get(FlowCommon):
    """A flow with what the store keeps about it."""

    profile_id: Opt[Uuid] = None
    created: Opt[DateTime] = None
    metadata_updated: Opt[DateTime] = None
    segments_updated: Opt[DateTime] = None
    timerange: Opt[TimeRangeText] = None
    collected_by: Opt[list[Uuid]] = None


class VideoFlow(_Get, VideoTechnical):
    """A video flow."""


class AudioFlow(_Get, AudioTechnical):
    """An audio flow."""


class ImageFlow(_Get, ImageTechnical):
    """An image flow."""


class DataFlow(_Get, DataTechnical):
    """A data flow."""


class MultiFlow(_Get, MultiTechnical):
    """A flow of several essences."""


FlowGet = Annotated[VideoFlow | AudioFlow | ImageFlow | DataFlow | MultiFlow, Discriminator("format")]

FLOW_GET: Final[TypeAdapter[FlowGet]] = TypeAdapter(FlowGet)
