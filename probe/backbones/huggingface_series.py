"""Models of series of transformers: PatchTST, TimesFM and Chronos, from the hub or a local folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.checkpoints import check_misfits
from probe.backbones.shared.network import FrozenNetwork
from probe.backbones.shared.pretrained import configuration, load_model, require_name, shown_as
from probe.backbones.shared.series import SERIES, by_length, check_normalize, normalised, padded, require_series
from probe.core.errors import InputError

UNTRAINED = {"pretrained": False}
POOLINGS = ("mean", "variates")
WORDS, ENCODER = "MeanScaleUniformBins", "seq2seq"


class SeriesModel(FrozenNetwork):
    """Gives `pooled` and `tokens` (N, C, D), one for each variate: the mean of its last hidden states over time.

    Every variate goes through the model by itself, or all together through a PatchTST that was made for so many. Of a
    series longer than the context of the model its last steps are read. Before shorter ones stand steps that count as
    not observed: to the length of a PatchTST, which is fixed, to whole patches of TimesFM; Chronos takes any length.
    Rows of one length go through the model together, so that no row depends on those beside it. Masking for training
    is switched off. Needs the extra `transformers`; what makes tokens of numbers for Chronos is rewritten here.

    Source: Nie et al., "A Time Series is Worth 64 Words", 2023, arXiv 2211.14730; Das et al., "A decoder-only
    foundation model for time-series forecasting", 2024, arXiv 2310.10688; Ansari et al., "Chronos: Learning the
    Language of Time Series", 2024, arXiv 2403.07815.

    Args:
        name: Id on the hub, or a folder that `save_pretrained` wrote.
        pretrained: False draws random weights for the configuration.
        revision: Branch, tag or commit on the hub.
        strict: False draws random weights for those that the model's file lacks, and records in the identity which.
        seed: Of random weights.
        pooling: `mean` over the variates, or `variates`: those of each side by side (N, C D).
        normalize: `none`, or `instance`, which takes level and scale of each variate away before the model does.
        precision: `float32` or `bfloat16`.
    """

    reads = "series"
    recipe = "2"  # Chronos scales series of every magnitude

    def __init__(
        self,
        name: str | None = None,
        pretrained: bool = True,
        revision: str | None = None,
        strict: bool = True,
        seed: int = 0,
        pooling: str = "mean",
        normalize: str = "none",
        precision: str = "float32",
    ):
        name = require_name(name, "huggingface_series")
        check_normalize(normalize, "huggingface_series")
        if pooling not in POOLINGS:
            raise InputError(f"pooling is {pooling!r}, expected one of {', '.join(POOLINGS)}: set backbone.pooling")
        network, missing, config = load_model(
            name, pretrained, revision, seed, before="AutoConfig", files="nothing besides"
        )
        self.kind = "chronos" if hasattr(config, "chronos_config") else str(config.model_type)
        if self.kind not in READERS:
            raise InputError(
                f"huggingface model {name} is a {self.kind}, expected one of {', '.join(READERS)}: set "
                "backbone=huggingface for models of images and texts, or wrap it for backbone=module"
            )
        _check_words(config)
        self._read = partial(READERS[self.kind], config)
        if hasattr(network, "do_mask_input"):
            network.do_mask_input, network.masking = False, nn.Identity()
        self._misfits = check_misfits({"missing": missing}, f"huggingface model {name}", strict)
        self._config = configuration(config)
        self.pooling, self.normalize = pooling, normalize
        self.channels = config.num_input_channels if self.kind == "patchtst" and config.num_input_channels > 1 else None
        super().__init__(network, name=f"huggingface/{shown_as(name, pretrained)}", precision=precision)

    def transform(self, row: Any) -> Tensor:
        """One series as (T, C) float32."""
        series = require_series(row, self.name)
        if self.channels not in (None, series.shape[1]):
            raise InputError(
                f"a series has {series.shape[1]} channels, backbone {self.name} was made for {self.channels}: give "
                "such series, or a model of one channel, which reads each by itself"
            )
        return normalised(series, self.normalize)

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Series as one batch with a mask."""
        return padded(rows, self.name)

    def _blank(self) -> dict[str, Tensor]:
        return padded([torch.linspace(0, 1, 32)[:, None].repeat(1, self.channels or 1)], self.name)

    def _features(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[int, Tensor] = {}
        for length, rows in by_length(batch).items():
            states = self._read(self.network, batch[SERIES][rows, :length])
            found |= dict(zip(rows.tolist(), states.float(), strict=True))
        tokens = torch.stack([found[row] for row in range(len(found))])
        return {"pooled": tokens.flatten(1) if self.pooling == "variates" else tokens.mean(dim=1), "tokens": tokens}

    def _architecture(self) -> dict[str, Any]:
        facts = {"family": "huggingface_series", "class": type(self.network).__name__, "config": self._config}
        return {**facts, "pooling": self.pooling, **({"misfits": self._misfits} if self._misfits else {})}

    def _preprocessing(self) -> dict[str, Any]:
        return {"normalize": self.normalize}


def _patchtst(config: Any, network: Any, series: Tensor) -> Tensor:
    series, observed = _in_front(series[:, -config.context_length :], config.context_length)
    n_rows, _, n_variates = series.shape
    if config.num_input_channels == 1:
        series, observed = (_apart(values)[..., None] for values in (series, observed))
    states: Tensor = network(past_values=series, past_observed_mask=observed).last_hidden_state
    return states.reshape(n_rows, n_variates, -1, states.shape[-1]).mean(dim=2)


def _timesfm(config: Any, network: Any, series: Tensor) -> Tensor:
    series = series[:, -config.context_length :]
    whole = -(-series.shape[1] // config.patch_length) * config.patch_length
    n_variates, (series, observed) = series.shape[2], _in_front(series, whole)
    variates, there = _apart(series), _apart(observed)
    frequency = torch.zeros(len(variates), 1, dtype=torch.int32, device=series.device)
    states: Tensor = network(past_values=variates, past_values_padding=(~there).long(), freq=frequency)[0]
    return states.mean(dim=1).reshape(len(series), n_variates, -1)


def _chronos(config: Any, network: Any, series: Tensor) -> Tensor:
    """Numbers as words of a T5 encoder."""
    facts = config.chronos_config
    words = chronos_words(_apart(series[:, -int(facts["context_length"]) :]), facts)
    states: Tensor = network.get_encoder()(input_ids=words, attention_mask=torch.ones_like(words)).last_hidden_state
    return states.mean(dim=1).reshape(len(series), series.shape[2], -1)


def chronos_words(series: Tensor, facts: Mapping[str, Any]) -> Tensor:
    """(N, T + 1) token ids of series (N, T): numbers over their mean magnitude, in bins of equal width; a last word.

    In double precision, where the released code has single: a number at the edge of a bin would go where the order of a
    sum puts it.

    Args:
        series: Finite.
        facts: The `chronos_config` of a model, a map of its tokenizer.
    """
    options, special = facts["tokenizer_kwargs"], int(facts["n_special_tokens"])
    n_bins = int(facts["n_tokens"]) - special - 1
    centres = torch.linspace(float(options["low_limit"]), float(options["high_limit"]), n_bins)
    edges = torch.cat([torch.tensor([-1e20]), (centres[1:] + centres[:-1]) / 2, torch.tensor([1e20])]).double()
    variates = series.double().contiguous()
    scale = variates.abs().mean(dim=1, keepdim=True)
    scaled = variates / torch.where(scale > 0, scale, 1.0)
    words = torch.bucketize(scaled, edges.to(scaled.device), right=True) + special
    words = words.clamp(0, int(facts["n_tokens"]) - 1)
    if facts.get("use_eos_token", True):
        words = nn.functional.pad(words, (0, 1), value=int(facts["eos_token_id"]))
    return words


def _check_words(config: Any) -> None:
    """Refuses a Chronos that makes words in another way, or has no encoder."""
    facts = getattr(config, "chronos_config", None)
    if facts is None:
        return
    made, kind = facts.get("tokenizer_class"), facts.get("model_type", ENCODER)
    if made != WORDS:
        raise InputError(f"a Chronos model makes words by {made}, expected {WORDS}: give one of the chronos-t5 models")
    if kind != ENCODER:
        raise InputError(f"a Chronos model is {kind}, expected one with an encoder: give one of the chronos-t5 models")


READERS: dict[str, Callable[[Any, Any, Tensor], Tensor]] = {
    "patchtst": _patchtst, "timesfm": _timesfm, "chronos": _chronos,
}  # fmt: skip


def _in_front(series: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(N, length, C) with zeros before the first step, and which steps were observed."""
    missing = length - series.shape[1]
    observed = torch.ones_like(series, dtype=torch.bool)
    pad = nn.functional.pad
    return pad(series, (0, 0, missing, 0)), pad(observed, (0, 0, missing, 0), value=False)


def _apart(values: Tensor) -> Tensor:
    """(N C, T) of (N, T, C)."""
    return values.transpose(1, 2).flatten(0, 1)
