"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data import hdf5, zarr_reader  # registers its reader
from flowsr.data.hdf5 import write_hdf5
from flowsr.data.layout import field_template, grid_of
from flowsr.data.quality import check_finite
from flowsr.data.readers import READERS, open_field
from flowsr.data.store import FieldStore, create_store, store_checksum

__all__ = [
    "READERS",
    "FieldStore",
    "check_finite",
    "create_store",
    "field_template",
    "grid_of",
    "hdf5",
    "open_field",
    "store_checksum",
    "write_hdf5",
    "zarr_reader",
]
