"""The stages of an experiment, one after another, each done once (:mod:`flowsr.pipeline.stages`)."""
