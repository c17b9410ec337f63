"""One file of a watched folder, upscaled in a process of its own: whatever is wrong with it ends this process alone.

``python -m flowsr.flows.one_file JOB``, JOB the JSON of a :class:`Job`. How it ended is in its exit status, why in its
last line on stderr.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from flowsr.data import ReadOptions
from flowsr.data.open import read_options


class Ending(IntEnum):
    """Exit statuses."""

    DONE = 0
    REFUSED = 2
    NO_FIELD = 65
    STORAGE = 74
    BUSY = 69
    NOT_YET = 75


@dataclass(frozen=True)
class Job:
    """What to make of a file; see :func:`flowsr.upscale.upscale_store`.

    Args:
        replace: put the new store in place of the one that is there.
    """

    source: Path
    model: Path
    target: Path
    variable: str
    tile: int
    device: str
    options: ReadOptions = field(default_factory=ReadOptions)
    workers: int | None = None
    scheduler: str | None = None
    replace: bool = False

    def as_json(self) -> str:
        """For the command line."""
        return json.dumps({**vars(self), "options": self.options.declared()}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Of what :meth:`as_json` made."""
        values = json.loads(text)
        paths = {name: Path(values.pop(name)) for name in ("source", "model", "target")}
        options = {name: tuple(one) if isinstance(one, list) else one for name, one in values.pop("options").items()}
        return cls(**paths, **values, options=read_options(ReadOptions(), options))


def main(job: Job) -> Ending:
    """Do it, and tell how it ended."""
    from flowsr.flows.child import LASTING

    from flowsr.data import open_field
    from flowsr.errors import Busy, FlowsrError, UnknownFormat, Unreadable
    from flowsr.progress import plain_lines

    def told(ending: Ending, error: Exception) -> Ending:
        print(f"error: {' '.join(str(error).split())}", flush=True)
        return ending

    progress = plain_lines(lambda line: print(line, flush=True)).part(f"upscale {job.source.name}")
    try:
        open_field(job.source, job.options)
    except UnknownFormat as error:
        return told(Ending.NO_FIELD, error)
    except (Unreadable, OSError) as error:
        return told(Ending.NOT_YET, error)
    except FlowsrError as error:
        return told(Ending.REFUSED, error)
    from flowsr.pipeline import work  # what is no field was told before this takes its seconds

    how = (job.variable, job.tile, job.device, job.options, True, job.workers, job.scheduler, job.replace)
    try:
        work.upscale(job.source, job.model, job.target, *how, progress=progress)
    except Busy as error:
        return told(Ending.BUSY, error)
    except FlowsrError as error:
        return told(Ending.REFUSED, error)
    except LASTING as error:
        return told(Ending.REFUSED, error)
    except OSError as error:
        return told(Ending.STORAGE, error)
    return Ending.DONE


if __name__ == "__main__":
    sys.exit(main(Job.from_json(sys.argv[1])))
