"""Programs made ahead of time of a network on a processor: one file each, loaded by every process that needs the same.

A file is named after what the program was made of: the network's steps and weights, the shape and layout of its rows,
the processor, the number of threads and the version of torch. Whoever comes second waits for the first.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
SCRATCH, LEFT_SECONDS = ".making", 3600.0
"""How folders end in which programs are made, and how long one that nobody works in stays."""


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
        with _alone(path.with_suffix(".lock")) as locked:
            if locked:
                _clear_away(folder, path.stem)
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
def _alone(lock: Path) -> Iterator[bool]:
    """Waits for other processes that make the same; where files cannot be locked, False: each makes its own."""
    with contextlib.ExitStack() as stack:
        locked = False
        with contextlib.suppress(OSError, NotImplementedError, Timeout):
            stack.enter_context(FileLock(lock))
            locked = True
        yield locked


def _make(traced: torch.export.ExportedProgram, path: Path) -> None:
    """Writes a program beside its place and moves it there, so that a file of the name is always whole."""
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    with (
        tempfile.TemporaryDirectory(prefix=f"{path.stem}.", suffix=SCRATCH, dir=path.parent) as name,
        # What the compiler writes on the way is as large as the program, and nobody reads it again.
        config.patch("aot_inductor.output_path", name),
        ThreadPoolExecutor(1) as pool,
    ):
        # Seconds of compiling by itself, where a folder is new: meanwhile the steps are put in order.
        pool.submit(contextvars.copy_context().run, pick_vec_isa)  # options are of a thread
        # torch writes into the options that it is given.
        made = torch._inductor.aoti_compile_and_package(
            traced, package_path=str(Path(name, path.name)), inductor_configs=dict(OPTIONS)
        )
        os.replace(made, path)


def _clear_away(folder: Path, own: str) -> None:
    """Removes what compilations that were killed have left: nobody holds the lock of their program.

    A disk may not pass on locks to other machines, so that only what has lain there for long is taken for left.

    Args:
        folder: Of programs.
        own: Name of the program whose lock this process holds.
    """
    for scratch in folder.glob(f"*{SCRATCH}"):
        name = scratch.name.partition(".")[0]
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, NotImplementedError, Timeout):
            if time.time() - scratch.stat().st_mtime < LEFT_SECONDS:
                continue
            if name != own:
                stack.enter_context(FileLock(folder / f"{name}.lock", timeout=0))
            shutil.rmtree(scratch, ignore_errors=True)
