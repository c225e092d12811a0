"""Any model of images or texts of transformers (Wolf et al., "Transformers", 2020): a hub id or a local folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from probe.backbones.shared.checkpoints import check_misfits
from probe.backbones.shared.foreign_network import OUTPUT, ForeignNetwork
from probe.backbones.shared.framing import of_processor
from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.shared.outputs import n_class_tokens
from probe.backbones.shared.own_code import handed_over, own_code
from probe.backbones.shared.pretrained import configuration, load_model, require_name, shown_as
from probe.core.errors import InputError
from probe.core.geometry import Geometry, Size
from probe.core.images import centre_of_strip, require_image
from probe.core.kinds import KINDS

UNTRAINED = {"pretrained": False}


def load(
    name: str | None = None,
    reads: str | None = None,
    pretrained: bool = True,
    revision: str | None = None,
    strict: bool = True,
    seed: int = 0,
    n_prefix_tokens: int | None = None,
    layout: str | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    truncation_side: str | None = None,
    template: str | None = None,
    chat: bool | None = None,
    system: str | None = None,
    words: bool | None = None,
    attention: str | None = None,
    precision: str = "float32",
    taps: Sequence[str] = (),
    compile: bool = False,
) -> HuggingFaceBackbone | HuggingFaceTexts:
    """A model of images (`HuggingFaceBackbone`) or of texts (`HuggingFaceTexts`), as its configuration says.

    Args:
        name: Id on the hub, or a folder that `save_pretrained` or sentence-transformers wrote.
        reads: `images` or `texts`; null is what the model reads.
        pretrained: False draws random weights for the configuration.
        revision: Branch, tag or commit on the hub.
        strict: False draws random weights for those that the model's file lacks, and records in the identity which.
        seed: Of random weights.
        n_prefix_tokens, layout: Of images, see `HuggingFaceBackbone`.
        pooling: Of texts: `mean`, `last`, `first`, `mask`, `span` or `span_last`; null is what a folder of
            sentence-transformers says, else `last` for decoders and `mean` for others.
        normalize: Of texts: unit length; null is what a folder of sentence-transformers says, else false.
        max_length: Of texts: tokens that are read; null is what the model was made for.
        truncation_side: Of texts: where one that is too long is cut, `right` (the default) or `left`.
        template: Of texts: what the model reads for one, such as `query: {text}`.
        chat: Of texts: in the tokenizer's chat template, as what a user says.
        system: Of texts: what the system says in the chat.
        words: Of texts: with the output matrix, for heads of label words.
        attention: Of texts: `eager` or `sdpa`; null is what the model takes.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork` and `TextNetwork`.
        compile: Of images: whether the forward pass is compiled, see `ImageNetwork`.
    """
    name = require_name(name, "huggingface")
    shared = dict(pretrained=pretrained, revision=revision, strict=strict, seed=seed, precision=precision, taps=taps)
    of_images = {"n_prefix_tokens": n_prefix_tokens, "layout": layout}
    of_texts = {
        "pooling": pooling, "normalize": normalize, "max_length": max_length, "truncation_side": truncation_side,
        "template": template, "chat": chat, "system": system, "words": words, "attention": attention,
    }  # fmt: skip
    what = reads or _reads(name, revision)
    if what not in ("images", "texts"):
        raise InputError(f"reads is {reads!r}, expected images or texts: set backbone.reads to one of them")
    if what == "texts" and compile:
        raise InputError(
            f"huggingface model {name} reads texts, of which no two batches are equally long, and a program is made "
            "for one length: set backbone.compile=false"
        )
    given, others = (of_texts, of_images) if what == "texts" else (of_images, of_texts)
    if odd := [option for option, value in others.items() if value is not None]:
        raise InputError(
            f"huggingface model {name} reads {what}, {', '.join(odd)} {'are' if len(odd) > 1 else 'is'} of models that "
            f"read {'images' if what == 'texts' else 'texts'}: leave it out"
        )
    given = {option: value for option, value in given.items() if value is not None}
    given |= {"compile": True} if compile else {}
    made: Any = HuggingFaceTexts if what == "texts" else HuggingFaceBackbone
    return made(name, **shared, **given)


def _reads(name: str, revision: str | None) -> str:
    """`texts` where the model has words and no images; what cannot be found out is left to the models of images."""
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (ImportError, OSError, ValueError):
        return "images"
    sees = hasattr(config, "vision_config") or hasattr(config, "image_size")
    return "texts" if hasattr(config, "vocab_size") and not sees else "images"


class HuggingFaceBackbone(ForeignNetwork):
    """An `AutoModel` with its image processor; of models with a text tower, the vision tower.

    `pooled` is `pooler_output`, or the mean of the patch tokens where the model has none; `tokens` and `map` are
    `last_hidden_state`. A masked autoencoder sees all patches, in their order. Needs the extra `transformers`.

    Args:
        name: Id on the hub, or a folder that `save_pretrained` wrote.
        pretrained: False draws random weights for the configuration.
        revision: Branch, tag or commit on the hub.
        strict: False draws random weights for those that the model's file lacks, and records in the identity which. A
            pooler that is not in the file at all is left out either way, and heads that are in it are not read.
        seed: Of random weights.
        n_prefix_tokens: How many tokens stand before the patches; null: as many as the model has class, distillation
            and register tokens, and detection tokens, which it puts behind the patches and are moved to the front.
        layout: `channels_first`, `channels_last`, or `sequence` for tokens on no grid; null to find out.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork`.
        compile: Whether the forward pass is compiled, see `ImageNetwork`.
    """

    def __init__(
        self,
        name: str | None = None,
        pretrained: bool = True,
        revision: str | None = None,
        strict: bool = True,
        seed: int = 0,
        n_prefix_tokens: int | None = None,
        layout: str | None = None,
        precision: str = "float32",
        taps: Sequence[str] = (),
        compile: bool = False,
    ):
        name = require_name(name, "huggingface")
        network, missing, self._processor = _load(name, pretrained, revision, seed)
        self._misfits = check_misfits({"missing": missing}, f"huggingface model {name}", strict)
        self._handed_over = handed_over(network, name)
        self._masks = unmasked(network)
        self._n_detection_tokens = _n_detection_tokens(network)
        self._config = configuration(network.config)
        probe = self._processor_output(Image.new("RGB", (64, 64)))
        patch = getattr(network.config, "patch_size", None)
        super().__init__(
            network,
            name=f"huggingface/{shown_as(name, pretrained)}",
            image_size=(probe.shape[-2], probe.shape[-1]),
            precision=precision,
            taps=taps,
            n_prefix_tokens=n_prefix_tokens,
            n_class_tokens=_n_prefix_tokens(network) + self._n_detection_tokens,
            layout=layout,
            grid=(probe.shape[-2] // patch, probe.shape[-1] // patch) if isinstance(patch, int) else None,
            n_channels=probe.shape[-3],
            compile=compile,
        )

    def transform(self, row: Any) -> Tensor:
        """One image as the (3, H, W) tensor that the model expects."""
        image = require_image(row, self.name)
        size = getattr(self._processor, "size", None) or {}
        if "shortest_edge" in size and getattr(self._processor, "do_center_crop", False):
            image = centre_of_strip(image)
        return self._processor_output(image)

    def geometry(self, size: Size) -> Geometry:
        """What the image processor shows, where it resizes and crops as those of transformers usually do."""
        return of_processor(self._processor, size, self.name)

    def _processor_output(self, image: Any) -> Tensor:
        return torch.as_tensor(self._processor(images=image, return_tensors="pt")["pixel_values"][0])

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        given = {"noise": torch.arange(self._masks, device=batch.device).expand(len(batch), -1)} if self._masks else {}
        with own_code(self._handed_over):
            output = self.network(pixel_values=batch, **given)
        last = output.get("last_hidden_state")
        kinds = self._arranged(last) if isinstance(last, Tensor) and last.ndim in (3, 4) else {}
        pooled = output.get("pooler_output")
        if pooled is None and not kinds:
            raise InputError(
                f"backbone {self.name} gives {', '.join(output)}, expected last_hidden_state or pooler_output: wrap it "
                "for backbone=module"
            )
        kinds["pooled"] = self._patches(kinds["tokens"]).mean(1) if pooled is None else pooled.flatten(1)
        return {kind: kinds[kind] for kind in KINDS if kind in kinds}

    def _architecture(self) -> dict[str, Any]:
        facts = {"family": "huggingface", "class": type(self.network).__name__, "config": self._config}
        masking = {"masking": "none, patches in order"} if self._masks else {}
        return {**facts, **masking, **({"misfits": self._misfits} if self._misfits else {})}

    def _former_prefix(self, n_tokens: int, what: str) -> int:
        # One class token and the registers of the configuration, or none where these join behind the layer.
        n = _class_and_registers(self.network)
        return 0 if n and what != OUTPUT and n_tokens == (self._n_tokens or 0) - n else n

    def _in_order(self, tokens: Tensor) -> Tensor:
        n = self._n_detection_tokens
        if not n or self._count(tokens.shape[1], "layer") != self._n_prefix_tokens:
            return tokens
        before = self._n_prefix_tokens - n
        return torch.cat([tokens[:, :before], tokens[:, -n:], tokens[:, before:-n]], dim=1)

    def _preprocessing(self) -> dict[str, Any]:
        return {"antialias": True, **json.loads(self._processor.to_json_string())}


def _load(name: str, pretrained: bool, revision: str | None, seed: int) -> tuple[Any, list[str], Any]:
    """The image tower, the weights that its file lacks, the image processor."""
    network, missing, processor = load_model(
        name, pretrained, revision, seed, before="AutoImageProcessor", files="preprocessor_config.json"
    )
    if hasattr(network, "vision_model"):  # CLIP-like models keep the image tower there
        network = network.vision_model
        missing = [key.removeprefix("vision_model.") for key in missing if key.startswith("vision_model.")]
    poolers = [key for key in missing if key.startswith("pooler.")]
    if poolers and len(poolers) == len(list(network.pooler.parameters())):
        # Classifiers are saved without it; a random one would be read as the model's own feature.
        network.pooler = None
        missing = [key for key in missing if key not in poolers]
    return network, missing, processor


def unmasked(network: Any) -> int:
    """Tells a masked autoencoder to leave every patch in; returns how many there are, 0 for any other model.

    It sorts patches by random noise even where it drops none, so that it is to be given noise that rises.
    """
    if type(network).__name__ != "ViTMAEModel":
        return 0
    network.config.mask_ratio = 0.0
    return int(network.embeddings.patch_embeddings.num_patches)


def _n_prefix_tokens(network: Any) -> int:
    """Class, distillation and register tokens."""
    return max(n_class_tokens(network), _class_and_registers(network))


def _class_and_registers(network: Any) -> int:
    has_class_token = any(
        key.rpartition(".")[2] in ("cls_token", "class_embedding") for key, _ in network.named_parameters()
    )
    registers = getattr(network.config, "num_register_tokens", 0) or 0
    return 1 + registers if has_class_token else 0


def _n_detection_tokens(network: Any) -> int:
    """Tokens that YOLOS puts behind the patches."""
    found = [weight.shape[1] for name, weight in network.named_parameters() if name.endswith(".detection_tokens")]
    return sum(found)


def spelled(name: str) -> dict[str, str] | None:
    """The settings that a name of the hub, taken for one of a backbone, stands for."""
    return {"name": name} if "/" in name else None
