"""One line, whatever kind of error it is; and kinds that Python's own ``except`` knows."""

import pickle

import pytest

from flowsr import errors

MADE = [
    (errors.missing_file("a.h5"), FileNotFoundError, "a.h5: no such file"),
    (
        errors.missing_variable("u", ["v", "w"], file="a.h5"),
        KeyError,
        "a.h5: no such variable; variable: u; expected: u; found: v, w",
    ),
    (
        errors.unknown_name("model", "cmn", ["rcan", "cnn"], variable="train.models"),
        KeyError,
        "unknown model 'cmn'; variable: train.models; expected: one of cnn, rcan; did you mean 'cnn'?",
    ),
    (
        errors.contradiction("shape and grid disagree", expected=3, found=4),
        ValueError,
        "shape and grid disagree; expected: 3; found: 4",
    ),
    (
        errors.unreadable(OSError("cut\nshort"), "a.h5", "u"),
        errors.FlowsrError,
        "a.h5: damaged or not readable; variable: u; found: cut short",
    ),
    (errors.unreadable(OSError(), "a.h5"), errors.FlowsrError, "a.h5: damaged or not readable; found: OSError"),
]


@pytest.mark.parametrize(("error", "kind", "line"), MADE, ids=[line for _, _, line in MADE])
def test_an_error_is_its_line_and_one_of_pythons(error, kind, line):
    assert isinstance(error, errors.FlowsrError) and isinstance(error, kind)
    assert str(error) == line
    again = pickle.loads(pickle.dumps(error))  # as it comes back from a worker process
    assert type(again) is type(error) and str(again) == line and vars(again) == vars(error)
