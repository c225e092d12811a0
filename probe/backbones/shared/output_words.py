"""The output matrix of a language model: one row of weights and a bias for each word that it may say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.core.hashing import hash_tensors

CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What a configuration calls a step behind the output matrix."""


class OutputWords:
    """Words of one token as `pooled` features (n, D + 1): the weights of each, and its bias.

    With t what the output matrix reads at a place, the model's logit of a word there is w.t + b.
    """

    reads = "texts"
    kinds = ("pooled",)
    n_prefix_tokens = 0
    apart = True
    temperature = 1.0

    def __init__(self, weight: Tensor, bias: Tensor, tokenizer: Any, name: str):
        self.weight, self.bias, self.tokenizer, self.name = weight, bias, tokenizer, f"{name} words"
        self.n_parameters = weight.numel()

    @classmethod
    def taken_from(cls, network: Any, tokenizer: Any, name: str) -> Self:
        """Takes the output matrix off a model, whose logits then are what it read.

        Raises:
            InputError: It has none, or changes what comes out of it.
        """
        find = getattr(network, "get_output_embeddings", None)
        matrix = None if find is None else find()
        odd = [key for key in CHANGES_LOGITS if getattr(getattr(network, "config", None), key, None) not in (None, 1.0)]
        if not isinstance(matrix, nn.Linear) or odd:
            raise InputError(
                f"model {name} has no output matrix of words alone ({', '.join(odd) or type(matrix).__name__}): leave "
                "backbone.words out, or choose a model with a head of masked or next words"
            )
        place, _, attribute = next(name for name, part in network.named_modules() if part is matrix).rpartition(".")
        setattr(network.get_submodule(place), attribute, nn.Identity())
        weight = matrix.weight.detach().float().clone()
        bias = weight.new_zeros(len(weight)) if matrix.bias is None else matrix.bias.detach().float().clone()
        return cls(weight, bias, tokenizer, name)

    @property
    def n_words(self) -> int:
        """Rows of the matrix: all words that its model may say."""
        return len(self.weight)

    def identity(self) -> dict[str, Any]:
        """Facts that determine every feature."""
        return {"architecture": "output matrix", "weights": hash_tensors({"weight": self.weight, "bias": self.bias})}

    def tokenize(self, texts: Sequence[str]) -> IntArray:
        """(n, 1) ids of words, with a space before them where that is one token.

        Raises:
            InputError: Some are no single token; all of these are named.
        """
        found, odd = [], []
        for text in texts:
            ids = [self.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (f" {text.strip()}", text.strip())]
            single = next((one[0] for one in ids if len(one) == 1 and one[0] != self.tokenizer.unk_token_id), None)
            odd += [] if single is not None else [text]
            found.append(-1 if single is None else single)
        if odd:
            raise InputError(
                f"{', '.join(map(repr, odd))} {'are' if len(odd) > 1 else 'is'} no single token of {self.name}: give "
                "other words for these classes, as in head.words={<class>: [<word>, ...]}"
            )
        return np.array(found, dtype=np.int64)[:, None]

    def transform(self, row: Any) -> Tensor:
        """One word, (1,) its id."""
        return torch.from_numpy(np.asarray(row))

    def extract(self, batch: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
        """Weights and bias of each word."""
        ids = batch[:, 0].to(self.weight.device)
        return dict.fromkeys(kinds, torch.cat([self.weight[ids], self.bias[ids, None]], dim=1))

    def to(self, device: str) -> OutputWords:
        """Moves the matrix."""
        self.weight, self.bias = self.weight.to(device), self.bias.to(device)
        return self
