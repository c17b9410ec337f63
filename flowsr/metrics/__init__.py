"""Physics metrics: torchmetrics classes over functional twins, collected by name in ``METRICS``."""

from flowsr.metrics.alignment import (
    StrainAlignment,
    StrainEigenvalues,
    strain_eigenframe,
    strain_state,
    vorticity_alignment,
)
from flowsr.metrics.base import (
    METRICS,
    Curve,
    CurveQuantity,
    Degrade,
    FieldMetric,
    InputMetric,
    ModelMetric,
    PooledMetric,
    Quantity,
    chosen_metrics,
    physical_unit,
    shared_work,
)
from flowsr.metrics.channel import (
    ReynoldsAnisotropy,
    WallProfiles,
    WallUnits,
    anisotropy,
    is_channel,
    lumley_invariants,
    reynolds_stress,
    wall_profiles,
)
from flowsr.metrics.coherence import Coherence, coherence_per_wavenumber, good_up_to
from flowsr.metrics.derivatives import derivative, finite_differences, gradient
from flowsr.metrics.equivariance import (
    EquivarianceError,
    SymmetryBreaking,
    SymmetryBreakingError,
    SymmetryShare,
    equivariance_error,
    equivariance_error_per_irrep,
    equivariance_error_per_shell,
    error_per_class,
    symmetry_breaking,
)
from flowsr.metrics.fields import (
    AbsoluteError,
    ComponentErrors,
    ConsistencyError,
    Correlation,
    NormalizedError,
    VarianceScaledError,
    consistency_error,
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
    EnstrophyCaptured,
    GradientPdf,
    derivative_flatness,
    derivative_skewness,
    dissipation,
    dissipation_captured,
    enstrophy,
    enstrophy_captured,
    gradient_pdf,
    gradient_scales,
    normalized_divergence,
    velocity_gradient,
    vorticity,
)
from flowsr.metrics.helicity import Helicity, HelicitySpectrum, helicity, helicity_spectrum, relative_helicity
from flowsr.metrics.invariants import GradientInvariants, JointDensity, gradient_invariants, qr_joint_pdf, strain_scale
from flowsr.metrics.one_dimensional import LineSpectra, WallSpectra, line_spectra, line_spectrum
from flowsr.metrics.scales import FlowScales, SpectralMoments, flow_scales, flow_statistics, spectral_moments
from flowsr.metrics.similarity import ComponentSimilarity, StructuralSimilarity, data_range_of, gaussian_mean, ssim
from flowsr.metrics.spectra import (
    SpectralRanges,
    Spectrum,
    compensated_spectrum,
    cutoff_wavenumber,
    dissipation_spectrum,
    energy_spectrum,
    field_error_per_wavenumber,
    nrmse_beyond,
    shell_energy,
    shell_sums,
    shells_of,
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

# The order of METRICS, which is that of a table's columns.
_REGISTERED: dict[str, type[PooledMetric]] = {
    "nrmse": NormalizedError,
    "vrmse": VarianceScaledError,
    "absolute_error": AbsoluteError,
    "correlation": Correlation,
    "components": ComponentErrors,
    "spectrum": Spectrum,
    "divergence": Divergence,
    "dissipation": DissipationCaptured,
    "derivative_moments": DerivativeMoments,
    "gradient_pdf": GradientPdf,
    "equivariance": EquivarianceError,
    "ssim": StructuralSimilarity,
    "component_ssim": ComponentSimilarity,
    "symmetry_breaking": SymmetryBreakingError,
    "symmetry_share": SymmetryShare,
    "consistency": ConsistencyError,
    "enstrophy": EnstrophyCaptured,
    "helicity": Helicity,
    "helicity_spectrum": HelicitySpectrum,
    "gradient_invariants": GradientInvariants,
    "alignment": StrainAlignment,
    "strain_eigenvalues": StrainEigenvalues,
    "subgrid_stress": SubgridStress,
    "anisotropy": ReynoldsAnisotropy,
    "walls": WallUnits,
    "coherence": Coherence,
    "line_spectra": LineSpectra,
    "wall_spectra": WallSpectra,
    "structure_functions": VelocityIncrements,
    "spectral_ranges": SpectralRanges,
}
for _name, _metric in _REGISTERED.items():
    METRICS.register(_name)(_metric)

# What a metric is, and all of them by name.
__all__ = ["METRICS", "Curve", "CurveQuantity", "Degrade", "FieldMetric", "InputMetric", "ModelMetric", "PooledMetric"]
__all__ += ["Quantity", "chosen_metrics", "measure_datasets", "measure_in_tiles", "physical_unit", "shared_work"]
# Errors of the field.
__all__ += ["AbsoluteError", "ComponentErrors", "ConsistencyError", "Correlation", "NormalizedError"]
__all__ += ["VarianceScaledError", "consistency_error", "correlation", "largest_error", "mean_absolute_error", "nrmse"]
__all__ += ["vrmse"]
__all__ += ["ComponentSimilarity", "StructuralSimilarity", "data_range_of", "gaussian_mean", "ssim"]
# Small scales.
__all__ += ["DerivativeMoments", "DissipationCaptured", "Divergence", "EnstrophyCaptured", "GradientPdf", "derivative"]
__all__ += ["derivative_flatness", "derivative_skewness", "dissipation", "dissipation_captured", "enstrophy"]
__all__ += ["enstrophy_captured", "finite_differences", "gradient", "gradient_pdf", "gradient_scales"]
__all__ += ["normalized_divergence", "velocity_gradient", "vorticity"]
__all__ += ["GradientInvariants", "JointDensity", "StrainAlignment", "StrainEigenvalues", "gradient_invariants"]
__all__ += ["qr_joint_pdf", "strain_eigenframe", "strain_scale", "strain_state", "vorticity_alignment"]
__all__ += ["Helicity", "HelicitySpectrum", "SubgridStress", "block_mean", "energy_transfer", "helicity"]
__all__ += ["helicity_spectrum", "relative_helicity", "subgrid_stress", "subgrid_stress_correlation"]
__all__ += ["subgrid_stress_error"]
# Scale by scale.
__all__ += ["SpectralRanges", "Spectrum", "compensated_spectrum", "cutoff_wavenumber", "dissipation_spectrum"]
__all__ += ["energy_spectrum", "field_error_per_wavenumber", "nrmse_beyond", "shell_energy", "shell_sums", "shells_of"]
__all__ += ["spectral_error", "spectral_error_per_wavenumber"]
__all__ += ["Coherence", "LineSpectra", "StructureFunctions", "VelocityIncrements", "WallSpectra"]
__all__ += ["coherence_per_wavenumber", "good_up_to", "line_spectra", "line_spectrum", "structure_functions"]
__all__ += ["FlowScales", "SpectralMoments", "flow_scales", "flow_statistics", "spectral_moments"]
# Walls, and symmetry.
__all__ += ["ReynoldsAnisotropy", "WallProfiles", "WallUnits", "anisotropy", "is_channel", "lumley_invariants"]
__all__ += ["reynolds_stress", "wall_profiles"]
__all__ += ["EquivarianceError", "SymmetryBreaking", "SymmetryBreakingError", "SymmetryShare", "equivariance_error"]
__all__ += ["equivariance_error_per_irrep", "equivariance_error_per_shell", "error_per_class", "symmetry_breaking"]
