"""`flowsr verify`, and what a damaged output means for the steps that would use it."""

import shutil

import pytest
import torch

from flowsr.cli import main
from flowsr.errors import FlowsrError
from flowsr.files import CHECKSUMS, SMALL, Sum, file_checksum, read_sums, write_sums
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model
from flowsr.pipeline.steps import Step, perform
from flowsr.pipeline.verify import verify
from tests.data.fields import random_field, store_field

FIELD = random_field(Grid((4, 6, 4)), [0.0])


@pytest.fixture
def run(tmp_path):
    """A folder like that of a run: a step that made a store and a text, a model, and a store of no step."""
    folder = tmp_path / "run"
    step = Step("make", folder / "run.json", (folder / "split", folder / "table.csv"), {"a": 1})

    def work():
        store_field(FIELD, folder / "split" / "a.zarr", chunk=2, shard=4)
        (folder / "table.csv").write_text("1,2\n")

    assert not perform(step, work).reused
    card = ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})
    torch.manual_seed(0)
    model = card.build()
    save_model(folder / "model", model, card)
    weights = file_checksum(folder / "model" / "model.safetensors")
    save_model(folder / "model", model, ModelCard(card.model, card.task, card.options, {"weights_sha256": weights}))
    store_field(FIELD, folder / "own.zarr")
    return folder, step, work


@pytest.mark.parametrize(
    "name", ["split/a.zarr/velocity/c/0/0/0/1/0", "split/a.zarr/x/c/0", "table.csv", "model/model.safetensors"]
)
def test_a_flipped_bit_is_found_and_named(run, name, capsys):
    folder, _, _ = run
    found = verify(folder)
    assert found.checked == 4 and not found.damaged and not found.unchecked and found.bytes > 1000
    assert main(["verify", str(folder)]) == 0
    assert "4 as they were written" in capsys.readouterr().out
    file = folder / name
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    (damage,) = verify(folder).damaged
    assert damage.file == file and file_checksum(file) in damage.found
    assert main(["verify", str(folder)]) == 2
    said = capsys.readouterr()
    assert str(file) in said.out and said.err.splitlines()[-1].startswith("error: 1 file is not as written")


def test_a_store_and_what_has_no_checksums(run, tmp_path, capsys):
    folder, _, _ = run
    assert verify(folder / "own.zarr").checked == 1
    (folder / "own.zarr" / "y" / "c" / "0").unlink()
    (damage,) = verify(folder / "own.zarr").damaged
    assert damage.found == "no such file"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlowsrError, match="nothing here has a checksum"):
        verify(tmp_path / "empty")
    assert main(["verify", str(tmp_path / "nothing")]) == 2


def test_the_files_of_a_manifest(run, tmp_path):
    shutil.copy(run[0] / "table.csv", tmp_path / "a.dat")
    shutil.copy(run[0] / "table.csv", tmp_path / "b.dat")
    text = "name: own\ndescription: own\nsource: us\nlicence: MIT\nvariables: {velocity: {irreps: 1o}}\nfiles:\n"
    text += f"  a: {{path: a.dat, sha256: {file_checksum(tmp_path / 'a.dat')}}}\n  b: b.dat\n"
    (tmp_path / "data.yaml").write_text(text)
    found = verify(tmp_path / "data.yaml")
    assert found.checked == 1 and not found.damaged and [path.name for path in found.unchecked] == ["b.dat"]
    (tmp_path / "a.dat").write_text("other")
    (damage,) = verify(tmp_path / "data.yaml").damaged
    assert damage.file == tmp_path / "a.dat"


def test_a_step_whose_output_lost_a_shard_is_done_again(run, caplog):
    folder, step, work = run
    assert perform(step, work).reused
    (folder / "split" / "a.zarr" / "velocity" / "c" / "0" / "0" / "0" / "1" / "0").unlink()
    assert not perform(step, work).reused and "not as it was written" in caplog.text
    assert not verify(folder).damaged


def test_a_flipped_bit_is_noticed_by_a_step_that_is_asked_to_look(run):
    folder, step, work = run
    file = folder / "split" / "a.zarr" / "velocity" / "c" / "0" / "0" / "0" / "1" / "0"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    assert perform(step, work).reused
    assert not perform(step, work, verify=True).reused
    assert not verify(folder).damaged


def test_no_lock_is_left_behind(run):
    assert not [path for path in run[0].rglob("*.lock")]


def test_a_store_is_looked_at_before_it_is_used_again_where_that_is_asked_for(tmp_path, capsys):
    store_field(FIELD, tmp_path / "a.zarr")
    save_model(tmp_path / "model", build_model("trilinear", Task(2)), ModelCard("trilinear", Task(2)))
    commands = {
        "b.zarr": ["convert", "a.zarr", "b.zarr"],
        "c.zarr": ["upscale", "--input", "a.zarr", "--model", "model", "--output", "c.zarr", "--no-metrics"],
    }
    for name, command in commands.items():
        command = [str(tmp_path / word) if (tmp_path / word).exists() or word == name else word for word in command]
        assert main(command) == 0
        file = next(path for path in (tmp_path / name / "velocity" / "c").rglob("*") if path.is_file())
        whole = bytearray(bytes(SMALL) + file.read_bytes())  # as large as one that is not read without being asked
        sums = next((tmp_path / name).rglob(CHECKSUMS))
        written = read_sums(sums)
        key = file.relative_to(tmp_path / name).as_posix()
        file.write_bytes(whole)
        write_sums(sums, {**written, key: Sum.of(file)})
        assert main([*command, "--verify"]) == 0
        whole[0] ^= 1
        file.write_bytes(whole)
        assert main(command) == 0
        capsys.readouterr()
        assert main([*command, "--verify"]) == 2
        assert "this store is damaged" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["run", "simulate", "ingest", "train", "upscale", "compare", "symmetry", "tracks"])
def test_every_command_that_uses_results_again_can_be_asked_to_look(command, capsys):
    assert main([command, "--help"]) == 0
    assert "--verify" in capsys.readouterr().out
