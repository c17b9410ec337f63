"""A flow from a terminal, its experiment from a file: ``python -m flowsr.flows.pipeline configs/demo.yaml --set seed=1``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from prefect import Flow

from flowsr.cli import Fresh, Overrides
from flowsr.config.load import load_experiment
from flowsr.config.study import is_study, load_study
from flowsr.errors import FlowsrError

Settings = Annotated[Path, cyclopts.Parameter(help="What to do, a YAML file (see configs/).")]


def launch(
    flow: Flow,
    arguments: list[str] | None = None,
    *,
    load: Callable[[Path, Sequence[str]], Any] = load_experiment,
    study: Flow | None = None,
) -> None:
    """Run ``flow`` as the command line says and leave with 0, or with 2 after one line on stderr.

    Args:
        flow: takes what ``load`` gives, and ``fresh``.
        arguments: default: the process's.
        load: reads settings from a YAML file, with overrides; default: an experiment's.
        study: run instead where the file is a study.
    """
    app = cyclopts.App(name=f"python -m flowsr.flows.{flow.name}", help=flow.description, version_flags=[])

    @app.default
    def run(config: Settings, *, set: Overrides = None, fresh: Fresh = False):
        if study is not None and is_study(config):
            state = study(load_study(config, set or ()), fresh=fresh, return_state=True)
        else:
            state = flow(load(config, set or ()), fresh=fresh, return_state=True)
        if not state.is_completed():
            raise FlowsrError(state.message or state.name)
        print(state.message)

    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (FlowsrError, cyclopts.CycloptsError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
