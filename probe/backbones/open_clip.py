"""Models of open_clip (Ilharco et al., "OpenCLIP", 2021): the image tower as a backbone, with its text tower."""

from __future__ import annotations

import contextlib
import difflib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from probe.backbones.shared.checkpoints import check_misfits, never_unpickled, read_state, without_prefix
from probe.backbones.shared.framing import of_open_clip
from probe.backbones.shared.image_network import ImageNetwork, fast_layout
from probe.backbones.shared.open_clip_text import OpenClipText
from probe.backbones.shared.outputs import map_kinds, output_kinds, token_kinds
from probe.backbones.shared.pixels import split_transform
from probe.core.errors import DoesNotFit, InputError
from probe.core.geometry import Geometry, Size
from probe.core.images import centre_of_strip, require_image

UNTRAINED = {"pretrained": None, "checkpoint": None}


class OpenClipBackbone(ImageNetwork):
    """The image tower of a CLIP model; `text` is its text tower, which head `zero_shot` reads.

    `pooled` is the tower's output. `tokens` are those of the last block after the final norm, prefix tokens first;
    ResNet towers give their last map.

    Args:
        name: As in `open_clip.list_models()`; also `hf-hub:...`, `local-dir:...`.
        pretrained: Tag of the weights, as in `open_clip.list_pretrained()`, which are downloaded once; null for
            random ones.
        checkpoint: A file of weights of the whole model to use instead. Nothing is downloaded.
        checkpoint_prefix: What the names in it begin with, such as `model.`; null to find out.
        strict: False loads what fits of the checkpoint, and records in the identity what did not.
        seed: Of random weights.
        projection: Whether `pooled` is projected into the space shared with text; ResNet towers cannot do without.
        normalize: Whether `pooled` has unit length.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork`.
        compile: Whether the forward pass is compiled, see `ImageNetwork`.
    """

    runs_side_by_side = True

    def __init__(
        self,
        name: str = "ViT-B-32",
        pretrained: str | None = "laion2b_s34b_b79k",
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        strict: bool = True,
        seed: int = 0,
        projection: bool = True,
        normalize: bool = False,
        precision: str = "float32",
        taps: Sequence[str] = (),
        compile: bool = False,
    ):
        tag = None if checkpoint else pretrained
        quick_gelu = _check_name(name, tag)
        self._model = _create(name, tag, seed, quick_gelu)
        self._misfits = _load_checkpoint(self._model, checkpoint, checkpoint_prefix, strict) if checkpoint else {}
        self._model.eval().requires_grad_(False)
        visual = self._model.visual
        self._facts = {"name": name, "quick_gelu": quick_gelu, "projection": projection, "normalize": normalize}
        self._normalize = normalize
        self._clip_name = name
        config = PreprocessCfg(**visual.preprocess_cfg)
        self._config = vars(config)
        self._transform, normalisation = split_transform(image_transform_v2(config, is_train=False))
        trunk = getattr(visual, "trunk", None)
        network = visual if projection else _without_projection(visual, name)
        suffix = f":{Path(checkpoint).stem}" if checkpoint else f":{tag}" if tag else "-random"
        super().__init__(
            network,
            name=f"open_clip/{name}{suffix}",
            image_size=config.input_size[1:],
            precision=precision,
            taps=taps,
            n_prefix_tokens=int(hasattr(visual, "class_embedding"))
            if trunk is None
            else getattr(trunk, "num_prefix_tokens", 0),
            channels_last=getattr(trunk, "output_fmt", None) == "NHWC",
            memory_format=fast_layout(network),
            normalisation=normalisation,
            compile=compile,
        )

    def transform(self, row: Any) -> Tensor:
        """One image as (3, H, W) bytes."""
        image = require_image(row, self.name)
        if self._config["resize_mode"] == "shortest":
            image = centre_of_strip(image)
        return self._transform(image)

    def geometry(self, size: Size) -> Geometry:
        """What open_clip's evaluation transform shows."""
        return of_open_clip(self._config, size, (self.image_size[1], self.image_size[0]))

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        if hasattr(self.network, "trunk"):
            output = self.network.trunk.forward_features(batch)
            pooled = self.network.head(self.network.trunk.forward_head(output))
            kinds = output_kinds(
                output,
                n_prefix_tokens=self.n_prefix_tokens,
                channels_last=self._channels_last,
                image_size=self.image_size,
                grid=getattr(getattr(self.network.trunk, "patch_embed", None), "grid_size", None),
            )
        elif self.n_prefix_tokens:
            given = self.network.forward_intermediates(
                batch, indices=1, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
            )
            pooled = given["image_features"]
            tokens = torch.cat([given["image_intermediates_prefix"][-1], given["image_intermediates"][-1]], dim=1)
            kinds = token_kinds(tokens, self.n_prefix_tokens, tuple(self.network.grid_size))
        else:
            given = self.network.forward_intermediates(batch, indices=1)
            pooled, kinds = given["image_features"], map_kinds(given["image_intermediates"][-1])
        return {"pooled": F.normalize(pooled, dim=-1) if self._normalize else pooled, **kinds}

    @cached_property
    def text(self) -> OpenClipText:
        """The text tower, whose features lie in the space of projected images."""
        if not self._facts["projection"]:
            raise DoesNotFit(
                f"backbone {self.name} gives images before their projection, where no texts are: set "
                "backbone.projection=true"
            )
        facts = {"family": "open_clip", "name": self._clip_name, "quick_gelu": self._facts["quick_gelu"]}
        return OpenClipText(self._model, self._clip_name, f"{self.name} (text)", facts)

    def _architecture(self) -> dict[str, Any]:
        facts = {"family": "open_clip", **self._facts}
        return {**facts, "misfits": self._misfits} if self._misfits else facts

    def _preprocessing(self) -> dict[str, Any]:
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in self._config.items()}
        return {**plain, "antialias": True}


def _check_name(name: str, tag: str | None) -> bool:
    """Refuses unknown names and tags; returns whether the network has QuickGELU, as its weights may ask for."""
    if ":" in name:
        return False
    if name not in open_clip.list_models():
        models = open_clip.list_models()
        close = difflib.get_close_matches(name, models, n=8, cutoff=0.4) or models[:8]
        raise InputError(
            f"open_clip has no model {name!r}, close to it are {', '.join(close)}: choose one of the {len(models)} "
            "names that open_clip.list_models() gives"
        )
    own = bool(open_clip.get_model_config(name).get("quick_gelu", False))
    if tag is None:
        return own
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise InputError(
            f"open_clip has no weights {tag!r} of {name}, there are {', '.join(tags) or 'none'}: set "
            "backbone.pretrained to one of these, or to null for random weights"
        )
    return own or bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))


def _create(name: str, tag: str | None, seed: int, quick_gelu: bool) -> Any:
    with torch.random.fork_rng(devices=[]), _quiet(), never_unpickled():
        torch.manual_seed(seed)
        try:
            # Towers that come with weights of their own would download them even for a random model.
            return open_clip.create_model(
                name, pretrained=tag, force_quick_gelu=quick_gelu, pretrained_text=tag is not None, weights_only=True
            )
        except Exception as error:
            # Which exception a failed download gives depends on the client library and its version.
            what = f"the weights {tag} of open_clip model {name}" if tag else f"open_clip model {name}"
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"{what} cannot be had ({text}): connect to the network once, give a file with "
                "backbone.checkpoint=<path>, or set backbone.pretrained=null for random weights"
            ) from error


def _load_checkpoint(model: nn.Module, checkpoint: str, prefix: str | None, strict: bool) -> dict[str, Any]:
    """Loads a file of weights with open_clip's own conversions."""
    if not Path(checkpoint).is_file():
        raise InputError(f"checkpoint {checkpoint} is no file: give the path of a .safetensors or .pth file")
    keys = None
    if prefix is None:
        with contextlib.suppress(Exception):  # damaged, of a training script, or of another shape: told apart below
            keys = open_clip.load_checkpoint(model, checkpoint, strict=False, weights_only=True)
    if keys is None or (keys and set(keys.missing_keys) >= set(model.state_dict())):
        keys = _load_weights_alone(model, checkpoint, prefix)
    misfits = {"missing": sorted(keys.missing_keys), "unexpected": sorted(keys.unexpected_keys)} if keys else {}
    return check_misfits(misfits, checkpoint, strict)


def _load_weights_alone(model: nn.Module, checkpoint: str, prefix: str | None) -> Any:
    """Hands open_clip the weights out of what a training script wrote: it takes them from a file alone."""
    state = without_prefix(read_state(checkpoint), model.state_dict(), prefix, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(dict(state), f"{folder}/weights.pt")
        try:
            return open_clip.load_checkpoint(model, f"{folder}/weights.pt", strict=False, weights_only=True)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"checkpoint {checkpoint} cannot be loaded ({text}): give weights of this model"
            ) from error


def _without_projection(visual: Any, name: str) -> nn.Module:
    if isinstance(getattr(visual, "proj", None), nn.Parameter):
        visual.proj = None
    elif hasattr(visual, "trunk"):
        for layer in ("proj", "mlp"):
            if hasattr(visual.head, layer):
                setattr(visual.head, layer, nn.Identity())
    else:
        raise InputError(f"open_clip model {name} pools and projects in one step: set backbone.projection=true")
    return visual


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warnings on the root logger, which say that a random model is random."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def spelled(name: str) -> dict[str, str] | None:
    """The settings that a name of open_clip's, taken for one of a backbone, stands for."""
    return {"name": name} if name in open_clip.list_models() else None
