"""Strict YAML settings: environment variables, overrides, and one-line errors that name the nearest key."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from datasets_vision.placing import whole_file
from vlm_ft.errors import RecipeError, nearest, problem_of

_VARIABLE = re.compile(r"(?m)^[ \t]*#.*|\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")  # or a commented line
_EXPECTED = {
    "tuple_type": "not a list; write [a, b], or a line with a dash for each",
    "dict_type": "not a mapping; write its keys below it",
    "model_type": "not a section; write its keys below it",
    "path_type": "not a path",
    "string_type": "not text; put it in quotes",
}
"""Our messages for the pydantic errors whose own messages mention Python types."""
_NOT_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
"""What PyYAML raises; the last three for values such as 2020-99-99 and !!float x, and for deep nesting."""


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, with variables replaced and ``key=value`` overrides applied. Raises `RecipeError`."""
    content = _parsed(_substituted(_read(path), path), path)
    if not isinstance(content, dict):
        raise RecipeError(path, f"a recipe is a mapping of keys, not {type(content).__name__}", "see recipes/")
    for setting in overrides:
        _override(content, setting)
    return content


def write_settings(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, with its keys in order."""
    with whole_file(path) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def variables_in(path: Path) -> list[str]:
    """The names of the environment variables that a file refers to, each once."""
    return list(dict.fromkeys(match["name"] for match in _VARIABLE.finditer(_read(path)) if match["name"]))


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault in one line; an unknown key comes first, since a typo also leaves a key missing."""
    faults = error.errors(include_url=False)
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    location = fault["loc"]
    key = ".".join(map(str, location))
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(str(location[-1]), _keys_at(model, location[:-1]))}"
    if fault["type"] == "missing":
        return f"key {key!r} is missing; add it"
    problem = _EXPECTED.get(fault["type"], problem_of(fault))
    return f"{key}: {str(fault['input'])[:80]!r}: {problem}"


def fault_of(error: ValidationError) -> str:
    """The first fault in a file that a program wrote, in one line: its place, the value, what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    shown = bool(fault["loc"]) and fault["type"] != "missing"
    value = [repr(fault["input"])[:80]] if shown else []
    return ": ".join(filter(None, [".".join(map(str, fault["loc"])), *value, problem_of(fault)]))


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not inner:
            return []
        current = inner[0]
    return list(current.model_fields)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(path, "no such file", "check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        remedy = "save it as UTF-8, or check its permissions"
        raise RecipeError(path, f"cannot be read as UTF-8 text ({error})", remedy) from error


def _substituted(text: str, path: Path) -> str:
    def value(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        found = os.environ.get(match["name"], match["default"])
        if found is None:
            raise RecipeError(path, f"environment variable {match['name']} is not set", "set it, or write a path")
        return found

    return _VARIABLE.sub(value, text)


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a repeated key is an error; PyYAML keeps the last one silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                problem = f"key {key.value[:80]!r} is repeated"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def _parsed(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _UniqueKeys)
    except _NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        problem = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "problem", None) or error
        place = f"{path}:{mark.line + 1}" if mark else path
        raise RecipeError(place, f"not valid YAML: {str(problem)[:200]}", "correct it, or quote the value") from error


def _override(content: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator:
        raise RecipeError(f"--set {setting}", "no '='", "write --set training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except _NOT_YAML as error:
        raise RecipeError(f"--set {setting}", f"{text!r} is not a YAML value", "quote it") from error
    *parents, last = key.split(".")
    section: Any = content
    for part in parents:
        index = _index(section, part, setting)
        if isinstance(section, dict) and section.get(part) is None:  # absent, or an empty section
            section[part] = {}
        section = section[index]
    section[_index(section, last, setting)] = value


def _index(section: Any, part: str, setting: str) -> str | int:
    """The key of a mapping, or the position in a list, that a part of a setting's key names."""
    if isinstance(section, dict):
        return part
    if not isinstance(section, list):
        raise RecipeError(f"--set {setting}", f"{section!r} is a value without keys", f"leave out .{part}")
    if not part.isdecimal() or int(part) >= len(section):
        problem = f"{part!r} is not a position in a list of {len(section)}"
        raise RecipeError(f"--set {setting}", problem, "positions start at 0")
    return int(part)
