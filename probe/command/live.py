"""Live objects as parts of a run, and what a record says of them.

What can be said as a configuration is said as one, so that the command makes the same run and `probe reproduce` can
build it again. Everything else is recorded by its class and its content, under `live`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.command.plain import plain
from probe.core.errors import InputError

TOKENIZER = "tokenizer"
"""The option that makes a network a model of texts."""
EXPECTED = {
    "backbone": 'a name, a pair such as ("timm", {"name": "resnet18"}), (network, transform), (network, {"size": 224, '
    '"mean": [...], "std": [...]}), a language model (model, tokenizer) or a Backbone',
    "dataset": "a name, a path, arrays (X, y), texts ([...], y), a torch dataset, a mapping of one of these by "
    "partition, or a Dataset",
    "head": 'a name, a pair such as ("linear", {"Cs": [0.1, 1]}), a Head or an estimator of scikit-learn',
    "protocol": 'a name, a pair such as ("few_shot", {"k": 5}), or a protocol',
}


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Attributes:
        shown: How it was given, for the record's command and for progress.
        name: Of a yaml of its group; None for an object.
        parameters: What is set in that yaml.
        node: What the configuration holds in place of a yaml.
        live: The object itself, where no configuration says it.
    """

    shown: str
    name: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    node: Mapping[str, Any] | None = None
    live: Any = None


def live_part(group: str, value: Any, options: Mapping[str, Any] | None) -> Part:
    """The part that an object stands for.

    Args:
        group: `backbone`, `dataset`, `head` or `protocol`.
        value: The object.
        options: What stood beside it in a pair.
    """
    made = MAKERS[group](value, options)
    if made is None:
        raise InputError(f"{group} is {_shown(value)}, expected {EXPECTED[group]}: give one of these")
    return made


def _backbone(value: Any, options: Mapping[str, Any] | None) -> Part | None:
    from torch import nn

    from probe.core.base import Backbone

    value, options = _with_transform(value, options)
    if isinstance(value, nn.Module):
        value = network_backbone(value, dict(options or {}))
    elif options is not None or isinstance(value, type) or not isinstance(value, Backbone):
        return None
    from probe.core.base import digest
    from probe.core.source import identity_of

    return _recorded(value, f"backbone {value.name}", digest(identity_of(value)))


def network_and_options(given: Any) -> tuple[Any, dict[str, Any]]:
    """A network that trains, and how its input is made: `(network, transform)` or `(network, {…})`.

    Raises:
        InputError: It is neither.
    """
    from torch import nn

    from probe.backbones.shared.borrowed import unwrapped

    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)
    value, options = _with_transform(*(given if pair else (given, None)))
    if not isinstance(value, nn.Module):
        raise InputError(
            f"backbone is {_shown(given)}, expected a network that trains, as (network, transform), (network, "
            '{"size": 224, "mean": [...], "std": [...]}) or (model, tokenizer): give one, or measure what stays as it '
            "is by probe.run"
        )
    if "checkpoint" in (options or {}):
        raise InputError("a network that trains takes no checkpoint, which would replace its weights: leave it out")
    return unwrapped(value), dict(options or {})


def _with_transform(value: Any, options: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any] | None]:
    """`(network, transform)` and `(model, tokenizer)` as a network and its options; anything else as it is."""
    from torch import nn

    from probe.backbones.shared.live_texts import is_tokenizer

    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], nn.Module) and callable(value[1]):
        return value[0], {TOKENIZER if is_tokenizer(value[1]) else "transform": value[1], **(options or {})}
    return value, options


def network_backbone(network: Any, options: dict[str, Any], target: Any = None) -> Any:
    """A network as a backbone.

    Args:
        network: A `torch.nn.Module`.
        options: Of `backbone=module`, and `name`; with a `tokenizer` those of a language model.
        target: What the backbone is made of instead, such as the same one borrowed.
    """
    name = options.pop("name", None)
    made = network if target is None else target
    backbone = _of_texts(made, options) if TOKENIZER in options else _of_images(network, made, options)
    if name is not None:
        backbone.name = str(name)
    weight = next(network.parameters(), None)
    return backbone if weight is None else backbone.to(str(weight.device))  # where its copy lies too


def _of_images(network: Any, made: Any, options: dict[str, Any]) -> Any:
    from probe.backbones.module import ModuleBackbone

    known = [n for n in inspect.signature(ModuleBackbone).parameters if n not in ("target", "kwargs", "seed", "trust")]
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"a network takes no option {', '.join(unknown)}: choose among name, {', '.join(known)}")
    if not options.get("transform") and not {"size", "mean", "std"} <= options.keys():
        words = hasattr(getattr(network, "config", None), "vocab_size")
        raise InputError(
            f"backbone is a {type(network).__name__} and nothing says how "
            + ("a text becomes its input: give (model, tokenizer)" if words else "an image becomes its input: give "
               '(network, transform), or (network, {"size": 224, "mean": [...], "std": [...]})')
        )  # fmt: skip
    return ModuleBackbone(made, **options)


def _of_texts(made: Any, options: dict[str, Any]) -> Any:
    from probe.backbones.shared.huggingface_text import HuggingFaceTexts
    from probe.backbones.shared.live_texts import LiveModel

    tokenizer = options.pop(TOKENIZER)
    of_files = ("name", "pretrained", "revision", "strict", "seed")
    known = [name for name in inspect.signature(HuggingFaceTexts).parameters if name not in of_files]
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"a model of texts takes no option {', '.join(unknown)}: choose among name, {', '.join(known)}"
        )
    return HuggingFaceTexts(LiveModel.of(made, tokenizer), **options)


def _dataset(value: Any, options: Mapping[str, Any] | None) -> Part | None:
    from probe.core.base import Dataset
    from probe.datasets.shared.in_memory import dataset_of

    if not isinstance(value, Dataset):
        if isinstance(value, str | bytes | type) or value is None:
            return None
        given = value if isinstance(value, Mapping) else {"train": value}
        known = [name for name in inspect.signature(dataset_of).parameters if name != "given"]
        if unknown := [name for name in options or {} if name not in known]:
            raise InputError(f"arrays take no option {', '.join(unknown)}: choose among {', '.join(known)}")
        value = dataset_of(given, **(options or {}))
    elif options is not None:
        return None
    return _recorded(value, f"dataset {value.name}", value.fingerprint)


def _head(value: Any, options: Mapping[str, Any] | None) -> Part | None:
    from sklearn.base import BaseEstimator

    from probe.core.base import digest
    from probe.experiment.identity import describe_head
    from probe.heads.shared.base import AnyHead

    if options is not None or isinstance(value, type) or not isinstance(value, BaseEstimator):
        return None
    if not isinstance(value, AnyHead):
        from probe.command.estimators import head_of

        return Part(_shown(value), "sklearn", head_of(value))
    node = said(value, value.get_params(deep=False))
    if node is not None:
        return Part(_shown(value), node=node)
    return _recorded(value, f"head {type(value).__name__}", digest(describe_head(value)))


def _protocol(value: Any, options: Mapping[str, Any] | None) -> Part | None:
    from probe.core.base import SplitProtocol, digest
    from probe.experiment.identity import protocol_code, protocol_parameters

    if options is not None or isinstance(value, type) or not isinstance(value, SplitProtocol):
        return None
    node = said(value, vars(value))
    if node is not None:
        return Part(_shown(value), node=node)
    content = digest([protocol_code(value), protocol_parameters(value)])
    return _recorded(value, f"protocol {value.name}", content)


MAKERS = {"backbone": _backbone, "dataset": _dataset, "head": _head, "protocol": _protocol}


def said(thing: Any, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """An object as a node of a configuration; None where its class cannot be imported from elsewhere.

    Raises:
        InputError: A parameter is an object that no text says.
    """
    from probe.core.base import SplitProtocol

    kind = type(thing)
    node: dict[str, Any] = {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    for name, value in parameters.items():
        inner = isinstance(value, SplitProtocol)
        node[name] = said(value, vars(value)) if inner else plain(value, f"{name} of {kind.__name__}")
        if inner and node[name] is None:
            return None
    typed_in = kind.__module__ == "__main__" or "<locals>" in kind.__qualname__
    return None if typed_in or set(parameters) - set(inspect.signature(kind).parameters) else node


def _recorded(thing: Any, what: str, content: str) -> Part:
    kind = type(thing)
    node = {"live": what, "class": f"{kind.__module__}:{kind.__qualname__}", "content": content}
    return Part(f"<{what}>", node=node, live=thing)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"<{type(value).__name__}>"
