"""Any `torch.nn.Module` of yours, by import path, from the file it was saved to, or as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from probe.backbones.shared.borrowed import Borrowed
from probe.backbones.shared.checkpoints import load_checkpoint
from probe.backbones.shared.foreign_network import OUTPUT, ForeignNetwork
from probe.backbones.shared.last_layer import note_on_logits, note_on_saved_logits
from probe.backbones.shared.module_sources import code_of_transform, import_path, network_of
from probe.backbones.shared.outputs import n_class_tokens
from probe.backbones.shared.pixels import Normalisation, to_bytes
from probe.backbones.shared.saved_networks import Program, is_program
from probe.core.errors import DoesNotFit, InputError
from probe.core.geometry import Geometry, Size, centred
from probe.core.images import require_image
from probe.core.kinds import KINDS

UNTRAINED = {"checkpoint": None}
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class ModuleBackbone(ForeignNetwork):
    """A network that an imported class or function gives, or a saved one.

    Its output may be a tensor, a tuple whose first entry counts, a dict, or a `ModelOutput` of transformers. (N, D) is
    `pooled`; (N, T, D) is `tokens`; (N, C, H, W) or (N, H, W, C) is `map` and, position by position, `tokens`. In a
    dict, `pooled`, `tokens` and `map` count, or `pooler_output` and `last_hidden_state`. Where no `pooled` comes, it is
    the mean of the tokens without prefix. Of a classifier `pooled` is its logits, which `notes` says.

    Besides the weights, the identity holds a digest of the source that defines the network (its class, those of its
    parts, the function that builds it) and one of the transform's: an edited `forward` gives new features. Files that
    these import from their own folder count too; of installed packages only the file of the network's class does.

    Args:
        target: `package.module:name` of a class or function that returns the network; the working folder is searched
            last. Or the path of a network that was saved whole (`.pt`, `.pt2`, `.ts` ...): TorchScript, torch.export,
            or pickled by torch.save. The first two have no layers to tap. `torch.hub:load` works as well. From Python
            also a network itself, which is copied: its class, attributes, hooks and weights name its features.
        kwargs: Its arguments.
        checkpoint: A file of weights.
        checkpoint_prefix: What the names in it begin with, such as `teacher.backbone.`; null to find out.
        strict: False loads what fits of the checkpoint, and records in the identity what did not.
        seed: Of weights that the target draws.
        transform: `package.module:name` of a function from an RGB PIL image to a (C, H, W) tensor, from Python also
            the function itself, or null for: the largest centred square, scaled to `size`, normalised by `mean` and
            `std`.
        size: Side of the square input in pixels; with a transform of your own, what that gives.
        mean: Of the channels, on the scale from 0 to 1; one number where the network reads brightness alone.
        std: Of the channels.
        interpolation: `bicubic` or `bilinear`.
        output: Which entry of a dict or tuple to take, by name or number.
        n_prefix_tokens: How many of its tokens stand before the patches; null to find out.
        layout: `channels_first`, `channels_last`, or `sequence` for tokens on no grid; null to find out.
        precision: `float32` or `bfloat16`.
        taps: Further layers, see `FrozenNetwork`.
        trust: Whether a saved network may run the code that its file holds, or torch.hub that of a repository.
        compile: Whether the forward pass is compiled, see `ImageNetwork`; not of a saved program.
    """

    def __init__(
        self,
        target: str | nn.Module | Borrowed | None = None,
        kwargs: Mapping[str, Any] | None = None,
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        strict: bool = True,
        seed: int = 0,
        transform: str | Callable[[Image.Image], Tensor] | None = None,
        size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        interpolation: str = "bicubic",
        output: str | int | None = None,
        n_prefix_tokens: int | None = None,
        layout: str | None = None,
        precision: str = "float32",
        taps: Sequence[str] = (),
        trust: bool = False,
        compile: bool = False,
    ):
        if target is None:
            raise InputError("backbone=module needs a target, none is given: set backbone.target=package.module:name")
        if interpolation not in RESAMPLING:
            raise InputError(f"interpolation is {interpolation!r}, expected one of {', '.join(RESAMPLING)}: use one")
        if len(mean) not in (1, 3) or len(std) != len(mean) or min(std) <= 0:
            raise InputError(
                f"mean is {list(mean)} and std {list(std)}, expected three numbers each, or one each for a network of "
                "one channel, std above 0: set so"
            )
        network, source = network_of(target, dict(kwargs or {}), seed, size, trust)
        misfits = load_checkpoint(network, checkpoint, checkpoint_prefix, strict) if checkpoint else {}
        self._facts = {
            "family": "module",
            "output": output,
            **source,
            **({"misfits": misfits} if misfits else {}),
        }
        self._own_transform = import_path(transform) if isinstance(transform, str) else transform
        self._steps: dict[str, Any] = (
            code_of_transform(transform)
            if transform
            else {
                "crop": "largest centred square",
                "size": [size, size],
                "interpolation": interpolation,
                "antialias": True,
                "mean": list(mean),
                "std": list(std),
            }
        )
        self._output = output
        layers = [tap for tap in taps if tap not in KINDS]
        if layers and isinstance(network, Program):
            raise InputError(f"{target} has no layers to tap, taps has {layers}: leave them out, or import its code")
        if compile and isinstance(network, Program):
            raise InputError(
                f"{target} is a saved program, which runs as it was saved and cannot be compiled anew: set "
                "backbone.compile=false, or import its code"
            )
        super().__init__(
            network,
            name=_name(target, network, checkpoint),
            image_size=(size, size),
            precision=precision,
            taps=taps,
            n_prefix_tokens=n_prefix_tokens,
            n_class_tokens=n_class_tokens(network),
            layout=layout,
            n_channels=len(mean) if self._own_transform is None else _n_channels(self._own_transform, size),
            normalisation=None if transform else Normalisation(mean, std),
            compile=compile,
        )

    @staticmethod
    def runs_code(parameters: Mapping[str, Any]) -> list[str]:
        """Which of its parameters run code, for `probe.command.recorded`: the target itself."""
        named = {name: parameters.get(name) for name in ("target", "transform", "trust")}
        return [f"{name}={value}" for name, value in named.items() if value or name == "target"]

    def transform(self, row: Any) -> Tensor:
        """One image as (C, H, W) bytes, or what the transform of your own gives."""
        image = require_image(row, self.name)
        if self._own_transform is not None:
            return self._own_transform(image)
        steps = self._steps
        if image.size != tuple(steps["size"]):
            image = ImageOps.fit(image, tuple(steps["size"]), RESAMPLING[steps["interpolation"]])
        return to_bytes(image if self.n_channels == 3 else image.convert("L"))

    def geometry(self, size: Size) -> Geometry:
        """The largest centred square; of a transform of your own, what its attribute `geometry` says of a size."""
        if self._own_transform is None:
            return centred(size)
        if callable(told := getattr(self._own_transform, "geometry", None)):
            found: Geometry = told(size)
            return found
        raise DoesNotFit(
            f"backbone {self.name} has a transform of its own, which does not say where its output lies in the image: "
            "give the function an attribute geometry, a function of (width, height) that returns "
            "probe.core.geometry.Geometry, or set backbone.transform=null"
        )

    @cached_property
    def notes(self) -> Mapping[str, str]:
        """What runs are to tell of a kind: that `pooled` is what the last layer gives."""
        if set(self.shapes) - set(self.taps) != {"pooled"}:
            return {}
        if isinstance(self.network, Program):
            note = note_on_saved_logits(self.network, self.name, self.shapes["pooled"][0])
            return {"pooled": note} if note else {}
        images = torch.rand(2, self.n_channels, *self.image_size, generator=torch.Generator().manual_seed(0))
        note = note_on_logits(self.network, self.name, lambda: self._run(images, [])["pooled"])
        return {"pooled": note} if note else {}

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        output = self.network(batch)
        kinds = self._named(output) if isinstance(output, Mapping) and self._output is None else {}
        if not kinds:
            kinds = self._of_tensor(self._chosen(output))
        if "pooled" not in kinds:
            kinds = {"pooled": self._patches(kinds["tokens"]).mean(1), **kinds}
        return {kind: kinds[kind] for kind in KINDS if kind in kinds}

    def _named(self, output: Mapping[str, Any]) -> dict[str, Tensor]:
        """Kinds of a dict that names them."""
        kinds = {kind: output[kind] for kind in KINDS if isinstance(output.get(kind), Tensor)}
        if not kinds and isinstance(output.get("last_hidden_state"), Tensor):
            kinds = self._arranged(output["last_hidden_state"])
        elif "map" in kinds or "tokens" in kinds:
            kinds |= self._arranged(kinds["map"]) if "map" in kinds else {}
            if isinstance(tokens := output.get("tokens"), Tensor):
                _ = self._n_prefix(tokens, OUTPUT)
                kinds["tokens"] = tokens
        pooled = output.get("pooler_output")
        if "pooled" not in kinds and isinstance(pooled, Tensor):
            kinds["pooled"] = pooled.flatten(1)
        return kinds

    def _chosen(self, output: Any) -> Any:
        if self._output is None:
            if isinstance(output, tuple | list) and len(output) > 1 and all(map(_is_map, output)):
                raise InputError(
                    f"backbone {self.name} gives {len(output)} maps, of which one is to be read: set "
                    "backbone.output=-1 for the last, say"
                )
            return output[0] if isinstance(output, tuple | list) else output
        try:
            return output[self._output]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"backbone {self.name} has no output {self._output!r}, it gives {_describe(output)}: set "
                "backbone.output to one of these"
            ) from error

    def _of_tensor(self, output: Any) -> dict[str, Tensor]:
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            raise InputError(
                f"backbone {self.name} gives {_describe(output)}, expected a tensor of 2, 3 or 4 dimensions, or a dict "
                "with pooled, tokens or map: set backbone.output, or wrap the network"
            )
        return {"pooled": output} if output.ndim == 2 else self._arranged(output)

    def _architecture(self) -> dict[str, Any]:
        return self._facts

    def _preprocessing(self) -> dict[str, Any]:
        return self._steps


def _name(target: str | nn.Module | Borrowed, network: nn.Module, checkpoint: str | None) -> str:
    """How tables call it."""
    named = target if isinstance(target, str) else type(network).__name__
    if isinstance(target, str) and is_program(target):
        named = Path(target).stem
    return f"module/{named}:{Path(checkpoint).stem}" if checkpoint else f"module/{named}"


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4


def _n_channels(transform: Callable[[Image.Image], Tensor], size: int) -> int:
    """Of the images that a transform of one's own gives."""
    given = transform(Image.new("RGB", (size, size)))
    return len(given) if isinstance(given, Tensor) and given.ndim == 3 else 3


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dict with {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
