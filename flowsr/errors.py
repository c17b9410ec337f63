"""The one error a user is meant to read: a single line that says where, what was expected and what was found."""

from __future__ import annotations


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

    def __init__(self, message: str, *, file=None, variable=None, expected=None, found=None, hint=None):
        parts = [str(message)]
        for label, value in (("variable", variable), ("expected", expected), ("found", found)):
            if value is not None:
                parts.append(f"{label}: {value}")
        if hint is not None:
            parts.append(str(hint))
        line = "; ".join(parts)
        super().__init__(f"{file}: {line}" if file is not None else line)
        self.file, self.variable, self.expected, self.found, self.hint = file, variable, expected, found, hint
