"""Windows of consecutive snapshots: what a model that sees several coarse frames is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsr.errors import FlowsrError

#: Steps in time that differ by less than this share are equal: output steps follow a CFL number, not a ruler.
EQUAL_STEPS = 0.01

#: Frames this much farther apart or closer together than those trained on are another input altogether.
SAME_SPACING = 0.05


@dataclass(frozen=True)
class Window:
    """The frames that one target needs.

    Args:
        frames: k, consecutive snapshots of one run at equal steps in time.
        target: which of them is wanted fine: 0 to k - 1, or counted from the last, -1.

    Raises:
        ValueError: no frames, or a target that is not one of them.
    """

    frames: int = 1
    target: int = -1

    def __post_init__(self):
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        if not -self.frames <= self.target < self.frames:
            raise ValueError(f"target_frame must be one of {self.frames} frames, got {self.target}")

    @property
    def before(self) -> int:
        """Frames older than the target."""
        return self.target % self.frames

    def around(self, time: int) -> range:
        """Indices of the frames of the window whose target is snapshot ``time``, oldest first."""
        return range(time - self.before, time - self.before + self.frames)

    def targets(self, times, file=None) -> list[int]:
        """Snapshots for which a whole window exists.

        A window does not reach across a hole in the record: all its steps are equal to the run's usual one.

        Args:
            times: (n,) increasing times of one run.
            file: what to name in an error.

        Raises:
            FlowsrError: a run without any window.
        """
        times = np.asarray(times, dtype=float)
        if self.frames == 1:
            return list(range(len(times)))
        steps = np.diff(times)
        even = np.abs(steps - np.median(steps)) <= EQUAL_STEPS * np.median(steps) if len(steps) else steps > 0
        starts = [i for i in range(len(times) - self.frames + 1) if even[i : i + self.frames - 1].all()]
        if not starts:
            where = {"variable": "time", "expected": f"{self.frames} or more", "found": f"{len(times)} snapshots"}
            message = f"no {self.frames} consecutive snapshots at equal steps in time"
            raise FlowsrError(message, file=file, **where, hint="use fewer frames")
        return [start + self.before for start in starts]

    def spacing(self, times) -> float | None:
        """The run's usual step in time; None for one frame, which has no neighbor, or for a run too short."""
        times = np.asarray(times, dtype=float)
        return None if self.frames == 1 or len(times) < 2 else float(np.median(np.diff(times)))


def check_spacing(found: float | None, expected: float | None, file=None) -> None:
    """Refuse frames that are not as far apart in time as those a model was trained on.

    What k frames tell beyond one is how fast the flow changes; frames at another distance say it in another unit.

    Args:
        found: spacing of the frames at hand.
        expected: of those trained on; None where it is not known, or does not matter.

    Raises:
        FlowsrError: spacings that differ by more than ``SAME_SPACING``.
    """
    if found is None or expected is None or abs(found - expected) <= SAME_SPACING * expected:
        return
    where = {"expected": f"{expected:.6g}, give or take {SAME_SPACING:.0%}", "found": f"{found:.6g}"}
    message, hint = "frames at another distance in time than the model was trained on", "store snapshots at its step"
    raise FlowsrError(message, file=file, variable="time", **where, hint=f"{hint}, or train on this one")
