"""Field types are counted as e3nn counts them; modules of flowsr.data do not import one another in circles."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from e3nn.o3 import Irreps
from hypothesis import given
from hypothesis import strategies as st

import flowsr.data
from flowsr.data.field import irreps_dimension

TERMS = st.tuples(st.sampled_from(["", "1x", "2x", "12x", "0x"]), st.integers(0, 11), st.sampled_from("eo")).map(
    lambda t: f"{t[0]}{t[1]}{t[2]}"
)


@given(st.lists(TERMS, min_size=1, max_size=4), st.sampled_from(["+", " + "]))
def test_dimensions_are_those_of_e3nn(terms, plus):
    assert irreps_dimension(plus.join(terms)) == Irreps(plus.join(terms)).dim


@pytest.mark.parametrize("wrong", ["velocity", "1", "x1o", "-1x1o", "1o+", "1o,0e", "1.5e", "²e"])
def test_what_is_no_field_type_is_refused(wrong):
    with pytest.raises(ValueError):
        irreps_dimension(wrong)


def test_a_file_is_opened_without_torch(tmp_path):
    script = (
        "import sys, numpy as np, h5py\n"
        "from flowsr.data import open_field\n"
        f"p = {str(tmp_path / 'a.h5')!r}\n"
        "with h5py.File(p, 'w') as f:\n"
        "    for n in 'xyz': f[f'{n}coor'] = np.arange(4.0)\n"
        "    f['velocity_0001'] = np.zeros((4, 4, 4, 3), 'f4')\n"
        "open_field(p)\nprint('torch' in sys.modules)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_no_circles_among_the_modules():
    graph, root = {}, Path(flowsr.data.__file__).parent
    for path in root.rglob("*.py"):
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module]
        name = ".".join(("flowsr", "data", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {n.module for n in nodes if n.module.startswith("flowsr.data.")}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(graph) > 20
