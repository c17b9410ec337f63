"""`flowsr` and `python -m flowsr`: the command line, or one line that says how to get what it needs."""

import sys
from importlib.util import find_spec

#: What the command line needs beyond `import flowsr`.
NEEDED = ("cyclopts", "pydantic", "zarr")


def main() -> int:
    """Run the command line; where a package that it needs is not installed, one line on stderr and exit code 2."""
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        print(
            f"error: {', '.join(missing)} not installed; pip install flowsr, with what it depends on", file=sys.stderr
        )
        return 2
    from flowsr.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
