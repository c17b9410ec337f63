"""The pages: a comparison (of an experiment or a study) and a symmetry discovery, each one HTML file."""
