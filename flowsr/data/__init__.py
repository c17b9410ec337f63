"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data.blastnet import BlastnetReader
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade
from flowsr.data.described import DescribedReader
from flowsr.data.fetch import fetch
from flowsr.data.hdf5 import Hdf5Reader, write_hdf5
from flowsr.data.jhtdb import CutoutReader, StoreReader
from flowsr.data.layout import field_template, grid_of
from flowsr.data.quality import check_finite
from flowsr.data.readers import READERS, Reader, open_field
from flowsr.data.store import FieldStore, create_store, store_checksum
from flowsr.data.well import WellReader
from flowsr.data.zarr_reader import ZarrReader

__all__ = [
    "DEGRADE_OPERATORS",
    "READERS",
    "BlastnetReader",
    "CutoutReader",
    "DescribedReader",
    "FieldStore",
    "Hdf5Reader",
    "Reader",
    "StoreReader",
    "WellReader",
    "ZarrReader",
    "check_finite",
    "create_store",
    "degrade",
    "fetch",
    "field_template",
    "grid_of",
    "open_field",
    "store_checksum",
    "write_hdf5",
]
