"""All tests, and the processes they start, compute on one thread: sums come out the same whoever else is busy."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
