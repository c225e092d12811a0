"""What a configuration describes, as objects."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import OmegaConf

from probe.command import added, controls, recorded, scoped, values
from probe.command.explaining import not_there
from probe.core import own_modules
from probe.core.errors import InputError, ProbeError
from probe.core.files import CONF
from probe.core.kinds import taps_of_maps
from probe.core.terminal import tell

if TYPE_CHECKING:
    from probe.core.base import Dataset
    from probe.experiment.request import Run, Teacher

KINDS: list[tuple[str, Any, str]] = [
    ("backbone dataset head protocol", dict, "a name from its group, or a mapping with _target_"),
    ("ood", dict, "a list of names of datasets"),
    ("metric", dict, "a mapping of names to mappings with _target_, as metric/<name>.yaml holds"),
    ("reads views features patches extract", dict, "a mapping: set one of its keys, as in views.n=3"),
    ("seed limit views.n views.seed features.batch_size features.n_workers", int, "a whole number"),
    ("force calibrate controls neural_collapse save_logits save_rows skip_unfit trust", bool, "true or false"),
    ("conformal_level", float, "a number between 0 and 1"),
    ("name runs device cache control search", str, "a text"),
]
READERS = {
    "vectors": ("identity", "the rows are vectors, which backbone=identity reads as they are"),
    "series": ("rocket", "the rows are series, which backbone=rocket reads"),
}
"""Of rows that the default backbone does not read: the one that does, and what is told."""
BACKBONE = "tiny"
"""The default, of `config.yaml`."""
NONE_LIVE: Mapping[str, Any] = MappingProxyType({})


def compose(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """The resolved configuration of a run, for a subcommand."""
    more = [f"hydra.searchpath=[{Path(config_dir).absolute().as_uri()}]"] if config_dir else []
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    added.check(quoted := values.quoted(overrides), folders)
    words = scoped.applied(quoted, folders)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose("config", [*words, *more]), resolve=True)
    return values.as_typed(config, overrides)


def to_stderr(line: str) -> None:
    """Tells a line beside what is printed."""
    tell(line, error=True)


def readable(config: Any, words: Sequence[str], say: Callable[[str], None] = to_stderr) -> Any:
    """The configuration with a backbone that reads its rows, where these are of `READERS` and no word names one.

    Args:
        words: The overrides that it was made of.
        say: Tells it.
    """
    named = [word for word in words if re.match(r"[+~]*(backbone|experiment)\b", word)]
    if named or config["backbone"] != OmegaConf.to_container(OmegaConf.load(CONF / "backbone" / f"{BACKBONE}.yaml")):
        return config
    check(config)
    from probe.core.rows import rows_of

    if reader := READERS.get(rows_of(dataset_of(config)) or ""):
        name, told = reader
        say(f"probe: {told}")
        return config | {"backbone": OmegaConf.to_container(OmegaConf.load(CONF / "backbone" / f"{name}.yaml"))}
    return config


def build(config: Any, command: str, live: Mapping[str, Any] = NONE_LIVE) -> Run:
    """Turns a resolved configuration into objects; backbones and datasets are built once per process.

    Args:
        config: The configuration.
        command: What the user wrote, for the record.
        live: Objects that take the place of what the configuration says of them: `backbone`, `dataset`, `test_on`,
            `head`, `protocol`; of several of `test_on`, and of `ood`, by their names.
    """
    check(config)
    from probe.command.idle import tell_idle
    from probe.experiment.request import Run
    from probe.features.store import FeatureStore

    asked, given, dataset = config, live, dataset_of(config, live=live)
    tell_idle(config, dataset)
    config, live = controls.controlled(asked, given, dataset)
    # The teacher of a head is not built by the head: the run gives it the logits.
    head = {key: value for key, value in config["head"].items() if key != "teacher"}
    backbone, made = backbone_of(config, live), live["head"] if "head" in live else instantiate(head)
    return Run(
        backbone=backbone,
        head=made,
        dataset=dataset,
        protocol=live["protocol"] if "protocol" in live else instantiate(config["protocol"]),
        teacher=build_teacher(config, dataset),
        test_on=dataset_of(config, "test_on", live) if values.is_one(config.get("test_on")) else None,
        shifted=sets_of_rows(config, "test_on", live),
        ood=sets_of_rows(config, "ood", live),
        neural_collapse=config.get("neural_collapse", False),
        standardize=config.get("standardize", False),
        search=config.get("search"),
        calibrate=config.get("calibrate", False),
        conformal_level=config.get("conformal_level", 0.9),
        patches=config.get("patches") or {},
        metrics=tuple(own_metric(node) for node in (config.get("metric") or {}).values()),
        store=FeatureStore(config["cache"]),
        folder=Path(config["runs"]) / config["name"],
        seed=config["seed"],
        device=config["device"],
        force=config["force"],
        save_logits=config["save_logits"],
        save_rows=config.get("save_rows", False),
        reads=config["reads"],
        features=config["features"],
        shuffle_labels=asked.get("control") == controls.SHUFFLED,
        control=controls.facts(asked, given, [made, backbone]),
        config=asked,
        command=command,
    )


def sets_of_rows(config: Any, group: str, live: Mapping[str, Any]) -> dict[str, Dataset]:
    """The datasets of `ood` or `test_on` by name; none where there is one without a name."""
    limit, objects, nodes = config.get("limit"), live.get(group, NONE_LIVE), config.get(group)
    if not nodes or (group == "test_on" and values.is_one(nodes)):
        return {}
    return {name: dataset_of({"limit": limit, "set": node}, "set", {"set": objects[name]} if name in objects else {})
            for name, node in nodes.items()}  # fmt: skip


def own_metric(node: Mapping[str, Any]) -> Any:
    """The metric that a yaml names, which knows its parameters; what is none, the run refuses."""
    from probe.metrics.shared.metric import Metric

    made = instantiate(node)
    given = {name: value for name, value in node.items() if name != "_target_"}
    return replace(made, parameters=given) if isinstance(made, Metric) else made


def check(config: Any) -> None:
    """Refuses values that no part of the configuration could read; what they mean is for the parts to check."""
    wrong = []
    for keys, kind, expected in KINDS:
        for key in keys.split():
            value = functools.reduce(
                lambda node, name: node.get(name) if isinstance(node, dict) else None, key.split("."), config
            )
            if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
                wrong.append(f"{key} is {value!r}, expected {expected}")
    wrong += values.wrong(config)
    if wrong:
        raise InputError("; ".join(wrong) + ": change it where it is given")


def backbone_of(config: Any, live: Mapping[str, Any] = NONE_LIVE) -> Any:
    """The backbone, around it the views that the configuration asks for; records of older versions know none."""
    backbone = live["backbone"] if "backbone" in live else shared(json.dumps(_tapped(config)))
    views = config.get("views")
    if not views or views["n"] == 1:
        return backbone
    from probe.backbones.shared.views import MultiView

    return MultiView(backbone, **views)


def _tapped(config: Any) -> Any:
    """The node of the backbone, with the layers among its taps that `reads.map` names."""
    node, reads = config["backbone"], config.get("reads") or {}
    layers = taps_of_maps(reads.get("map")) if "taps" in node else []
    return {**node, "taps": list(dict.fromkeys([*(node["taps"] or ()), *layers]))} if layers else node


def build_teacher(config: Any, dataset: Dataset) -> Teacher | None:
    """The teacher that a head names: the folder of a run, or a mapping with `backbone`, `head` and perhaps `reads`."""
    from probe.experiment.request import Teacher
    from probe.experiment.teacher import read_teacher

    teacher = config["head"].get("teacher")
    if teacher is None:
        return None
    if isinstance(teacher, str):
        run = read_teacher(teacher, fingerprint=dataset.fingerprint, class_names=dataset.class_names)
        parts = {name: run.config.get(name) for name in ("backbone", "head", "views")}
        recorded.check(parts, run.folder, CONF, trust=bool(config.get("trust")))
        return Teacher(backbone_of(run.config), instantiate(run.config["head"]), run, run.config.get("reads") or {})
    return Teacher(backbone_of(teacher), instantiate(teacher["head"]), reads=teacher.get("reads") or {})


def dataset_of(config: Any, key: str = "dataset", live: Mapping[str, Any] = NONE_LIVE) -> Dataset:
    """The dataset that a configuration names, cut to `limit` rows of each partition where that is set."""
    if key in live:
        from probe.datasets.shared.subsets import limited

        return limited(live[key], config.get("limit"))
    return shared_dataset(json.dumps(config[key]), json.dumps(config.get("limit")))


@functools.lru_cache(maxsize=8)
def shared_dataset(node: str, limit: str) -> Dataset:
    from probe.datasets.shared.subsets import limited

    return limited(shared(node), json.loads(limit))


@functools.lru_cache(maxsize=8)
def shared(node: str) -> Any:
    return instantiate(json.loads(node))


def forget() -> None:
    """Builds anew from now on: files and code may have changed since, in a process that lives on between two runs."""
    shared.cache_clear()
    shared_dataset.cache_clear()


def instantiate(node: Any) -> Any:
    """`hydra.utils.instantiate`, with the sentence of a `ProbeError` in front instead of behind Hydra's own."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    for target in recorded.named(node):
        own_modules.find(target)
    try:
        return hydra_instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ProbeError):
            raise error.__cause__ from None
        if lost := re.match(r"Error locating target '([^']+)'", str(error)):
            raise InputError(not_there(lost[1])) from error
        raise ProbeError(str(error)) from error
