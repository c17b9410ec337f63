"""Experiments as data: what may be set (:mod:`flowsr.config.study`) and how it is read (:mod:`flowsr.settings`)."""
