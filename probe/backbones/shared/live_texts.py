"""Language models that a program holds already, with their tokenizers."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from probe.backbones.shared.borrowed import Borrowed
from probe.backbones.shared.live_networks import facts_of, own_copy
from probe.core.errors import InputError
from probe.core.source import UNKNOWN


@dataclass(frozen=True)
class LiveModel:
    """A model of texts as a backbone takes it.

    Attributes:
        network: The part that gives states, a copy that is ours.
        tokenizer: Likewise.
        name: How tables call it.
        facts: What tells it from another one of the same configuration and weights, such as hooks.
    """

    network: Any
    tokenizer: Any
    name: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, target: nn.Module | Borrowed, tokenizer: Any) -> LiveModel:
        """A model of transformers, without the head that it may have.

        Raises:
            InputError: It is none, or has no words.
        """
        given = target.network if isinstance(target, Borrowed) else target
        kind = type(given).__name__
        if not hasattr(getattr(given, "config", None), "model_type"):
            raise InputError(
                f"backbone is a {kind} with a tokenizer, expected a model of transformers, whose configuration says "
                "how it reads tokens: give one, or write a Backbone that reads texts"
            )
        if not hasattr(given.config, "vocab_size"):
            raise InputError(f"backbone is a {kind} with a tokenizer, and it has no words: give (model, transform) for "
                             "images, or a model of texts")  # fmt: skip
        network = body_of(target.copy() if isinstance(target, Borrowed) else own_copy(target))
        if isinstance(target, Borrowed) and not target.named:
            return cls(network, copy.deepcopy(tokenizer), kind, {"live": f"{UNKNOWN}{uuid.uuid4().hex}"})
        return cls(network, copy.deepcopy(tokenizer), kind, {"live": facts_of(network, f"model {kind}")})


def is_tokenizer(thing: Any) -> bool:
    """Whether this makes tokens of texts, as those of transformers do; they can be called, as transforms can."""
    return callable(thing) and hasattr(thing, "get_vocab") and hasattr(thing, "model_input_names")


def body_of(network: Any) -> Any:
    """The part of a model that gives states: without head or pooler, of an encoder and decoder the encoder."""
    network = getattr(network, "base_model", network)
    if getattr(network.config, "is_encoder_decoder", False):
        network = network.get_encoder()
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network
