"""Any model of timm (Wightman, "PyTorch Image Models", 2019)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from probe.backbones.shared.checkpoints import never_unpickled
from probe.backbones.shared.framing import of_timm
from probe.backbones.shared.image_network import ImageNetwork, fast_layout
from probe.backbones.shared.outputs import output_kinds
from probe.backbones.shared.pixels import split_transform
from probe.backbones.shared.timm_weights import load_checkpoint
from probe.core.errors import InputError
from probe.core.geometry import Geometry, Size
from probe.core.images import centre_of_strip, require_image

if TYPE_CHECKING:
    from PIL.Image import Image

UNTRAINED = {"pretrained": False, "checkpoint": None}
POOLS = ("own", "avg", "cls", "none")


class TimmBackbone(ImageNetwork):
    """A timm model without its classifier, with the transform of the model's own configuration.

    Gives `pooled` by the model's own pooling; `tokens` after the final norm, prefix tokens first, or the positions of
    a convolutional map; `map` where positions form a grid. Models whose last output is several tensors (CrossViT,
    CoaT) give `pooled` alone.

    Args:
        name: As in `timm.list_models()`, with or without the tag of its weights; also `hf-hub:...`, `local-dir:...`.
        pretrained: Downloads the weights (once, into the Hugging Face cache); false for random ones.
        checkpoint: A file of weights to use instead; a classifier in it is left out. Nothing is downloaded.
        checkpoint_prefix: What the names in it begin with, such as `teacher.backbone.`; null to find out.
        strict: False loads what fits of the checkpoint, and records in the identity what did not.
        seed: Of random weights.
        model_kwargs: Further arguments of `timm.create_model`, such as `{dynamic_img_size: true}`; with
            `{in_chans: 1}` it reads brightness alone, with `{features_only: true}` the last map counts.
        img_size: Side of the square input in pixels, instead of the model's own; position embeddings are resampled.
        crop_pct: Share of the scaled image's side that the centre crop keeps, instead of the model's own.
        pool: `own`; `avg`, the mean of the patch tokens after the final norm; `cls`, the first prefix token; `none`
            gives no `pooled`. For poolings that timm has itself, set `model_kwargs={global_pool: ...}`.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork`.
        compile: Whether the forward pass is compiled, see `ImageNetwork`.
    """

    runs_side_by_side = True

    def __init__(
        self,
        name: str = "resnet18",
        pretrained: bool = True,
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        strict: bool = True,
        seed: int = 0,
        model_kwargs: Mapping[str, Any] | None = None,
        img_size: int | None = None,
        crop_pct: float | None = None,
        pool: str = "own",
        precision: str = "float32",
        taps: Sequence[str] = (),
        compile: bool = False,
    ):
        if pool not in POOLS:
            raise InputError(
                f"pool is {pool!r}, expected one of {', '.join(POOLS)}: use one of them, or a pooling of timm through "
                f"backbone.model_kwargs={{global_pool: {pool}}}"
            )
        self._arguments = dict(model_kwargs or {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _create(name, pretrained and not checkpoint, self._arguments)
        n_channels = self._arguments.get("in_chans", network.pretrained_cfg["input_size"][0])
        if n_channels not in (1, 3):
            raise InputError(
                f"timm model {name} reads {n_channels} channels, expected 3, or 1 for brightness alone: choose a model "
                "for images"
            )
        size = img_size or self._arguments.get("img_size")
        self._config = data_config(network, size, crop_pct, n_channels)

        def resize() -> None:
            if img_size and hasattr(network, "set_input_size"):
                network.set_input_size(img_size=self._config["input_size"][1:])

        self._misfits = {}
        if checkpoint:
            self._misfits = load_checkpoint(network, checkpoint, checkpoint_prefix, strict, resize)
        else:
            resize()
        self._pool = pool
        self._transform, normalisation = split_transform(create_transform(**self._config, is_training=False))
        suffix = f":{Path(checkpoint).stem}" if checkpoint else "" if pretrained else "-random"
        super().__init__(
            network,
            name=f"timm/{name}{suffix}",
            image_size=self._config["input_size"][1:],
            precision=precision,
            taps=taps,
            n_channels=n_channels,
            n_prefix_tokens=n_prefix_tokens(network),
            channels_last=getattr(network, "output_fmt", None) == "NHWC",
            memory_format=fast_layout(network),
            normalisation=normalisation,
            compile=compile,
        )
        if pool == "cls" and self.n_prefix_tokens == 0:
            raise InputError(f"pool is 'cls', but backbone {self.name} has no prefix tokens: set backbone.pool=avg")

    @staticmethod
    def runs_code(parameters: Mapping[str, Any]) -> list[str]:
        """Which of its parameters could run code, or write, for `probe.command.recorded`: arguments that are texts.

        Among those of timm are files to read weights from and folders to write them to.
        """
        given = parameters.get("model_kwargs")
        if not isinstance(given, Mapping):
            return [f"model_kwargs={given}"] if given else []
        harmless = {name for name, value in given.items() if name == "global_pool" or _are_numbers(value)}
        return [f"model_kwargs.{name}={value}" for name, value in given.items() if name not in harmless]

    def transform(self, row: Any) -> Tensor:
        """One image as (C, H, W) bytes, or float32 where normalising is not the last step of the model's transform."""
        image: Image = require_image(row, self.name)
        if self._config.get("crop_mode") == "center":
            image = centre_of_strip(image)
        return self._transform(image if self.n_channels == 3 else image.convert("L"))

    def geometry(self, size: Size) -> Geometry:
        """What timm's evaluation transform shows."""
        return of_timm(self._config, size)

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        maps_alone = not hasattr(self.network, "forward_features")
        output = self.network(batch)[-1] if maps_alone else self.network.forward_features(batch)
        features = output_kinds(
            output,
            n_prefix_tokens=self.n_prefix_tokens,
            channels_last=self._channels_last,
            image_size=self.image_size,
            grid=getattr(getattr(self.network, "patch_embed", None), "grid_size", None),
        )
        if self._pool == "own" and maps_alone:
            return {"pooled": features["tokens"].mean(1), **features}
        if self._pool == "own":
            pooled = self.network.forward_head(output, pre_logits=True)
            return {"pooled": pooled.flatten(1), **features}
        if self._pool == "none":
            return features
        if "tokens" not in features:
            raise InputError(
                f"backbone {self.name} gives no tokens to pool by {self._pool!r}, expected a single output: "
                "set backbone.pool=own"
            )
        tokens = features["tokens"]
        if self._pool == "avg" and tokens.shape[1] == self.n_prefix_tokens:
            raise InputError(
                f"backbone {self.name} gives prefix tokens alone, there is no patch to average: set backbone.pool=own"
            )
        pooled = tokens[:, 0] if self._pool == "cls" else tokens[:, self.n_prefix_tokens :].mean(1)
        return {"pooled": pooled, **features}

    def _architecture(self) -> dict[str, Any]:
        facts = {
            "family": "timm",
            "name": self.network.pretrained_cfg["architecture"],
            "arguments": self._arguments,
            "pool": self._pool,
        }
        return {**facts, "misfits": self._misfits} if self._misfits else facts

    def _preprocessing(self) -> dict[str, Any]:
        # Pillow's resize always filters before it shrinks.
        return {key: _plain(value) for key, value in self._config.items()} | {"antialias": True}


def spelled(name: str) -> dict[str, str] | None:
    """The settings that a name of timm's, taken for one of a backbone, stands for."""
    return {"name": name} if name.partition(".")[0] in timm.list_models() else None


def data_config(
    network: Any, size: int | Sequence[int] | None, crop_pct: float | None, n_channels: int = 3
) -> dict[str, Any]:
    """The model's own preprocessing with the given size and crop in place of its own, of brightness where it is."""
    config = resolve_model_data_config(network)
    if n_channels == 1:
        config["input_size"] = (1, *config["input_size"][1:])
        config |= {key: (sum(config[key]) / len(config[key]),) for key in ("mean", "std")}
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        config["input_size"] = (n_channels, height, width)
    if crop_pct is not None:
        if not 0 < crop_pct <= 1:
            raise InputError(f"crop_pct is {crop_pct}, expected a share in (0, 1]: set backbone.crop_pct=0.9, say")
        config["crop_pct"] = crop_pct
    return config


def n_prefix_tokens(network: Any) -> int:
    """How many tokens stand before the patches; VOLO and PiT have class tokens but do not count them."""
    cls_token = getattr(network, "cls_token", None)
    own = cls_token.shape[1] if isinstance(cls_token, Tensor) else 0
    return int(getattr(network, "num_prefix_tokens", own))


def _create(name: str, pretrained: bool, arguments: Mapping[str, Any]) -> Any:
    if ":" not in name:
        _check_name(name)
    try:
        with never_unpickled():
            return timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except TypeError as error:
        raise InputError(
            f"timm model {name} does not take model_kwargs {dict(arguments)} ({error}): leave out what it does not know"
        ) from error
    except Exception as error:
        # Which exception a failed download gives depends on the client library and its version.
        if not pretrained and ":" not in name:
            raise
        raise InputError(
            f"the weights of timm model {name} cannot be had ({_brief(error)}): connect to the network once, give a "
            "file with backbone.checkpoint=<path>, or set backbone.pretrained=false for random weights"
        ) from error


def _check_name(name: str) -> None:
    architecture = name.partition(".")[0]
    models = timm.list_models()
    if architecture not in models:
        close = difflib.get_close_matches(architecture, models, n=8, cutoff=0.5) or models[:8]
        raise InputError(
            f"timm has no model {name!r}, close to it are {', '.join(close)}: choose one of the {len(models)} names "
            "that timm.list_models() gives"
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        raise InputError(f"timm has no weights {name!r}, there are {', '.join(tags) or 'none'}: choose one of these")


def _are_numbers(value: Any) -> bool:
    return all(isinstance(v, int | float | None) for v in (value if isinstance(value, list) else [value]))


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
