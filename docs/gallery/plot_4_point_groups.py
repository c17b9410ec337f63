"""
Which symmetries does a flow have?
==================================

A flow's point group can be computed from its right-hand side: an element is kept if the solver's tendency of a
transformed field is the transformed tendency, at some shift. It is drawn as crystallographers draw it: axes, mirrors,
and where one general point goes.
"""

# %%
# Flows of the presets in ``configs/dns``, at a size at which the answer takes a second.

import matplotlib.pyplot as plt

from flowsr.report.figures.point_group import draw_point_group
from flowsr.simulate import Simulation, exact_group

flows = {
    "isotropic": Simulation(flow="forced_isotropic", cells=16),
    "Kolmogorov": Simulation(flow="kolmogorov", cells=16),
    "rotating": Simulation(flow="forced_isotropic", cells=16, rotation=(0, 0, 1)),
    "stratified": Simulation(flow="forced_isotropic", cells=16, stratification=(0, 0, 1)),
}
figure, panels = plt.subplots(1, len(flows), figsize=(12, 3.4), layout="constrained")
for axes, (name, declared) in zip(panels, flows.items(), strict=True):
    group = exact_group(declared)
    draw_point_group(axes, group)
    axes.set_title(f"{name}: {group.label}")
plt.show()
