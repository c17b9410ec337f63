"""Physics metrics: torchmetrics classes over functional twins, collected by name in ``METRICS``."""

from flowsr.metrics import fields, spectra, gradients, equivariance  # noqa: F401  # isort: skip  (the order of METRICS)
from flowsr.metrics import breaking  # noqa: F401  # isort: skip
from flowsr.metrics.base import METRICS, FieldMetric, ModelMetric, PooledMetric
from flowsr.metrics.breaking import (
    SymmetryBreaking,
    SymmetryBreakingError,
    equivariance_error_per_irrep,
    equivariance_error_per_shell,
    error_per_class,
    symmetry_breaking,
)
from flowsr.metrics.derivatives import derivative, gradient
from flowsr.metrics.equivariance import EquivarianceError, equivariance_error
from flowsr.metrics.fields import NormalizedError, nrmse
from flowsr.metrics.flow import flow_statistics
from flowsr.metrics.gradients import (
    DerivativeMoments,
    DissipationCaptured,
    Divergence,
    GradientPdf,
    derivative_flatness,
    derivative_skewness,
    dissipation,
    dissipation_captured,
    gradient_pdf,
    normalized_divergence,
    velocity_gradient,
)
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity, physical_unit
from flowsr.metrics.selection import chosen_metrics
from flowsr.metrics.sharing import shared_work
from flowsr.metrics.shells import cutoff_wavenumber
from flowsr.metrics.spectra import (
    Spectrum,
    energy_spectrum,
    field_error_per_wavenumber,
    nrmse_beyond,
    spectral_error,
    spectral_error_per_wavenumber,
)

__all__ = [
    "METRICS",
    "Curve",
    "CurveQuantity",
    "DerivativeMoments",
    "DissipationCaptured",
    "Divergence",
    "EquivarianceError",
    "FieldMetric",
    "GradientPdf",
    "ModelMetric",
    "NormalizedError",
    "PooledMetric",
    "Quantity",
    "Spectrum",
    "SymmetryBreaking",
    "SymmetryBreakingError",
    "chosen_metrics",
    "cutoff_wavenumber",
    "derivative",
    "derivative_flatness",
    "derivative_skewness",
    "dissipation",
    "dissipation_captured",
    "energy_spectrum",
    "equivariance_error",
    "equivariance_error_per_irrep",
    "equivariance_error_per_shell",
    "error_per_class",
    "field_error_per_wavenumber",
    "flow_statistics",
    "gradient",
    "gradient_pdf",
    "normalized_divergence",
    "nrmse",
    "nrmse_beyond",
    "physical_unit",
    "shared_work",
    "spectral_error",
    "spectral_error_per_wavenumber",
    "symmetry_breaking",
    "velocity_gradient",
]
