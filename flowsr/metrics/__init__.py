"""Physics metrics: torchmetrics classes over functional twins, collected by name in ``METRICS``."""

# The order of METRICS, which is that of a table's columns.
from flowsr.metrics import fields, spectra, gradients, equivariance, similarity  # noqa: F401  # isort: skip
from flowsr.metrics import breaking, consistency, curl, helicity as _helicity, invariants, alignment  # noqa: F401  # isort: skip
from flowsr.metrics import subgrid, lumley, channel as _channel  # noqa: F401  # isort: skip
from flowsr.metrics.alignment import (
    StrainAlignment,
    StrainEigenvalues,
    strain_eigenframe,
    strain_state,
    vorticity_alignment,
)
from flowsr.metrics.base import METRICS, Degrade, FieldMetric, InputMetric, ModelMetric, PooledMetric
from flowsr.metrics.breaking import (
    SymmetryBreaking,
    SymmetryBreakingError,
    equivariance_error_per_irrep,
    equivariance_error_per_shell,
    error_per_class,
    symmetry_breaking,
)
from flowsr.metrics.channel import WallProfiles, WallUnits, is_channel, wall_profiles
from flowsr.metrics.coherence import Coherence, coherence_per_wavenumber, cross_energy, good_up_to
from flowsr.metrics.consistency import ConsistencyError, consistency_error
from flowsr.metrics.curl import EnstrophyCaptured, enstrophy, enstrophy_captured, vorticity
from flowsr.metrics.derivatives import derivative, finite_differences, gradient
from flowsr.metrics.equivariance import EquivarianceError, equivariance_error
from flowsr.metrics.fields import (
    AbsoluteError,
    ComponentErrors,
    Correlation,
    NormalizedError,
    VarianceScaledError,
    correlation,
    largest_error,
    mean_absolute_error,
    nrmse,
    vrmse,
)
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
    gradient_scales,
    normalized_divergence,
    velocity_gradient,
)
from flowsr.metrics.helicity import Helicity, HelicitySpectrum, helicity, helicity_spectrum, relative_helicity
from flowsr.metrics.invariants import GradientInvariants, JointDensity, gradient_invariants, qr_joint_pdf, strain_scale
from flowsr.metrics.lumley import ReynoldsAnisotropy, anisotropy, lumley_invariants, reynolds_stress
from flowsr.metrics.one_dimensional import LineSpectra, WallSpectra, line_spectra, line_spectrum
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity, physical_unit
from flowsr.metrics.ranges import SpectralRanges, compensated_spectrum, dissipation_spectrum
from flowsr.metrics.scales import flow_statistics
from flowsr.metrics.selection import chosen_metrics
from flowsr.metrics.sharing import shared_work
from flowsr.metrics.shells import cutoff_wavenumber
from flowsr.metrics.similarity import ComponentSimilarity, StructuralSimilarity, data_range_of, gaussian_mean, ssim
from flowsr.metrics.spectra import (
    Spectrum,
    energy_spectrum,
    field_error_per_wavenumber,
    nrmse_beyond,
    spectral_error,
    spectral_error_per_wavenumber,
)
from flowsr.metrics.streaming import measure_datasets, measure_in_tiles
from flowsr.metrics.structure_functions import StructureFunctions, VelocityIncrements, structure_functions
from flowsr.metrics.subgrid import (
    SubgridStress,
    block_mean,
    energy_transfer,
    subgrid_stress,
    subgrid_stress_correlation,
    subgrid_stress_error,
)

__all__ = [
    "METRICS",
    "AbsoluteError",
    "Coherence",
    "ComponentErrors",
    "ComponentSimilarity",
    "ConsistencyError",
    "Correlation",
    "Curve",
    "CurveQuantity",
    "Degrade",
    "DerivativeMoments",
    "DissipationCaptured",
    "Divergence",
    "EnstrophyCaptured",
    "EquivarianceError",
    "FieldMetric",
    "GradientInvariants",
    "GradientPdf",
    "Helicity",
    "HelicitySpectrum",
    "InputMetric",
    "JointDensity",
    "LineSpectra",
    "ModelMetric",
    "NormalizedError",
    "PooledMetric",
    "Quantity",
    "ReynoldsAnisotropy",
    "SpectralRanges",
    "Spectrum",
    "StrainAlignment",
    "StrainEigenvalues",
    "StructuralSimilarity",
    "StructureFunctions",
    "SubgridStress",
    "SymmetryBreaking",
    "SymmetryBreakingError",
    "VarianceScaledError",
    "VelocityIncrements",
    "WallProfiles",
    "WallSpectra",
    "WallUnits",
    "anisotropy",
    "block_mean",
    "chosen_metrics",
    "coherence_per_wavenumber",
    "compensated_spectrum",
    "consistency_error",
    "correlation",
    "cross_energy",
    "cutoff_wavenumber",
    "data_range_of",
    "derivative",
    "derivative_flatness",
    "derivative_skewness",
    "dissipation",
    "dissipation_captured",
    "dissipation_spectrum",
    "energy_spectrum",
    "energy_transfer",
    "enstrophy",
    "enstrophy_captured",
    "equivariance_error",
    "equivariance_error_per_irrep",
    "equivariance_error_per_shell",
    "error_per_class",
    "field_error_per_wavenumber",
    "finite_differences",
    "flow_statistics",
    "gaussian_mean",
    "good_up_to",
    "gradient",
    "gradient_invariants",
    "gradient_pdf",
    "gradient_scales",
    "helicity",
    "helicity_spectrum",
    "is_channel",
    "largest_error",
    "line_spectra",
    "line_spectrum",
    "lumley_invariants",
    "mean_absolute_error",
    "measure_datasets",
    "measure_in_tiles",
    "normalized_divergence",
    "nrmse",
    "nrmse_beyond",
    "physical_unit",
    "qr_joint_pdf",
    "relative_helicity",
    "reynolds_stress",
    "shared_work",
    "spectral_error",
    "spectral_error_per_wavenumber",
    "ssim",
    "strain_eigenframe",
    "strain_scale",
    "strain_state",
    "structure_functions",
    "subgrid_stress",
    "subgrid_stress_correlation",
    "subgrid_stress_error",
    "symmetry_breaking",
    "velocity_gradient",
    "vorticity",
    "vorticity_alignment",
    "vrmse",
    "wall_profiles",
]
