"""A model from flat words, as tests vary them one at a time."""

from flowsr.models import Task, build_model
from flowsr.windows import Window


def model_of(name, factor=2, irreps="1o", scale=None, frames=1, target_frame=-1, **options):
    return build_model(name, Task(factor, irreps, scale, Window(frames, target_frame)), **options)
