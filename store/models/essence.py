"""What the samples of a flow are, by format (TAMS 8.2 flow-video, -audio, -image, -data and -multi)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, model_validator

from store.models.common import ClosedModel, Integer, Label, Model, Opt, Positive, Ratio, Rational, refusal

# The packings that are Y'CbCr by definition; "planar" may hold any component type.
YUV_TYPES = frozenset({"YUYV", "UYVY", "AYUV", "v210", "v216"})


class VideoUncompressed(Model):
    """How uncompressed pictures are packed."""

    unc_type: Literal[
        "planar",
        "YUYV",
        "UYVY",
        "AYUV",
        "v210",
        "v216",
        "RGB",
        "RGBx",
        "xRGB",
        "BGRx",
        "xBGR",
        "RGBA",
        "ARGB",
        "BGRA",
        "ABGR",
        "alpha",
    ]


class AvcParameters(Model):
    """The bytes of an H.264 codec string."""

    profile: Integer
    level: Integer
    flags: Integer


class VideoEssence(ClosedModel):
    """Moving pictures: `frame_rate` when it is fixed, else `vfr`."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"vfr": {"const": False}}},
            "then": {"required": ["frame_rate"]},
            "else": {"not": {"required": ["frame_rate"]}},
        }
    )

    frame_width: Positive
    frame_height: Positive
    bit_depth: Opt[Positive] = None
    interlace_mode: Opt[Literal["progressive", "interlaced_tff", "interlaced_bff", "interlaced_psf"]] = None
    colorspace: Opt[Literal["BT601", "BT709", "BT2020", "BT2100"]] = None
    transfer_characteristic: Opt[Literal["SDR", "HLG", "PQ"]] = None
    aspect_ratio: Opt[Ratio] = None
    pixel_aspect_ratio: Opt[Ratio] = None
    component_type: Opt[Literal["YCbCr", "RGB"]] = None
    horiz_chroma_subs: Opt[Positive] = None
    vert_chroma_subs: Opt[Positive] = None
    unc_parameters: Opt[VideoUncompressed] = None
    avc_parameters: Opt[AvcParameters] = None
    frame_rate: Opt[Rational] = None
    vfr: bool = False
    init_segments: Opt[bool] = None

    @model_validator(mode="after")
    def _one_kind_of_frame_rate(self) -> Self:
        if self.vfr and self.frame_rate is not None:
            raise refusal("frame_rate must not be set when vfr is true")
        if not self.vfr and self.frame_rate is None:
            raise refusal("frame_rate is required unless vfr is true")
        return self

    @model_validator(mode="after")
    def _chroma_of_yuv(self) -> Self:
        yuv = self.unc_parameters is not None and self.unc_parameters.unc_type in YUV_TYPES
        if yuv and (self.horiz_chroma_subs is None or self.vert_chroma_subs is None):
            raise refusal("horiz_chroma_subs and vert_chroma_subs are required with a YUV unc_type")
        return self


class AudioUncompressed(Model):
    """How uncompressed channels are laid out."""

    unc_type: Literal["interleaved", "planar", "pairs"]


class AudioCodecParameters(Model):
    """What an audio decoder needs to know."""

    coded_frame_size: Opt[Integer] = None
    mp4_oti: Opt[Integer] = None


class AudioEssence(ClosedModel):
    """Sound."""

    sample_rate: Positive
    channels: Positive
    bit_depth: Opt[Positive] = None
    codec_parameters: Opt[AudioCodecParameters] = None
    unc_parameters: Opt[AudioUncompressed] = None
    init_segments: Opt[bool] = None


class ImageEssence(ClosedModel):
    """Still pictures."""

    frame_width: Positive
    frame_height: Positive
    aspect_ratio: Opt[Ratio] = None


class DataEssence(ClosedModel):
    """Anything else along a timeline; `data_type` is a URN."""

    data_type: Opt[Label] = None
    init_segments: Opt[bool] = None


class MultiEssence(ClosedModel):
    """Several essences in one container."""

    init_segments: Opt[bool] = None


def video_problem(codec: str, essence: VideoEssence) -> str | None:
    """What uncompressed video must say and does not; None when all is said."""
    if codec != "video/raw":
        return None
    if essence.bit_depth is None:
        return "bit_depth is required when codec is video/raw"
    if essence.unc_parameters is None:
        return "unc_parameters is required when codec is video/raw"
    return None


def audio_problem(codec: str, essence: AudioEssence) -> str | None:
    """What uncompressed sound must say and does not; None when all is said."""
    if codec not in ("audio/x-raw-int", "audio/x-raw-float"):
        return None
    if codec == "audio/x-raw-int" and essence.bit_depth is None:
        return "bit_depth is required when codec is audio/x-raw-int"
    if codec == "audio/x-raw-float" and essence.bit_depth not in (32, 64):
        return "bit_depth must be 32 or 64 when codec is audio/x-raw-float"
    if essence.unc_parameters is None:
        return f"unc_parameters is required when codec is {codec}"
    return None
