"""Fields on disk: the one layout, readers and writers, degrading, splitting in time, pairs and patches."""

from flowsr.data.convert import convert
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade
from flowsr.data.field import field_template, grid_of
from flowsr.data.inspect import Inspection, inspect
from flowsr.data.manifest import Manifest, fetch, read_manifest
from flowsr.data.open import Input, ReadOptions, open_field
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
    "Input",
    "Inspection",
    "Manifest",
    "check_finite",
    "convert",
    "fetch",
    "inspect",
    "open_field",
    "read_manifest",
]
__all__ += ["DEGRADE_OPERATORS", "FieldStore", "create_store", "degrade", "field_template", "grid_of", "store_checksum"]
# Formats.
__all__ += ["READERS", "BlastnetReader", "CutoutReader", "DescribedReader", "Hdf5Reader", "Netcdf3Reader"]
__all__ += [
    "OpenfoamReader",
    "ReadOptions",
    "Reader",
    "StoreReader",
    "VtkReader",
    "WellReader",
    "XdmfReader",
    "ZarrReader",
]
__all__ += ["write_hdf5"]
