"""Experiments as data: what may be set (:mod:`flowsr.config.schema`) and how it is read (:mod:`flowsr.config.load`)."""
