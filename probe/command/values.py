"""Values as people type them: texts that Hydra takes for numbers, and parameters that get what they cannot read."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

TEXTS = ("name", "runs", "cache")
"""Settings that are texts whatever they look like."""
PARTS = ("backbone", "dataset", "test_on", "protocol", "head", "tracker")
WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null",
}  # fmt: skip


NO_TEXT = re.compile(r"(?<![^,])([+-]?\d[\d._]*(?:e[+-]?\d+)?|true|false)(?![^,])", re.IGNORECASE)
"""Of choices between commas those that Hydra takes for numbers or booleans."""
SEVERAL = {int: "whole numbers", float: "numbers", str: "texts"}


def quoted(words: Sequence[str]) -> list[str]:
    """Overrides in which a name stays a text: `name=2024`, `runs=[old]`, `dataset.path=photos(1)`."""
    parser = OverridesParser.create()
    return [_quoted(each, parser) for word in words for each in sets_of_rows(word)]


def sets_of_rows(word: str) -> list[str]:
    """`ood=[svhn,near:folder]` as what Hydra composes: a dataset for each, under its own name or the one before it.

    Likewise `dataset@test_on=[a,b:folder]`, where a single one needs no brackets.
    """
    key, equals, text = word.partition("=")
    place_of = {"ood": "ood", "dataset@test_on": "test_on"}.get(key)
    if place_of is None or not equals or text in ("null", "") or (key != "ood" and not text.startswith("[")):
        return [word]
    named = [one.strip() for one in text.removeprefix("[").removesuffix("]").split(",")]
    found = [(place, name or place) for place, _, name in (one.partition(":") for one in named)]
    return [f"+dataset@{place_of}.{place}={name}" for place, name in found]


def _quoted(word: str, parser: OverridesParser) -> str:
    key, equals, text = word.partition("=")
    if key in (*PARTS, "experiment"):  # Hydra names no choice that is a number, and dies of it
        return f"{key}={NO_TEXT.sub(lambda found: _in_quotes(found[0]), text)}"
    if not equals or not re.fullmatch(r"\+{0,2}[\w./@]+", key):
        return word
    is_text = key.lstrip("+") in TEXTS
    try:
        override = parser.parse_override(word)
        if not is_text or override.is_sweep_override() or isinstance(override.value(), str | None):
            return word
    except HydraException:
        if text[:1] in tuple("'\"{") + ("[",) * (not is_text):  # a list or a quotation that does not end
            return word
    return f"{key}={_in_quotes(text)}"


def _in_quotes(text: str) -> str:
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def as_typed(config: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The configuration with texts where only a text can be read, spelled as in the overrides: `dataset.path=1e3`."""
    given = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words}
    config = config | {key: _text(config[key]) for key in TEXTS if key in config}
    config |= {group: dict(config[group]) for group in ("ood", "test_on") if config.get(group)}
    for part, node in _parts(config):
        hints = hints_of(node["_target_"])
        known = {name: value for name, value in node.items() if name in hints}
        typed = node | {n: _readable(value, hints[n], given.get(f"{part}.{n}")) for n, value in known.items()}
        group, _, name = part.partition(".")
        if name:
            config[group][name] = typed
        else:
            config[part] = typed
    return config


def _readable(value: Any, hint: Any, typed: str | None) -> Any:
    if accepts(hint, value):
        return value
    if accepts(hint, [""]) and isinstance(value, list):
        return [_text(entry) for entry in value]
    if accepts(hint, "") and not isinstance(value, Mapping):
        return typed if typed is not None else _text(value)
    return value


def _text(value: Any) -> Any:
    """A number or a boolean as yaml writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def wrong(config: Mapping[str, Any]) -> Iterator[str]:
    """What no part can read, and what it has no parameter for, a clause each."""
    for part, node in _parts(config):
        hints = hints_of(node["_target_"])
        for name, value in node.items():
            if hints and not name.startswith("_") and name not in hints:
                yield f"{part} has no {name}, expected one of {', '.join(hints)}"
            elif name in hints and not accepts(hints[name], value):
                yield f"{part}.{name} is {value!r}, expected {in_words(hints[name])}"


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    nodes = {part: config.get(part) for part in PARTS}
    for group in ("ood", "test_on"):
        nodes |= {f"{group}.{name}": node for name, node in sets_in(config, group).items()}
    for part, node in nodes.items():
        if isinstance(node, dict) and isinstance(node.get("_target_"), str):
            yield part, node


def sets_in(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The datasets that `ood` or `test_on` names, by the names that they have there; of one without a name, none."""
    found = config.get(group)
    return {} if not found or is_one(found) else dict(found)


def is_one(node: Any) -> bool:
    """Whether a part of the configuration names a dataset, rather than none or several by name."""
    return bool(node) and not (isinstance(node, Mapping) and all(isinstance(v, Mapping) for v in node.values()))


@functools.cache
def hints_of(target: str) -> dict[str, Any]:
    """What all parameters of a class or function are declared to be; nothing where that cannot be found out."""
    from probe.core import own_modules

    try:
        own_modules.find(target)
        found: Any = pkgutil.resolve_name(target)  # Hydra's own way would log what is told where the part is built
        function = found.__init__ if isinstance(found, type) else found  # type: ignore[misc]
        parameters, hints = inspect.signature(found).parameters, typing.get_type_hints(function)
        if any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values()):
            return {}
        return {name: hints.get(name, Any) for name in parameters}
    except Exception:  # whatever a module raises that cannot be imported is told where the part is built
        return {}


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value of a configuration may stand where this is declared; true where the declaration says little."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(one, value) for one in arguments)
    if isinstance(value, Mapping) and "_target_" in value:  # an object by then
        return True
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if hint is Path:
        return isinstance(value, str)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return isinstance(value, list | tuple) and all(accepts(arguments[0], entry) for entry in value)
    return True


def in_words(hint: Any) -> str:
    """What is declared, as in "a whole number or a list of numbers"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(one) for one in arguments)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return f"a list of {SEVERAL.get(arguments[0], 'values')}"
    return WORDS.get(hint, "a text" if hint is Path else getattr(hint, "__name__", str(hint)))
