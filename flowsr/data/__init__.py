"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data.layout import field_template, grid_of
from flowsr.data.store import FieldStore, create_store, store_checksum

__all__ = ["FieldStore", "create_store", "field_template", "grid_of", "store_checksum"]
