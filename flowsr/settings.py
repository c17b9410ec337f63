"""Read settings: YAML with ``extends:``, overrides from the command line, errors that name the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from flowsr.errors import BadValue, FlowsrError
from flowsr.files import read_regular
from flowsr.registry import suggestion

T = TypeVar("T")

#: Dataclasses that stand in a union beside a plain path, as pydantic names them in the place of a problem.
UNION_TAGS = ("Input", "ManifestFile")
#: What pydantic calls an unknown key of a model, and of a dataclass.
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
# Of a YAML file: bytes; values, an alias counted as what it stands for; lists within lists; files that extend others.
LARGEST, MOST_VALUES, DEEPEST, LONGEST_CHAIN = 1 << 20, 50_000, 32, 16
#: Whole numbers beyond this are settings of nothing.
LARGEST_NUMBER = 1 << 63


def read_settings(kind: type[T], path: str | PathLike) -> T:
    """A YAML file as a dataclass or a pydantic model.

    Args:
        kind: the class; a dataclass has a ``__pydantic_config__`` that forbids unknown keys.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key (with a suggestion) or a wrong value.
    """
    values = read_yaml(Path(path))
    try:
        return adapter(kind).validate_python(values)
    except ValidationError as error:
        raise first_problem(error, kind, path) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # keys that are no text, and the like
        raise FlowsrError("not settings", file=path, found=" ".join(str(error).split())[:200]) from None


@cache
def adapter(kind: type[T]) -> TypeAdapter[T]:
    """What reads values as a kind; made once, since pydantic reads the docstrings of all its attributes, 0.1 s."""
    try:
        return TypeAdapter(kind)
    except SystemError:  # Python 3.11's parser loses count where another thread parses, too (its issue 106905)
        return TypeAdapter(kind)


def read_yaml(path: Path, _chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML mapping with its ``extends`` resolved."""
    path = path.resolve()
    if path in _chain:
        raise FlowsrError("extends itself, through " + " -> ".join(p.name for p in (*_chain, path)), file=path)
    if len(_chain) >= LONGEST_CHAIN:
        raise FlowsrError("extends too many files", file=_chain[0], expected=f"at most {LONGEST_CHAIN}")
    try:
        values = _parsed(read_regular(path, LARGEST).decode("utf-8"))
    except OSError as error:
        raise FlowsrError("cannot read the configuration", file=path, found=error.strerror or str(error)) from None
    except ValueError as error:
        raise FlowsrError("not valid YAML", file=path, found=" ".join(str(error).split())[:400]) from None
    if not isinstance(values, dict):
        raise FlowsrError("a configuration is a mapping of keys to values", file=path, found=type(values).__name__)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise FlowsrError("extends names one YAML file", file=path, found=repr(base))
    return merge(read_yaml(path.parent / base, (*_chain, path)), values)


class _Loader(yaml.SafeLoader):
    """Plain values, dates as text, and not more of them than anyone would write."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth, self.count = 0, 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent, index):
        """A value; one that an alias stands for counts again."""
        alias = self.check_event(yaml.AliasEvent)
        before, self.depth = self.count, self.depth + 1
        if self.depth > DEEPEST:
            raise ValueError(f"values more than {DEEPEST} deep in one another")
        node = super().compose_node(parent, index)
        if alias and id(node) not in self.sizes:
            raise ValueError("an alias within what it stands for")
        self.count += self.sizes[id(node)] if alias else 1
        if self.count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        self.sizes.setdefault(id(node), self.count - before)
        self.depth -= 1
        return node

    def construct_yaml_int(self, node):
        """A whole number that other programs can hold too."""
        text = self.construct_scalar(node)
        number = super().construct_yaml_int(node) if len(text) < 100 else LARGEST_NUMBER
        if abs(number) >= LARGEST_NUMBER:
            raise ValueError(f"a number too large: {text[:20]}...")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parsed(text: str) -> Any:
    """What YAML says.

    Raises:
        ValueError: it is not valid, or too much.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except (yaml.YAMLError, OverflowError, RecursionError, AttributeError, TypeError, LookupError) as error:
        raise ValueError(str(error) or type(error).__name__) from None  # a tag that its value does not suit, and such
    finally:
        if loader is not None:
            loader.dispose()


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid upon it, mappings merged key by key, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``values`` with ``a.b=value`` strings applied in order."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise FlowsrError("an override reads key.subkey=value", variable="--set", found=repr(override))
        try:
            value = _parsed(text)
        except ValueError:
            found = repr(text[:200])
            raise FlowsrError("the value is not valid YAML", variable=f"--set {key}", found=found) from None
        for part in reversed(key.split(".")):
            value = {part: value}
        values = merge(values, value)
    return values


def first_problem(error: ValidationError, root: type, source: object) -> FlowsrError:
    """What pydantic found wrong first, in one line that names the key and, for an unknown one, what may be meant."""
    problems = error.errors(include_url=False)
    # of a union, what is wrong with its dataclass tells more than that the value is no path
    problem, *others = [p for p in problems if not any("[" in str(part) for part in p["loc"])] or problems
    where = ".".join(str(part) for part in problem["loc"] if part not in UNION_TAGS) or "the configuration"
    more = f"{len(others)} more problem(s) after this one" if others else None
    if problem["type"] in UNKNOWN_KEY:
        known = _known_keys(root, problem["loc"][:-1])
        name = str(problem["loc"][-1])
        hint = suggestion(name, known) or ("known keys: " + ", ".join(sorted(known)) if known else None)
        return FlowsrError(f"unknown key '{where}'", file=source, hint=hint)
    if problem["type"] == "missing":
        return FlowsrError(f"'{where}' is required", file=source, hint=more)
    refused = problem.get("ctx", {}).get("error")
    if isinstance(refused, BadValue) and refused.variable:
        key, hint = ".".join([*map(str, problem["loc"]), refused.variable]), refused.hint or more
        expected, found = refused.expected, refused.found
        return FlowsrError(f"bad value for '{key}'", file=source, expected=expected, found=found, hint=hint)
    found = problem["input"]
    if problem["type"] == "value_error":  # a rule of the settings' own, which begins with the key that it is about
        problem["msg"] = problem["msg"].removeprefix("Value error, ")
        key = problem["msg"].split()[0]
        if key.partition(".")[0] in _known_keys(root, problem["loc"]):
            where = key if where == "the configuration" else f"{where}.{key}"
    return FlowsrError(
        f"bad value for '{where}'",
        file=source,
        expected=problem["msg"],
        found=None if isinstance(found, dict) else repr(found),
        hint=more,
    )


def _known_keys(root: type, location: tuple) -> set[str]:
    model: Any = root
    for part in location:
        if keys := _fields(model):
            model = keys[part]
        elif args := get_args(model):  # dict[str, Model] or Model | None
            model = args[-1]
    return {key for candidate in (model, *get_args(model)) for key in _fields(candidate)}


def _fields(model: Any) -> dict[str, Any]:
    """Name and type of the fields of a pydantic model or of a dataclass; empty for anything else."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return get_type_hints(model) if isinstance(model, type) and is_dataclass(model) else {}
