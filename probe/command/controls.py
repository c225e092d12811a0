"""Controls: the runs that a run is held against, each the configuration of that run with one thing taken away."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from probe.core.base import digest
from probe.core.errors import DoesNotFit, InputError
from probe.core.files import CONF
from probe.results.schema import ANY_HEAD

if TYPE_CHECKING:
    from probe.core.base import Dataset

MAJORITY, RAW, RANDOM, SHUFFLED = KINDS = ("majority", "raw_input", "random_weights", "shuffled_labels")
"""What `control=` names: no features, no network, no training of the network, no meaning in the labels."""
SHARED = {MAJORITY: ("backbone", "head", "reads", "views", "standardize"), RAW: ("backbone", "reads", "views")}
"""Of a control that several runs share: what of their configurations bears not on it."""
WORDS = "tfidf_linear"
"""The head that reads texts as they are, whatever the head of the run: its counts of words are their raw input."""
Changed = tuple[dict[str, Any], Mapping[str, Any]]


def controlled(config: dict[str, Any], live: Mapping[str, Any], dataset: Dataset) -> Changed:
    """The configuration and the objects of the control that `control` names; as they are where it names none.

    Args:
        config: The resolved configuration.
        live: Objects that take the place of what it says.
        dataset: That of the run.

    Raises:
        DoesNotFit: The run has no such control.
    """
    kind = config.get("control")
    if kind is None or kind == SHUFFLED:
        return config, live
    if kind not in KINDS:
        raise InputError(f"control is {kind!r}, expected null or one of {', '.join(KINDS)}: set one of them")
    if kind == RANDOM:
        return _random_weights(config, live), live
    if not dataset.target.learnt:
        raise DoesNotFit(
            f"from dataset {dataset.name} with {dataset.target.phrase} nothing is learnt, so that there is neither a "
            f"majority nor a head of rows as they are: leave control={kind} out"
        )
    if dataset.target.per_pixel:
        if kind == RAW:
            raise DoesNotFit(
                f"rows as they are have no map of patches, which heads read on dataset {dataset.name} with "
                f"{dataset.target.phrase}: leave control=raw_input out"
            )
        # The classes, or the mean, of all pixels, said at every place of the same map.
        changed = {"head": _node("head", dataset.target.constant_head), "standardize": False}
        return {**config, **changed}, {name: value for name, value in live.items() if name != "head"}
    plain = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    assert isinstance(plain, dict)
    changes = {"backbone": _raw(config, live, dataset, kind), "reads": plain["reads"], "views": plain["views"]}
    if kind == MAJORITY:
        changes |= {"head": _node("head", dataset.target.constant_head), "standardize": False}
    elif changes["backbone"].get("rows") == "texts" and dataset.target.exclusive:
        changes |= {"head": _node("head", WORDS), "standardize": False}
    return {**config, **changes}, {name: value for name, value in live.items() if name not in changes}


def _raw(config: Mapping[str, Any], live: Mapping[str, Any], dataset: Dataset, kind: str) -> dict[str, Any]:
    """The node of the backbone that gives rows as they are."""
    from probe.core.rows import rows_of

    rows, identity = rows_of(dataset), _node("backbone", "identity")
    if rows == "vectors":
        if kind == RAW and "backbone" not in live and config["backbone"]["_target_"] == identity["_target_"]:
            raise DoesNotFit("backbone identity gives the rows as they are, a run with it is its own raw input: leave "
                             "control=raw_input out")  # fmt: skip
        return identity
    if rows not in ("images", "texts", "series"):
        raise DoesNotFit(
            f"the rows of dataset {dataset.name} are {rows}, control={kind} reads images, texts, series and vectors: "
            "leave it out"
        )
    return {**_node("backbone", "raw"), "rows": rows, "n_steps": _n_steps(dataset) if rows == "series" else None}


def _n_steps(dataset: Dataset) -> int | None:
    """Of the longest series; None where all are of one length, so that such sets share features."""
    from probe.core.rows import series_lengths

    lengths = set(series_lengths(dataset))
    return max(lengths) if len(lengths) > 1 else None


def _random_weights(config: dict[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    node = config["backbone"]
    drawn = node if "backbone" in live else drawn_at_random(node)
    if drawn == node:
        given = (
            f"from Python ({node.get('live')})" if "backbone" in live else f"{node['_target_']} with these parameters"
        )
        raise DoesNotFit(
            f"of the backbone {given} it is not known how to draw its weights at random instead of reading them: leave "
            "control=random_weights out"
        )
    return {**config, "backbone": drawn}


def drawn_at_random(node: dict[str, Any]) -> dict[str, Any]:
    """A backbone with the parameters that leave its weights random, as its module says them in `UNTRAINED`."""
    return {**node, **_untrained(node)}


def facts(config: Mapping[str, Any], live: Mapping[str, Any], parts: Sequence[Any]) -> dict[str, str]:
    """What the record of a run says of it as a control: its kind, empty for none, and the architecture behind it.

    A run is a control by what it is, however it was asked for.

    Args:
        config: As the user wrote it, resolved.
        live: Objects that take the place of what it says.
        parts: Head and backbone, which say by `control` whether they make one; the first one that does counts.
    """
    node = config["backbone"]
    untrained = {} if "backbone" in live else _untrained(node)
    is_random = "pretrained" in untrained and drawn_at_random(node) == node
    kinds = [config.get("control"), *(getattr(type(part), "control", None) for part in parts), RANDOM * is_random]
    kind = next((kind for kind in kinds if kind in KINDS), "")
    of = [{**node, **untrained}, config.get("views"), config.get("reads"), config.get("standardize", False)]
    named = kind in ("", RANDOM) and "backbone" not in live
    of_all = kind == RAW and any(getattr(type(head), "control", None) == RAW for head in parts[:1])
    shared = {"head": ANY_HEAD} if of_all else {}
    return {"kind": kind.replace("_", " "), "architecture": digest(of) if named else "", **shared}


def _untrained(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters with which a backbone draws its weights at random; none where its module does not say it."""
    module = str(node["_target_"]).rpartition(".")[0]
    try:
        found: Mapping[str, Any] = getattr(importlib.import_module(module), "UNTRAINED", {})
    except ImportError:  # what a class gives, such as `Network.from_file`
        return {}
    return found


def _node(group: str, name: str) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def controls_of(jobs: Sequence[list[str]]) -> Iterator[list[str]]:
    """The controls of the jobs of a sweep, as overrides; what several jobs share comes once."""
    seen = set()
    for job in jobs:
        for kind in KINDS:
            words = [word for word in job if not word.lstrip("+~").startswith(SHARED.get(kind, ("\0",)))]
            key = (kind, *sorted(words))
            if key not in seen:
                seen.add(key)
                yield [*job, f"control={kind}"]
