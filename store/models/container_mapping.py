"""Where a flow's essence lies within a container's tracks (TAMS 8.2 container-mapping.json)."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from store.models.common import Integer, Model, NonNegative, Opt

AUDIO_CHANNELS: Final = 1024

_HEX = "[0-9a-fA-F]"
PACKAGE_UID_PATTERN: Final = (
    f"^urn:smpte:umid:{_HEX}{{8}}(.{_HEX}{{8}}){{7}}$"
    f"|^urn:uuid:{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}$"
)


class AudioTrack(Model):
    """Which channels of a container's audio track are the flow's."""

    channel_numbers: Opt[Annotated[list[NonNegative], Field(min_length=1, max_length=AUDIO_CHANNELS)]] = None
    channel_range: Opt[Annotated[str, StringConstraints(pattern="^[0-9]+_[0-9]+$", max_length=40)]] = None


class Mp2tsContainer(Model):
    """The packets of an MPEG-2 transport stream."""

    pid: Opt[Integer] = None


class MxfContainer(Model):
    """A track of an MXF package."""

    package_uid: Opt[Annotated[str, StringConstraints(pattern=PACKAGE_UID_PATTERN)]] = None
    track_id: Opt[Integer] = None


class IsobmffContainer(Model):
    """A track of an ISO base media file."""

    track_id: Opt[Integer] = None


class ContainerMapping(Model):
    """The location of a flow's essence in its container."""

    track_index: Opt[NonNegative] = None
    format_track_index: Opt[NonNegative] = None
    audio_track: Opt[AudioTrack] = None
    mp2ts_container: Opt[Mp2tsContainer] = None
    mxf_container: Opt[MxfContainer] = None
    isobmff_container: Opt[IsobmffContainer] = None
