"""The one error a user is meant to read: a single line that says where, what was expected and what was found.

A program that calls flowsr can tell kinds apart as it tells Python's own: a :class:`MissingFile` is also a
``FileNotFoundError``, a :class:`BadValue` a ``ValueError``, an :class:`UnknownName` a ``KeyError``. The functions below
name the commonest faults, so that each reads the same wherever it is found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class FlowsrError(Exception):
    """Bad input from outside (file, config, command line): shown as one line, exit code 2, no traceback.

    Args:
        message: what is wrong, in a few words.
        file: the file or store it was found in.
        variable: the variable, key or option concerned.
        expected: what would have been right.
        found: what was there instead.
        hint: what to do about it.
    """

    def __init__(
        self,
        message: object,
        *,
        file: object = None,
        variable: object = None,
        expected: object = None,
        found: object = None,
        hint: object = None,
    ):
        parts = [str(message)]
        for label, value in (("variable", variable), ("expected", expected), ("found", found)):
            if value is not None:
                parts.append(f"{label}: {value}")
        if hint is not None:
            parts.append(str(hint))
        line = "; ".join(parts)
        super().__init__(printable(f"{file}: {line}" if file is not None else line))
        self.message, self.file, self.variable, self.expected, self.found, self.hint = (
            str(message),
            file,
            variable,
            expected,
            found,
            hint,
        )

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would put its line in quotes


class MissingFile(FlowsrError, FileNotFoundError):
    """A file, folder or store that is not there."""


class Busy(FlowsrError, BlockingIOError):
    """Another process is at the same file, store or step: to be waited for, and no failure."""


class BadValue(FlowsrError, ValueError):
    """A value that cannot be, or two statements that contradict each other."""


class UnknownName(FlowsrError, KeyError):
    """A name that nothing goes by: of a variable, a model, a metric, an option."""


class Unreadable(FlowsrError):
    """A file that its library cannot open or read: damaged, or not all there yet."""


class UnknownFormat(FlowsrError):
    """A file that no reader recognizes."""


def require(
    holds: object,
    message: str,
    *,
    file: object = None,
    variable: object = None,
    expected: object = None,
    found: object = None,
    hint: object = None,
) -> None:
    """Raise a :class:`FlowsrError` of these parts unless something ``holds``."""
    if not holds:
        raise FlowsrError(message, file=file, variable=variable, expected=expected, found=found, hint=hint)


def missing_file(file: object, *, variable: str | None = None, hint: str | None = None) -> MissingFile:
    """A file, or a store, that is not there.

    Args:
        variable: the option or key that names it.
    """
    return MissingFile("no such file", file=file, variable=variable, hint=hint)


def missing_variable(variable: str, known: Iterable[object], *, file: object = None) -> UnknownName:
    """A variable that a file does not hold, beside those that it does."""
    names = [str(name) for name in known]
    found = ", ".join(names) or "nothing"
    return UnknownName("no such variable", file=file, variable=variable, expected=variable, found=found)


def unknown_name(
    kind: str, name: object, known: Iterable[str], *, file: object = None, variable: object = None
) -> UnknownName:
    """A name that is none of the known ones, with the likeliest that was meant.

    Args:
        kind: what it should name, as it reads in the line ("degrade operator").
        variable: the option or key that holds it.
    """
    names = sorted(known)
    expected, hint = "one of " + ", ".join(names), suggestion(name, names)
    return UnknownName(f"unknown {kind} '{name}'", file=file, variable=variable, expected=expected, hint=hint)


def unreadable(error: object, file: object, variable: str | None = None) -> Unreadable:
    """Bytes that a format's library cannot make sense of, in the library's words."""
    found = " ".join(str(error).split())[:200] or type(error).__name__
    return Unreadable("damaged or not readable", file=file, variable=variable, found=found)


def contradiction(
    message: str,
    *,
    file: object = None,
    variable: object = None,
    expected: object = None,
    found: object = None,
    hint: object = None,
) -> BadValue:
    """Two statements that cannot both hold: of a file and its manifest, of a shape and its coordinates."""
    return BadValue(message, file=file, variable=variable, expected=expected, found=found, hint=hint)


#: How libraries say that there was no memory, where they raise no MemoryError.
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can(?:'|no)t allocate|can't start new thread|std::bad_alloc", re.IGNORECASE
)
#: How HDF5 says what the system answered.
_HDF5_REASON = re.compile(r"error message = '([^']+)'")


def circumstance(error: BaseException) -> str | None:
    """What went wrong with the machine and not with the input: memory, disk, permissions; None for anything else."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        told = _HDF5_REASON.search(reason)
        reason = told[1] if told else reason
        line = reason if error.filename is None else f"{error.filename}: {reason}"
        full = any(word in reason for word in ("No space left", "quota exceeded", "File too large"))
        return f"{line}; make room, then start the same command again to resume" if full else line
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        said = " ".join(str(error).split())[:200] or "an allocation failed"
        return f"out of memory: {said}; start again with smaller tiles or batches, or fewer workers, to resume"
    return None


#: What moves a terminal's cursor, colours it, renames its window or turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Text from outside (a name in a file, a library's message) with control characters shown, not obeyed.

    >>> print(printable("wind\x1b[2J"))
    wind\x1b[2J
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def suggestion(name: object, known: Iterable[str]) -> str | None:
    """`did you mean 'block_mean'?` for a misspelt name, or None when nothing is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else None
