"""prefect.yaml is right, and a worker really does what a schedule says."""

import asyncio
import inspect
import subprocess
from typing import get_type_hints

import pytest
import yaml
from flowsr.flows import experiment
from flowsr.flows.experiment import STAGES
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.importtools import from_qualified_name
from prefect.utilities.templating import apply_values
from pydantic import TypeAdapter

from flowsr.config.study import Experiment, load_experiment
from flowsr.data import open_field, write_hdf5
from flowsr.files import file_checksum, read_json
from tests.experiments import write_tiny
from tests.flows.conftest import HOME, PREFECT, REPOSITORY, Background, environment
from tests.flows.fields import coarse_field, save_small_model
from tests.flows.test_experiment import ask

PROJECT = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in PROJECT["deployments"]}


@pytest.fixture
def outputs(monkeypatch):
    """What the build steps work out in the folder of the repository."""
    monkeypatch.chdir(REPOSITORY)
    found = {}
    for step in PROJECT["build"]:
        ((name, inputs),) = step.items()
        given = {key: value for key, value in inputs.items() if key != "id"}
        output = from_qualified_name(name)(**given)
        found[inputs["id"]] = asyncio.run(output) if inspect.iscoroutine(output) else output
    return found


def test_workers_go_to_the_folder_that_was_deployed_from(outputs):
    (step,) = apply_values(PROJECT["pull"], outputs)
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(REPOSITORY)}}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_deployments_name_a_flow_its_parameters_and_a_schedule(name, outputs):
    deployment = apply_values(DEPLOYMENTS[name], outputs)
    entry = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    hints = get_type_hints(entry.fn)
    inspect.signature(entry.fn).bind(**deployment["parameters"])
    for parameter, value in deployment["parameters"].items():
        TypeAdapter(hints[parameter]).validate_python(value)
    assert [CronSchedule(**schedule) for schedule in deployment["schedules"]]
    assert deployment["work_pool"]["name"] == "flowsr"


def test_the_nightly_experiment_is_the_demo(outputs):
    nightly = Experiment.model_validate(apply_values(DEPLOYMENTS["nightly"]["parameters"], outputs)["experiment"])
    assert nightly == load_experiment("configs/demo.yaml")
    watched = DEPLOYMENTS["watched-folder"]["parameters"]
    assert watched["model"] == str(nightly.output / "models" / "relaxed") and "relaxed" in nightly.train.models


@pytest.mark.parametrize("name", ["simulate", "ingest", "train", "upscale", "compare", "pipeline"])
def test_the_form_of_a_flow_is_the_experiments_own_schema(name):
    entry = getattr(experiment, name)
    assert isinstance(entry, Flow)
    form = entry.parameters
    expected = Experiment.model_json_schema()["properties"]
    shown = form.definitions["Experiment"]["properties"]
    assert form.properties["experiment"]["$ref"] == "#/definitions/Experiment"
    assert shown.keys() == expected.keys()
    assert all(shown[key].get("description") == value.get("description") for key, value in expected.items())
    assert form.required == ["experiment"]


def published(text: str) -> dict:
    """The `prefect.yaml` that docs/scheduling.md shows."""
    return yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])


@pytest.mark.parametrize(
    "entrypoint",
    [f"flowsr.flows.experiment.{name}" for name in ("pipeline", "compare_study", *STAGES)]
    + ["flowsr.flows.symmetry.symmetry", "flowsr.flows.upscale_inbox.upscale_new_files"],
)
def test_every_flow_is_found_by_the_name_of_its_module(entrypoint):
    entry = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    assert isinstance(entry, Flow) and entry.fn.__name__ == entrypoint.rpartition(".")[2]


@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_a_scheduled_run_upscales_what_was_dropped_into_the_folder(server, tmp_path):
    inbox, outbox, model = tmp_path / "inbox", tmp_path / "outbox", save_small_model(tmp_path / "model")
    inbox.mkdir()
    settings = environment(PREFECT_API_URL=server)
    parameters = {"inbox": inbox, "outbox": outbox, "model": model, "device": "cpu", "settle": 0}
    given = [f"--param={key}={value}" for key, value in parameters.items()]

    def prefect(*arguments):
        command = [*PREFECT, *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, env=settings, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr

    def completed():
        flows = {"name": {"any_": ["upscale-new-files"]}}
        runs = ask(server, "/flow_runs/filter", flows=flows, flow_runs={"state": {"name": {"any_": ["Completed"]}}})
        return [run for run in runs if run["auto_scheduled"] and run["state"]["message"].startswith("1 upscaled")]

    prefect("work-pool", "create", "flowsr", "--type", "process", "--overwrite")
    prefect("deploy", "--name", "watched-folder", "--cron", "* * * * * */10", *given)
    worker = [*PREFECT, "worker", "start", "--pool", "flowsr", "--limit", "1"]
    with Background(worker, HOME / "worker.log", env=settings, cwd=tmp_path) as started:
        source = write_hdf5(coarse_field(), inbox / "dropped.h5")
        run = started.wait_for(completed, 900, "a scheduled run upscaled the file")[0]
    store = outbox / "dropped.h5.zarr"
    assert open_field(store).velocity.shape == (2, 3, 8, 8, 8)
    assert read_json(outbox / "dropped.h5.json")["inputs"]["dropped.h5"] == file_checksum(source)
    assert run["work_pool_name"] == "flowsr" and run["deployment_id"]


@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_what_is_written_without_the_clone_is_deployed(server, tmp_path):
    told = published((REPOSITORY / "docs" / "scheduling.md").read_text())
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(told))
    mine = write_tiny(tmp_path).rename(tmp_path / "mine.yaml")
    settings = environment(PREFECT_API_URL=server)
    for arguments in (
        ["work-pool", "create", "flowsr", "--type", "process", "--overwrite"],
        ["deploy", "--name", "nightly"],
    ):
        done = subprocess.run(
            [*PREFECT, *arguments], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (deployment,) = ask(server, "/deployments/filter", deployments={"name": {"any_": ["nightly"]}})
    assert deployment["entrypoint"] == "flowsr.flows.experiment.pipeline"
    assert Experiment.model_validate(deployment["parameters"]["experiment"]) == load_experiment(mine)
    (step,) = deployment["pull_steps"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}
