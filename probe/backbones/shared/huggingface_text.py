"""Language models of transformers: encoders, decoders, and the encoders of pairs of both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probe.backbones.shared.checkpoints import FITTING, check_misfits
from probe.backbones.shared.live_texts import LiveModel, body_of
from probe.backbones.shared.output_words import OutputWords
from probe.backbones.shared.own_code import handed_over, own_code
from probe.backbones.shared.pretrained import cannot_be_had, configuration, is_decoder, load_model, shown_as
from probe.backbones.shared.sentence_transformers import sentence_transformers
from probe.backbones.shared.text_network import TextNetwork
from probe.backbones.shared.text_prompts import Chat, Prompt
from probe.core.base import IntArray, digest
from probe.core.errors import InputError
from probe.core.texts import Text

SIDES = ("right", "left")
ATTENTIONS = ("eager", "sdpa")
WITH_OUTPUT = (
    "give a model that was saved with its output matrix, or set backbone.words=false for heads that read features alone"
)
UNLIMITED = 10**6
"""A tokenizer that knows no limit says a number beyond this."""


class HuggingFaceTexts(TextNetwork):
    """An `AutoModel` with its tokenizer; of an encoder and decoder, the encoder.

    Args:
        name: Id on the hub, or a folder that `save_pretrained` or sentence-transformers wrote; from Python also a
            model with its tokenizer, for which the next four say nothing.
        pretrained: False draws random weights for the configuration.
        revision: Branch, tag or commit on the hub.
        strict: False draws random weights for those that the model's file lacks, and records in the identity which.
        seed: Of random weights.
        pooling: As `TextNetwork` says; null is what a folder of sentence-transformers says, else `last` for decoders,
            whose other tokens do not see the text, and `mean` for others.
        normalize: Unit length; null is what a folder of sentence-transformers says, else false.
        max_length: Tokens that are read of a text, special ones included; null is what the model was made for. What is
            cut counts in `length`; `probe describe` tells how many texts are cut, and so does a run.
        truncation_side: Where a text that is too long is cut, `right` or `left`.
        template: What the model reads for a text, such as `query: {text}`.
        chat: Give it in the tokenizer's chat template, as what a user says, before the answer; see `Chat`.
        system: What the system says in the chat.
        words: Load the model with its output matrix: `pooled` is then what that reads, and heads of label words can ask
            how likely a word is there.
        attention: Implementation of the model's attention, `eager` or `sdpa`; null is what the model takes. Attention
            weights are seen by `eager` alone.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `TextNetwork`.

    Raises:
        InputError: No tokenizer, weights that are missing or no safetensors, modules of sentence-transformers that are
            not read here.
    """

    def __init__(
        self,
        name: str | LiveModel,
        *,
        pretrained: bool = True,
        revision: str | None = None,
        strict: bool = True,
        seed: int = 0,
        pooling: str | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        truncation_side: str = "right",
        template: str = "{text}",
        chat: bool = False,
        system: str | None = None,
        words: bool = False,
        attention: str | None = None,
        precision: str = "float32",
        taps: Sequence[str] = (),
    ):
        if truncation_side not in SIDES:
            raise InputError(f"truncation_side is {truncation_side!r}, expected right or left: set one of them")
        if attention not in (None, *ATTENTIONS):
            raise InputError(
                f"attention is {attention!r}, expected {' or '.join(ATTENTIONS)}: set backbone.attention so"
            )
        if isinstance(name, LiveModel):
            network, self._tokenizer, self._facts = name.network, name.tokenizer, dict(name.facts)
            said, shown = dict[str, Any](), name.name
        else:
            network, missing, self._tokenizer = load(name, pretrained, revision, seed, words)
            # A random body is a baseline; a random output matrix says of no word how likely it is.
            wordless = words and not all(key.startswith(f"{network.base_model_prefix}.") for key in missing)
            remedy = WITH_OUTPUT if wordless else FITTING
            misfits = check_misfits({"missing": missing}, f"huggingface model {name}", strict, remedy)
            said, self._facts = sentence_transformers(Path(name), pooling is not None), {"misfits": misfits}
            shown = shown_as(name, pretrained)
        self._handed_over = handed_over(network, shown)
        if attention is not None:
            network.set_attn_implementation(attention)
        self._config = configuration(network.config)
        self._attention = str(network.config._attn_implementation)
        if system is not None and not chat:
            raise InputError(f"system is {system!r} and no chat is read: set backbone.chat=true, or leave it out")
        self._prompt = Chat(self._tokenizer, template, system, shown) if chat else Prompt(template)
        self._tokenizer.truncation_side = truncation_side
        self._words = digest_of(self._tokenizer)
        if words:
            self.text = OutputWords.taken_from(network, self._tokenizer, shown)
        limit = min(longest(network, self._tokenizer), said.get("max_length") or UNLIMITED)
        if max_length is not None and not 0 < max_length <= limit:
            raise InputError(f"max_length is {max_length}, expected 1 to {limit}, what {shown} was made for: set it so")
        self.max_length = max_length or limit
        super().__init__(
            network,
            name=f"huggingface/{shown}",
            pooling=pooling or said.get("pooling") or ("last" if is_decoder(network.config) else "mean"),
            normalize=said.get("normalize", False) if normalize is None else normalize,
            precision=precision,
            taps=taps,
        )

    def _features(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        with own_code(self._handed_over):
            return super()._features(batch)

    def transform(self, row: Any) -> dict[str, Tensor]:
        """Tokens of one text, (T,) each, and `length`, its tokens before it was cut."""
        given = row if isinstance(row, Text) else Text(row)
        if not isinstance(given.text, str):
            raise InputError(
                f"backbone {self.name} reads texts, the row is a {type(row).__name__}: set backbone=tiny for images, "
                "backbone=identity for vectors"
            )
        words, begins = self._prompt.words(given)
        whole = self._tokenizer(*words, add_special_tokens=self._prompt.special, verbose=False)
        n_tokens = len(whole["input_ids"])
        if n_tokens == 0:
            return self._nothing()
        too_long = n_tokens > self.max_length
        kept = self._prompt.cut(self._tokenizer, words, given, self.max_length) if too_long else whole
        parts = {part: torch.tensor(kept[part]) for part in kept if part in self._tokenizer.model_input_names}
        parts["attention_mask"] = torch.ones_like(parts["input_ids"])
        parts["length"] = torch.tensor(n_tokens)
        if self.pooling == "mask":
            parts["slot"] = self._slot(parts["input_ids"])
        if given.span is not None:
            parts["span"] = self._marked(kept, [end + begins for end in given.span])
        return parts

    def _nothing(self) -> dict[str, Tensor]:
        """An empty text of a tokenizer without special tokens: the token that ends or begins texts stands for it."""
        t = self._tokenizer
        token = next((i for i in (t.bos_token_id, t.eos_token_id, t.pad_token_id) if i is not None), None)
        if token is None:
            raise InputError(
                "the text has no token, expected one at least: leave it out, or set features.on_error=skip"
            )
        one = torch.tensor([token])
        return {"input_ids": one, "attention_mask": torch.ones_like(one), "length": torch.tensor(0)}

    def _slot(self, ids: Tensor) -> Tensor:
        """(T,) 1 at the one mask token."""
        token = self._tokenizer.mask_token
        if token is None:
            raise InputError(f"backbone {self.name} has no mask token: set backbone.pooling=last, or choose an encoder")
        slot = (ids == self._tokenizer.mask_token_id).long()
        if slot.sum() != 1:
            raise InputError(
                f"the text has {int(slot.sum())} mask tokens among the {self.max_length} that are read, expected one: "
                f"put {token} into backbone.template once, and shorten the text or set backbone.truncation_side so "
                "that it is not cut away"
            )
        return slot

    def _marked(self, kept: Any, span: Sequence[int]) -> Tensor:
        """(T,) 1 where a token stands in the span."""
        inside = [
            int(kept.sequence_ids()[i] == 0 and ends.start < span[1] and ends.end > span[0])
            if (ends := kept.token_to_chars(i)) is not None
            else 0
            for i in range(len(kept["input_ids"]))
        ]
        if not any(inside):
            raise InputError(
                f"the marked span lies behind the {self.max_length} tokens that are read, or holds none: shorten the "
                "text, set backbone.truncation_side, or features.on_error=skip"
            )
        return torch.tensor(inside)

    def n_tokens(self, row: Any) -> int:
        """Tokens of a text before it is cut."""
        return int(self.transform(row)["length"])

    def words_of(self, ids: IntArray, rows: Iterable[Any]) -> list[str]:
        """The tokens as they are read; those that are no text of their own as the tokenizer calls them."""
        names = self._tokenizer.convert_ids_to_tokens(ids.tolist())
        return [self._tokenizer.convert_tokens_to_string([name]).strip() or name for name in names]

    def as_read(self, row: Any) -> str:
        """A text with what stands around it."""
        return " ".join(self._prompt.words(row if isinstance(row, Text) else Text(row))[0])

    def _blank(self) -> dict[str, Tensor]:
        row = self.transform("a text")
        return self.collate([row | ({"span": row["attention_mask"]} if self.pooling.startswith("span") else {})])

    def _architecture(self) -> dict[str, Any]:
        facts = {"family": "huggingface texts", "class": type(self.network).__name__, "config": self._config}
        reading = {"attention": self._attention, "pooling": self.pooling, "normalize": self.normalize}
        reading |= {"reads": "output matrix"} if hasattr(self, "text") else {}
        return {**facts, **reading, **{name: found for name, found in self._facts.items() if found}}

    def _preprocessing(self) -> dict[str, Any]:
        return {
            "tokenizer": self._words,
            **self._prompt.identity(),
            "max_length": self.max_length,
            "truncation_side": self._tokenizer.truncation_side,
        }


def load(
    name: str, pretrained: bool, revision: str | None, seed: int, words: bool = False
) -> tuple[Any, list[str], Any]:
    """The network, the weights that its file lacks, the tokenizer."""
    files = "the files of its tokenizer"
    network, missing, tokenizer = load_model(
        name, pretrained, revision, seed, before="AutoTokenizer", files=files, words=words
    )
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # made of a configuration alone
        raise cannot_be_had(name, "it has no tokenizer", files)
    if getattr(network.config, "is_encoder_decoder", False):
        missing = [key for key in missing if key.startswith(("encoder.", "shared."))]
    # A pooler that the file lacks would be random; no pooler has a part in the features.
    missing = [key for key in missing if not key.startswith("pooler.")]
    return network if words else body_of(network), missing, tokenizer


def longest(network: Any, tokenizer: Any) -> int:
    """Tokens that a model was made for."""
    table: Any = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions is not None and getattr(table, "padding_idx", None) is not None:
        positions -= table.padding_idx + 1  # RoBERTa counts from behind the padding token
    told = [n for n in (positions, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < UNLIMITED]
    return min(told, default=UNLIMITED)


def digest_of(tokenizer: Any) -> str:
    """Of all that makes tokens of a text; where the files lie has no part in it."""
    special = {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    return digest([type(tokenizer).__name__, special, _finite(words)])


def _finite(value: Any) -> Any:
    """Numbers that JSON has none for as words: some tokenizers score unknown words at minus infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
