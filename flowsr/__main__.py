"""`flowsr` and `python -m flowsr`: the command line, or one line that says how to get what it needs."""

import sys

#: What the command line needs beyond `import flowsr`: the package's extra `pipeline`.
EXTRA = ("cyclopts", "h5netcdf", "pooch", "prefect", "pydantic", "requests", "zarr")


def main() -> int:
    """Run the command line; a package of the extra that is not installed is one line on stderr and exit code 2."""
    try:
        from flowsr.cli import main as command_line

        return command_line()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        print(f"error: {package} is not installed; pip install 'flowsr[pipeline]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
