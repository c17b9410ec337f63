"""All tests, and the processes they start, compute on one thread: sums come out the same whoever else is busy."""

import atexit
import os
import shutil
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# What the tests meet is noted in a place of their own.
if "FLOWSR_CACHE" not in os.environ:
    os.environ["FLOWSR_CACHE"] = tempfile.mkdtemp(prefix="flowsr-tests-")
    atexit.register(shutil.rmtree, os.environ["FLOWSR_CACHE"], ignore_errors=True)
