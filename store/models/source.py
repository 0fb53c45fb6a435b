"""Sources (TAMS 8.2 source.json)."""

from __future__ import annotations

from store.models.collection import SourceCollection
from store.models.common import DateTime, Description, Label, Model, Opt, Tags, Uuid
from store.models.technical import ContentFormat


class SourcePut(Model):
    """What a client may say of a source that it creates or replaces itself."""

    id: Uuid
    format: ContentFormat
    label: Opt[Label] = None
    description: Opt[Description] = None
    tags: Opt[Tags] = None


class Source(SourcePut):
    """A source with what the store derives about it."""

    created_by: Opt[Label] = None
    updated_by: Opt[Label] = None
    created: Opt[DateTime] = None
    updated: Opt[DateTime] = None
    source_collection: Opt[SourceCollection] = None
    collected_by: Opt[list[Uuid]] = None
