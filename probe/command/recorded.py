"""What a run folder may have built: its record is data, and may come from anyone.

The targets that the package's own yamls name are built, at every depth. Of these, a class or function that runs code
which a parameter names says so by `runs_code(parameters)`, a list of such parameters as text. Everything else is shown,
and built only where the user trusts whoever made the folder.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from probe.core.errors import InputError

BUILT = ("backbone", "dataset", "test_on", "protocol", "head")
READ = (
    "seed", "control", "device", "limit", "views", "reads", "features", "calibrate", "conformal_level", "save_logits",
    "save_rows", "standardize", "neural_collapse", "search",
)  # fmt: skip
"""Settings of a recorded configuration that mean the same on every machine; places on disk are none of them."""


def check(config: Mapping[str, Any], folder: Path, conf: Path, *, trust: bool) -> None:
    """Refuses a recorded configuration whose parts are not all this package's own, unless they are trusted.

    Args:
        conf: The folder of the package's yamls.
    """
    parts = {name: config[name] for name in BUILT if config.get(name) is not None} | _sets(config) | _metrics(config)
    held = {name: part["live"] for name, part in parts.items() if isinstance(part, Mapping) and "live" in part}
    if held:
        raise InputError(
            f"the run in {folder} was made from Python with an object as its {' and its '.join(held)} "
            f"({', '.join(map(str, held.values()))}), which no record can build again: make the run again from Python, "
            "with the same object"
        )
    if broken := [name for name, part in parts.items() if not isinstance(part, Mapping) or "_target_" not in part]:
        raise InputError(f"the record in {folder} says not what its {', '.join(broken)} is: give a complete run")
    # Hydra would put variables of the environment, among others, in their place.
    if unresolved := [text for text in _texts(config) if "${" in text]:
        raise InputError(
            f"the record in {folder} holds {unresolved[0]}, and a run records what such a text stood for: was it "
            "edited? Give the folder as the run left it"
        )
    if not trust and (asked := [line for name, part in parts.items() for line in _foreign(part, name, targets(conf))]):
        raise InputError(
            f"the record in {folder} wants code to be run that is not this package's: {', '.join(asked)}; if you trust "
            "whoever made the folder, say so: probe reproduce --trust, or trust=true where it is a teacher"
        )


def configuration(config: Mapping[str, Any], *, runs: str, cache: str | None, trust: bool) -> dict[str, Any]:
    """A recorded configuration, to be run again in places of our own."""
    kept = {name: config[name] for name in (*BUILT, *READ, "metric") if name in config}
    for name in ("dataset", "test_on"):
        kept |= {name: _as_it_is(kept[name])} if kept.get(name) else {}
    kept |= {"ood": {name: _as_it_is(node) for name, node in config["ood"].items()}} if config.get("ood") else {}
    return {**kept, "runs": runs, "name": "again", "cache": cache, "force": True, "trust": trust}


def _as_it_is(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset that downloads nothing, which would be written where the record says."""
    return {**dataset, "download": False} if "download" in dataset else dict(dataset)


def _sets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sets of unknown classes that a configuration names."""
    found = config.get("ood") or {}
    return {f"ood.{name}": node for name, node in found.items()} if isinstance(found, Mapping) else {"ood": found}


def _metrics(config: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of one's own that a configuration names, none of which is this package's."""
    found = config.get("metric") or {}
    return {f"metric.{name}": node for name, node in found.items()} if isinstance(found, Mapping) else {"metric": found}


@functools.cache
def targets(conf: Path) -> frozenset[str]:
    """What the package's own yamls name as backbones, datasets, protocols and heads."""
    files = [file for group in ("backbone", "dataset", "protocol", "head") for file in (conf / group).glob("*.yaml")]
    return frozenset(target for file in files for target in named(OmegaConf.to_container(OmegaConf.load(file))))


def named(node: Any) -> Iterator[str]:
    """Every `_target_` of a node, at every depth."""
    if isinstance(node, dict) and isinstance(node.get("_target_"), str):
        yield node["_target_"]
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from named(value)


def _foreign(node: Any, place: str, known: frozenset[str]) -> Iterator[str]:
    """What of a node has Hydra import or call something else than the known targets, as `place=value`."""
    if isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _foreign(value, f"{place}.{i}", known)
    if not isinstance(node, Mapping):
        return
    yield from (f"{place}.{key}={node[key]}" for key in node if str(key).startswith("_") and key != "_target_")
    target = node.get("_target_")
    if isinstance(target, str) and target in known:
        module, _, name = target.rpartition(".")
        if runs_code := getattr(getattr(importlib.import_module(module), name), "runs_code", None):
            yield from (f"{place}.{line}" for line in runs_code(node))
    elif "_target_" in node:
        yield f"{place}._target_={target}"
    for key, value in node.items():
        yield from _foreign(value, f"{place}.{key}", known)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from (*_texts(key), *_texts(value))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _texts(value)
