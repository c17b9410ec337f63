"""Training and validation patches of an experiment's pairs."""

from __future__ import annotations

from pathlib import Path

from flowsr.data.pairs import pair_stores
from flowsr.data.patches import Augmentation, PatchPairs
from flowsr.train.fit import PatchPair
from flowsr.windows import Window


def patch_pair(
    pairs: Path,
    *,
    patch: int | None,
    halo: int,
    samples: int,
    seed: int,
    window: Window = Window(),
    augment: Augmentation | None = None,
) -> PatchPair:
    """Patches of the splits ``train`` and ``validation`` under ``pairs``.

    Validation draws the same patches at every epoch: each snapshot once where a patch is the whole box, otherwise as
    many patches as cover the split's volume once.

    Args:
        pairs: folder of the ingest stage.
        patch: coarse cells along a patch's side; None for the whole box.
        halo: coarse cells around a patch that are seen but not scored.
        samples: training patches per epoch.
        seed: of the draws.
        window: frames of a coarse patch.
        augment: what turns the training patches; those of the validation stay as they are.
    """

    def drawn(split: str, count: int, **options) -> PatchPairs:
        return PatchPairs(
            pair_stores(pairs, split),
            patch=patch,
            halo=halo,
            samples=count,
            seed=seed,
            frames=window.frames,
            target_frame=window.target,
            **options,
        )

    train, probe = drawn("train", samples, augment=augment), drawn("validation", 1)
    per_snapshot = 1
    for side, length in zip(probe.box.shape, probe.patch):
        per_snapshot *= -(-side // length)
    validation = drawn("validation", len(probe.snapshots) * per_snapshot)
    return PatchPair(train, validation, train.grid, train.halo, train.fine_grid)
