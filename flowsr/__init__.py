"""flowsr: super-resolution of 3-D turbulence with a symmetry that is measured, not assumed.

Importing it needs neither Prefect, Dask nor Zarr. Where things live, in the order data flows:

- :mod:`flowsr.group`: the octahedral group and how fields transform under it;
- :mod:`flowsr.kernels`, :mod:`flowsr.nn`: relaxed group convolution, several ways, and the layers built on it;
- :mod:`flowsr.models`: interpolations and networks, all with one call;
- :mod:`flowsr.simulate`, :mod:`flowsr.data`: making turbulence, reading, degrading, splitting and cutting it;
- :mod:`flowsr.metrics`: what is right, and which symmetry is left;
- :mod:`flowsr.train`, :mod:`flowsr.upscale`, :mod:`flowsr.compare`, :mod:`flowsr.report`: the jobs, tied to settings by
  :mod:`flowsr.pipeline`.
"""

__version__ = "0.1.0"
