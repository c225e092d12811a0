"""The text tower of an open_clip model: tokens -> features beside those of images."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from probe.backbones.shared.network import FrozenNetwork
from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.hashing import hash_tensors

SCALES = ("logit_scale", "logit_bias")


class OpenClipText(FrozenNetwork):
    """A backbone whose rows are tokenised texts.

    `pooled` has unit length and lies in the space of projected images. The weights are those of the model it came
    from, not a copy of them.

    Args:
        model: A model of open_clip, frozen.
        clip_name: Its name there, which says which tokenizer it has.
        name: How tables call it.
        facts: What, beside weights, makes the network what it is.
    """

    reads = "texts"

    def __init__(self, model: nn.Module, clip_name: str, name: str, facts: dict[str, Any]):
        # A shallow copy without the image tower, so that the two towers move between devices on their own.
        tower: Any = copy.copy(model)
        tower._modules = {key: part for key, part in model._modules.items() if key != "visual"}
        super().__init__(tower, name=name)
        self._clip_name = clip_name
        self._facts = facts

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            with _no_code_of_models():
                return open_clip.get_tokenizer(self._clip_name)
        except ImportError as error:
            raise InputError(
                f"the tokenizer of open_clip model {self._clip_name} needs a package that is missing ({error}): "
                "pip install transformers sentencepiece, or choose a model with CLIP's own tokenizer"
            ) from error
        except ValueError as error:
            raise InputError(
                f"the tokenizer of open_clip model {self._clip_name} is code of the model, which is not run: choose a "
                "model with CLIP's own tokenizer, or one of transformers' own"
            ) from error
        except OSError as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"the tokenizer of open_clip model {self._clip_name} cannot be had ({text}): connect to the network "
                "once, or choose a model with CLIP's own tokenizer"
            ) from error

    def tokenize(self, texts: Sequence[str]) -> IntArray:
        """(n, context length) token ids; longer texts are cut."""
        return self._tokenizer(list(texts)).numpy().astype(np.int64)

    @property
    def temperature(self) -> float:
        """What cosine similarities are divided by to become logits: 1 / exp(logit_scale)."""
        return float((-self.network.logit_scale).exp())

    def hash_weights(self) -> str:
        """Digest of all weights but the scales of logits, which no feature depends on."""
        state = {key: value for key, value in self.network.state_dict().items() if key not in SCALES}
        return hash_tensors({key: value for key, value in state.items() if isinstance(value, Tensor)})

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature; the tokenizer shows in the rows, which are tokens."""
        return {"architecture": {**self._facts, "part": "text", "normalize": True}, "weights": self._weights}

    def transform(self, row: Any) -> Tensor:
        """One row of tokens as a tensor."""
        return torch.as_tensor(row)

    def _blank(self) -> Tensor:
        return torch.as_tensor(self.tokenize([""]))

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        return {"pooled": self.network.encode_text(batch, normalize=True)}


@contextmanager
def _no_code_of_models() -> Iterator[None]:
    """Within, a tokenizer of transformers runs no code that lies beside a model, which its configuration can ask for.

    An argument of `open_clip.get_tokenizer` would do so too, but reaches CLIP's own tokenizer, which takes none.
    """
    from open_clip import factory

    made = factory.HFTokenizer

    def without(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **{**kwargs, "trust_remote_code": False})

    factory.HFTokenizer = without
    try:
        yield
    finally:
        factory.HFTokenizer = made
