"""`flowsr verify`: whether stores, models, finished steps and the files of a manifest still are what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsr.data.manifest import files_of, is_manifest, read_manifest
from flowsr.data.store import damage_in, is_store
from flowsr.errors import FlowsrError, missing_file
from flowsr.files import CHECKSUMS, Damage, files_in, read_json, tree_checksum
from flowsr.models.checkpoint import CARD, WEIGHTS
from flowsr.progress import SILENT, Progress


@dataclass(frozen=True)
class Verified:
    """What a verification found.

    Args:
        checked: stores, files and outputs of steps whose checksums were compared.
        bytes: how much was read.
        damaged: files that are not as they were written.
        unchecked: models and files of manifests without a checksum to compare with.
    """

    checked: int
    bytes: int
    damaged: tuple[Damage, ...]
    unchecked: tuple[Path, ...]


@dataclass(frozen=True)
class _Claim:
    """What something should be: by the checksum written down elsewhere, or by those within a store."""

    path: Path
    sha256: str | None = None

    @property
    def bytes(self) -> int:
        files = files_in(self.path) if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.exists())

    def damage(self, progress: Progress) -> list[Damage]:
        if self.sha256 is None:
            return damage_in(self.path, progress=progress)
        if not self.path.exists():
            return [Damage(self.path, f"sha256 {self.sha256}", "no such file")]
        read, total = 0, max(1, self.bytes)

        def told(count: int) -> None:
            nonlocal read
            read += count
            progress(min(1.0, read / total), "")

        found = tree_checksum(self.path, told)
        if found == self.sha256:
            return []
        return within(self.path) or [Damage(self.path, f"sha256 {self.sha256}", found)]


def verify(path: Path, *, progress: Progress = SILENT) -> Verified:
    """Compare every checksum that is written down in, or for, a path with what is on the disk now.

    Args:
        path: a Zarr store that flowsr wrote, a model's folder, a manifest, or a folder with any of these and with the
            records of finished steps, such as that of a run.
        progress: told the fraction read.

    Raises:
        FlowsrError: no such file, or nothing there whose checksum is known.
    """
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    claims, unchecked = [], []
    for claim in _claims_of_manifest(path) if is_manifest(path) else _claims_in(path):
        (unchecked if claim.sha256 == "" else claims).append(claim)
    if not claims:
        expected = "a store, a model, a run's folder or a manifest with sha256"
        raise FlowsrError("nothing here has a checksum", file=path, expected=expected)
    sizes = [claim.bytes for claim in claims]
    damaged, done, total = [], 0, max(1, sum(sizes))
    for claim, size in zip(claims, sizes):
        ends = done / total, (done + size) / total
        damaged += claim.damage(progress.share(*ends))
        done += size
        progress(done / total, f"{claim.path.name}{f', {len(damaged)} damaged' if damaged else ''}")
    return Verified(len(claims), done, tuple(dict.fromkeys(damaged)), tuple(claim.path for claim in unchecked))


def within(path: Path, *, deep: bool = True) -> list[Damage]:
    """Which files are damaged in the stores of a folder."""
    return [one for store in _stores(path) for one in damage_in(store, deep=deep)]


def _claims_of_manifest(path: Path) -> Iterator[_Claim]:
    manifest = read_manifest(path)
    for run in manifest.files:
        yield from (_Claim(file.path, file.sha256 or "") for file in files_of(manifest, path, run))


def _claims_in(path: Path) -> Iterator[_Claim]:
    """Outputs of steps, weights, and the stores that are no step's output, each once."""
    known: list[Path] = []
    for file in [path] if path.is_file() else sorted(path.rglob("*.json")):
        if file.name in (CHECKSUMS, "zarr.json") or any(part.startswith(".") for part in file.relative_to(path).parts):
            continue
        content = read_json(file)
        for claim in [*_claims_of_record(file, content), *_claims_of_card(file, content)]:
            if claim.path not in known:
                known.append(claim.path)
                yield claim
    for store in _stores(path):
        if not any(store.is_relative_to(one) for one in known):
            yield _Claim(store)


def _claims_of_record(file: Path, content: Any) -> Iterator[_Claim]:
    match content:
        case {"step": str(), "status": "finished", "outputs": dict(outputs)}:
            for name, checksum in outputs.items():
                places = [folder / name for folder in (file.parent, file.parent.parent)]
                yield _Claim(next((place for place in places if place.exists()), places[0]), str(checksum))


def _claims_of_card(file: Path, content: Any) -> Iterator[_Claim]:
    match content:
        case {"model": str(), "training": dict(training)} if file.name == CARD:
            yield _Claim(file.with_name(WEIGHTS), str(training.get("weights_sha256", "")))


def _stores(path: Path) -> list[Path]:
    """Stores that flowsr published, at a path or under it, partial ones left out."""
    if is_store(path):
        return [path]
    found = sorted(file.parent for file in path.rglob("zarr.json") if is_store(file.parent))
    return [one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts)]
