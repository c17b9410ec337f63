"""A flow with its settings read from a file: from a terminal, or for ``prefect deploy``.

python -m flowsr.flows.experiment configs/demo.yaml --set seed=1
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from prefect import Flow

from flowsr.cli import Fresh, Overrides
from flowsr.config.study import is_study, load_experiment, load_study
from flowsr.errors import FlowsrError

Settings = Annotated[Path, cyclopts.Parameter(help="What to do, a YAML file (see configs/).")]


def launch(
    flow: Flow,
    *stages: Flow,
    arguments: list[str] | None = None,
    load: Callable[[Path, Sequence[str]], Any] = load_experiment,
    study: Flow | None = None,
) -> None:
    """Run ``flow`` as the command line says and leave with 0, or with 2 after one line on stderr.

    Args:
        flow: takes what ``load`` gives, and ``fresh``.
        stages: flows that take the same, run instead where the first argument is their name.
        arguments: default: the process's.
        load: reads settings from a YAML file, with overrides; default: an experiment's.
        study: run instead of the flows ``pipeline`` and ``compare`` where the file is a study.
    """
    module = Path(sys.modules[flow.fn.__module__].__file__ or flow.name).stem
    app = cyclopts.App(name=f"python -m flowsr.flows.{module}", help=flow.description, version_flags=[])

    def command(flow: Flow) -> Callable[..., None]:
        def run(config: Settings, *, set: Overrides = None, fresh: Fresh = False) -> None:
            of_study = study is not None and flow.name in ("pipeline", "compare") and is_study(config)
            work, read = (study, load_study) if of_study else (flow, load)
            state = work(read(config, set or ()), fresh=fresh, return_state=True)
            if not state.is_completed():
                raise FlowsrError(state.message or state.name)
            print(state.message)

        return run

    app.default(command(flow))
    for stage in stages:
        app.command(command(stage), name=stage.name, help=stage.description)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (FlowsrError, cyclopts.CycloptsError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def read_experiment(config: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Build step of ``prefect.yaml``: an experiment's file as a flow's parameter, every default written out.

    Args:
        config: YAML file, relative to the folder deployed from.
        overrides: ``a.b=value`` strings, as after ``--set``.

    Returns:
        ``{"experiment": ...}``, for ``{{ ID.experiment }}`` where the step has ``id: ID``.
    """
    return {"experiment": load_experiment(config, overrides).model_dump(mode="json")}
