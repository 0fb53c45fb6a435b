"""What a flow is made of, by format: the part that a profile can hold (TAMS 8.2 flow-technical.json)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Discriminator, TypeAdapter, model_validator

from store.models.common import CodecType, Model, NonNegative, Opt, Rational, refusal
from store.models.container_mapping import ContainerMapping
from store.models.essence import (
    AudioEssence,
    DataEssence,
    ImageEssence,
    MultiEssence,
    VideoEssence,
    audio_problem,
    video_problem,
)

ContentFormat = Literal[
    "urn:x-nmos:format:video",
    "urn:x-tam:format:image",
    "urn:x-nmos:format:audio",
    "urn:x-nmos:format:data",
    "urn:x-nmos:format:multi",
]
TECHNICAL_PROPERTIES: Final = (
    "format",
    "codec",
    "container",
    "avg_bit_rate",
    "segment_duration",
    "container_mapping",
    "essence_parameters",
)


class Technical(Model):
    """The technical properties of every format. `avg_bit_rate` is in 1000 bit/s (AppNote 0013)."""

    container: Opt[CodecType] = None
    avg_bit_rate: Opt[NonNegative] = None
    segment_duration: Opt[Rational] = None
    container_mapping: Opt[ContainerMapping] = None


class VideoTechnical(Technical):
    """Of moving pictures."""

    format: Literal["urn:x-nmos:format:video"]
    codec: CodecType
    essence_parameters: VideoEssence

    @model_validator(mode="after")
    def _says_what_raw_video_must(self) -> Self:
        problem = video_problem(self.codec, self.essence_parameters)
        if problem is not None:
            raise refusal(f"essence_parameters: {problem}")
        return self


class AudioTechnical(Technical):
    """Of sound."""

    format: Literal["urn:x-nmos:format:audio"]
    codec: CodecType
    essence_parameters: AudioEssence

    @model_validator(mode="after")
    def _says_what_raw_audio_must(self) -> Self:
        problem = audio_problem(self.codec, self.essence_parameters)
        if problem is not None:
            raise refusal(f"essence_parameters: {problem}")
        return self


class ImageTechnical(Technical):
    """Of still pictures."""

    format: Literal["urn:x-tam:format:image"]
    codec: CodecType
    essence_parameters: ImageEssence


class DataTechnical(Technical):
    """Of data along a timeline."""

    format: Literal["urn:x-nmos:format:data"]
    codec: CodecType
    essence_parameters: DataEssence


class MultiTechnical(Technical):
    """Of several essences in one container."""

    format: Literal["urn:x-nmos:format:multi"]
    codec: Opt[CodecType] = None
    essence_parameters: Opt[MultiEssence] = None


FlowMetadata = Annotated[
    VideoTechnical | AudioTechnical | ImageTechnical | DataTechnical, Discriminator("format")
]

FLOW_METADATA: Final[TypeAdapter[FlowMetadata]] = TypeAdapter(FlowMetadata)
