"""Fitting networks to coarse / fine pairs: one model at a time, resumable, the best weights kept."""

from flowsr.train.fit import HISTORY, read_history
from flowsr.train.job import baseline_options, data_options, resolve_options, train_model

__all__ = ["HISTORY", "baseline_options", "data_options", "read_history", "resolve_options", "train_model"]
