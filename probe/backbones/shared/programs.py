"""Programs made ahead of time of a network on a processor: one file each, loaded by every process that needs the same.

A file is named after what the program was made of: the network's steps and weights, the shape and layout of its rows,
the processor, the number of threads and the version of torch. Whoever comes second waits for the first.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.fx import GraphModule

from probe.core.base import digest
from probe.core.hashing import hash_tensors

Features = dict[str, Tensor]

OPTIONS = {"freezing": True}
"""Weights are constants: they are laid out for the processor once, and batch norms folded into them."""


class Steps(nn.Module):
    """A function of a batch as a module that owns the network which it runs.

    The precision of now is among the steps: tracing forgets an autocast around it, and the program would compute in
    float32.
    """

    def __init__(self, function: Callable[[Tensor], Features], network: nn.Module):
        super().__init__()
        self.network, self._function = network, function
        self._narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def forward(self, rows: Tensor) -> Features:
        if self._narrow is None:
            return self._function(rows)
        with torch.autocast("cpu", self._narrow):
            return self._function(rows)


def ahead_of_time(
    function: Callable[[Tensor], Features], network: nn.Module, rows: Tensor, folder: Path
) -> Callable[[Tensor], Features]:
    """What runs a function of rows shaped as these, from a file in a folder, which is made where there is none.

    Args:
        function: Runs the network; gives features, (N, ...) each.
        rows: (N, ...), on a processor.
        folder: Of programs, which are code: nobody else writes there.
    """
    with torch.inference_mode(False), torch.no_grad():
        traced = torch.export.export(Steps(function, network), (rows.clone(),), strict=False)
        path = folder / f"{_name(traced, rows)}.pt2"
        with _alone(path.with_suffix(".lock")):
            if not path.exists():
                _make(traced, path)
            try:
                return torch._inductor.aoti_load_package(str(path))
            except RuntimeError:  # a copy that is damaged, or of a machine with other libraries
                _make(traced, path)
                return torch._inductor.aoti_load_package(str(path))


def _name(traced: torch.export.ExportedProgram, rows: Tensor) -> str:
    facts = {
        # What runs at another precision is a module of its own within.
        "steps": [module.code for module in traced.graph_module.modules() if isinstance(module, GraphModule)],
        "weights": hash_tensors({**traced.state_dict, **_tensors(traced.constants)}),
        "layouts": {name: list(tensor.stride()) for name, tensor in traced.state_dict.items()},
        "precision": torch.get_float32_matmul_precision(),
        "rows": [list(rows.shape), list(rows.stride()), str(rows.dtype)],
        "options": OPTIONS,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return digest(facts)


def _processor() -> Any:
    """What instructions there are; by the name of the machine where this torch does not tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return dict(capabilities()) if capabilities else [platform.node(), torch.backends.cpu.get_cpu_capability()]


def _tensors(constants: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in constants.items() if isinstance(value, Tensor)}


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits for other processes that make the same; where files cannot be locked, each makes its own."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError, Timeout):
            stack.enter_context(FileLock(lock))
        yield


def _make(traced: torch.export.ExportedProgram, path: Path) -> None:
    """Writes a program beside its place and moves it there, so that a file of the name is always whole."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        # torch writes into the options that it is given.
        made = torch._inductor.aoti_compile_and_package(
            traced, package_path=str(Path(scratch, path.name)), inductor_configs=dict(OPTIONS)
        )
        os.replace(made, path)
