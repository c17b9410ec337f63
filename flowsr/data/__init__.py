"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data.blastnet import BlastnetReader
from flowsr.data.convert import convert
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade
from flowsr.data.described import DescribedReader
from flowsr.data.fetch import fetch
from flowsr.data.formats import READERS, Reader
from flowsr.data.hdf5 import Hdf5Reader, write_hdf5
from flowsr.data.inspect import Inspection, inspect
from flowsr.data.jhtdb import CutoutReader, StoreReader
from flowsr.data.layout import field_template, grid_of
from flowsr.data.netcdf3 import Netcdf3Reader
from flowsr.data.openfoam import OpenfoamReader
from flowsr.data.quality import check_finite
from flowsr.data.readers import open_field
from flowsr.data.store import FieldStore, create_store, store_checksum
from flowsr.data.vtk_reader import VtkReader
from flowsr.data.well import WellReader
from flowsr.data.xdmf import XdmfReader
from flowsr.data.zarr_reader import ZarrReader

__all__ = [
    "DEGRADE_OPERATORS",
    "READERS",
    "BlastnetReader",
    "CutoutReader",
    "DescribedReader",
    "FieldStore",
    "Hdf5Reader",
    "Inspection",
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
    "store_checksum",
    "write_hdf5",
]
