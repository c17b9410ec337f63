"""flowsr's own log lines in the log of the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.handlers import APILogHandler


@contextmanager
def logs_of_run() -> Iterator[None]:
    """While it is open, what flowsr logs from INFO on goes to the run's log as well, wherever the run was started."""
    logger = logging.getLogger("flowsr")
    level = logger.level
    added = [] if any(isinstance(handler, APILogHandler) for handler in logger.handlers) else [APILogHandler()]
    logger.handlers += added
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in added:
            logger.removeHandler(handler)
