"""The same relaxed group convolution, computed several ways behind one call.

:func:`group_convolution` chooses; :func:`explain` says why; :func:`use_kernel` or ``FLOWSR_KERNEL`` force the choice.
``reference`` holds the formulas as loops, for tests.
"""

from flowsr.kernels import costs as _costs  # noqa: F401  registers the kernels
from flowsr.kernels import triton_kernel as _triton_kernel  # noqa: F401  registers the fused one
from flowsr.kernels.dispatch import KERNELS, Case, Choice, Kernel, explain, group_convolution, use_kernel
from flowsr.kernels.tables import ConvolutionTables

__all__ = ["KERNELS", "Case", "Choice", "ConvolutionTables", "Kernel", "explain", "group_convolution", "use_kernel"]
