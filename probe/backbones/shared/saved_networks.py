"""Whole networks from files: TorchScript, torch.export and pickled modules, each of which can run code."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.core import own_modules
from probe.core.errors import InputError

UNPICKLED = "which is unpickled to be read and can run any code while it is"
DANGERS = {"TorchScript": "a program that can read and write files when it runs"}
SUFFIXES = (".pt", ".pth", ".pt2", ".ts", ".jit", ".torchscript")


class Program(nn.Module):
    """A network that comes without its Python code; eval mode is what it was saved in, or TorchScript's."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, batch: Tensor) -> Any:
        """Whatever the program gives."""
        return self.inner(batch)

    def train(self, mode: bool = True) -> Self:
        """Exported programs refuse to switch."""
        self.training = mode
        for module in self.inner.modules():
            if isinstance(module, torch.jit.ScriptModule):
                module.train(mode)
            else:
                module.training = mode
        return self


def is_program(target: str) -> bool:
    """Whether a target is the path of a file rather than an import path."""
    return Path(target).suffix in SUFFIXES


def load_program(path: str, size: int, trust: bool) -> nn.Module:
    """Reads a network from a file and checks that it gives the same features for the same images.

    Args:
        path: An archive of TorchScript, whose operators read and write files; or one of torch.export, or a module that
            torch.save pickled, which are unpickled and so run anything.
        size: Side of the images to check it with, in pixels.
        trust: Whether the file may do so.

    Raises:
        InputError: No such file, a damaged one, one that needs trust, or a network that was saved in training mode or
            for one size of batch.
    """
    if not Path(path).is_file():
        raise InputError(f"target {path} is no file: give the path of a saved network, or package.module:name")
    form = _form(path)
    if not trust:
        raise InputError(
            f"{path} is {form}, {DANGERS.get(form, UNPICKLED)}: set backbone.trust=true if you trust whoever made it, "
            "or name its code and a file of weights, backbone.target=package.module:name backbone.checkpoint=<file>"
        )
    own_modules.search_working_folder()  # where the classes of a pickled network may lie
    try:
        network = _read(path, form)
    except Exception as error:
        # Damaged files, missing classes and files of other versions each have exceptions of their own.
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as {form} ({text}): give an undamaged file") from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{path} holds a {type(network).__name__}, expected a whole network: give weights alone with "
            "backbone.checkpoint, and the network with backbone.target=package.module:name"
        )
    _check(network.eval(), path, size)
    return network


def _form(path: str) -> str:
    if not zipfile.is_zipfile(path):
        return "a pickle"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inside = {name.partition("/")[2] for name in names}
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return "an archive of torch.export"
    return "TorchScript" if any(name.startswith("code/") for name in inside) else "a pickle"


def _read(path: str, form: str) -> Any:
    with warnings.catch_warnings():
        # torch advises other formats to whoever saves; whoever reads has no choice.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        if form == "TorchScript":
            return Program(torch.jit.load(path, map_location="cpu"))
        if form == "a pickle":
            return torch.load(path, map_location="cpu", weights_only=False)
        return Program(torch.export.load(path).module())


def _check(network: nn.Module, path: str, size: int) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            network(images[:1])
            first, second = (_tensors(network(images)) for _ in range(2))
        except (RuntimeError, AssertionError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path} does not take batches of one and of two images of {size} pixels ({text}): set backbone.size, "
                "or save it with a batch dimension of any size"
            ) from error
    moved = any(not torch.equal(value, buffers[name]) for name, value in network.named_buffers() if name in buffers)
    if moved or not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        raise InputError(
            f"{path} gives other features for the same image, or changes its own statistics, as in training: save it "
            "in eval mode"
        )


def _tensors(output: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
