"""Profiles: technical metadata that flows share (TAMS 8.2 profile.json, AppNote 0020)."""

from __future__ import annotations

from store.models.common import DateTime, Description, Label, Model, Opt, Tags, Uuid
from store.models.technical import FlowMetadata


class ProfilePost(Model):
    """A profile as a client creates it; it is immutable from then on, tags included."""

    id: Uuid
    label: Opt[Label] = None
    description: Opt[Description] = None
    tags: Opt[Tags] = None
    flow_metadata: FlowMetadata
    created_by: Opt[Label] = None


class Profile(ProfilePost):
    """A profile with what the store keeps about it."""

    created: Opt[DateTime] = None
