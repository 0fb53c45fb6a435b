"""What a source or a flow collects, in order (TAMS 8.2 collection-item.json, flow-collection.json)."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from store.models.common import COLLECTION_MEMBERS, Label, Model, Opt, Uuid
from store.models.container_mapping import ContainerMapping


class CollectionItem(Model):
    """A member of a collection, and the part it plays."""

    id: Uuid
    role: Opt[Label] = None


class FlowCollectionItem(CollectionItem):
    """A flow in a collection of flows."""

    container_mapping: Opt[ContainerMapping] = None


SourceCollection = Annotated[list[CollectionItem], Field(max_length=COLLECTION_MEMBERS)]
FlowCollection = Annotated[list[FlowCollectionItem], Field(max_length=COLLECTION_MEMBERS)]

FLOW_COLLECTION: Final[TypeAdapter[list[FlowCollectionItem]]] = TypeAdapter(FlowCollection)
