"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data.convert import convert
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade
from flowsr.data.field import field_template, grid_of
from flowsr.data.inspect import Inspection, inspect
from flowsr.data.manifest import Manifest, fetch, read_manifest
from flowsr.data.open import open_field
from flowsr.data.quality import check_finite
from flowsr.data.readers.base import READERS, Reader
from flowsr.data.readers.blastnet import BlastnetReader
from flowsr.data.readers.described import DescribedReader
from flowsr.data.readers.hdf5 import Hdf5Reader, write_hdf5
from flowsr.data.readers.jhtdb import CutoutReader, StoreReader
from flowsr.data.readers.netcdf import Netcdf3Reader
from flowsr.data.readers.openfoam import OpenfoamReader
from flowsr.data.readers.vtk import VtkReader, XdmfReader
from flowsr.data.readers.well import WellReader
from flowsr.data.readers.zarr import ZarrReader
from flowsr.data.store import FieldStore, create_store, store_checksum

__all__ = [
    "DEGRADE_OPERATORS",
    "READERS",
    "BlastnetReader",
    "CutoutReader",
    "DescribedReader",
    "FieldStore",
    "Hdf5Reader",
    "Inspection",
    "Manifest",
    "Netcdf3Reader",
    "OpenfoamReader",
    "Reader",
    "StoreReader",
    "VtkReader",
    "WellReader",
    "XdmfReader",
    "ZarrReader",
    "check_finite",
    "convert",
    "create_store",
    "degrade",
    "fetch",
    "field_template",
    "grid_of",
    "inspect",
    "open_field",
    "read_manifest",
    "store_checksum",
    "write_hdf5",
]
