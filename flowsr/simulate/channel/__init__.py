"""Direct numerical simulation of the plane channel: Fourier along x and z, Chebyshev between the walls."""

from flowsr.simulate.channel.solver import ChannelSolver, MeanDrive
from flowsr.simulate.channel.space import ChannelSpace
from flowsr.simulate.channel.start import PROFILES, bulk_velocity, disturbed, turbulent_profile
from flowsr.simulate.channel.statistics import PROFILE_COLUMNS, ChannelStatistics, ProfileSums, profile_table

__all__ = ["PROFILES", "ChannelSolver", "ChannelSpace", "MeanDrive", "bulk_velocity", "disturbed", "turbulent_profile"]
__all__ += ["PROFILE_COLUMNS", "ChannelStatistics", "ProfileSums", "profile_table"]
