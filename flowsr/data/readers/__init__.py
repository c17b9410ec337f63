"""Readers of foreign layouts, one module a format; :mod:`flowsr.data.open` finds the one for a file."""
