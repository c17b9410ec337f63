"""Run a Python module that dies with whoever started it: ``python -m flowsr.flows.lifeline MODULE ARGUMENTS``.

Standard input is the line to the parent. When it ends, because the parent has let go or was killed, so does this
process and everything in its process group.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
