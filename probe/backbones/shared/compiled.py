"""The forward pass of a network as a compiled program: the same numbers to rounding, in less time.

Compiled programs lie in the cache folder (`compiled`), or where `TORCHINDUCTOR_CACHE_DIR` says, and serve all processes
that ask for the same one: workers, ranks, jobs of a sweep. They are code: who can write there can run code here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probe.core.errors import InputError
from probe.core.files import cache_root

N_ROWS = {"cpu": 32, "cuda": 128}
"""Rows of every call: a program is made for one size, and a row's numbers do not hang on how many came along."""
FOLDER = "TORCHINDUCTOR_CACHE_DIR"

Features = dict[str, Tensor]


def n_rows(device: str) -> int:
    """Rows of every call on a device."""
    return N_ROWS.get(device.partition(":")[0], N_ROWS["cpu"])


def share_artefacts() -> None:
    """Has compiled programs lie in the cache folder, unless the environment names another place."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch writes its own default there as soon as it is asked.
    if os.environ.get(FOLDER) in (None, default_cache_dir()):
        os.environ[FOLDER] = str(cache_root() / "compiled")


def check_compiler(name: str) -> None:
    """Refuses a machine without a compiler for the processor.

    Args:
        name: Of the backbone.

    Raises:
        InputError: There is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError(
            f"backbone {name} is to be compiled and there is no C++ compiler here (g++, or what CXX names): install "
            "one, or set backbone.compile=false"
        ) from None


class Compiled:
    """A function of a batch (N, ...), compiled at its first call.

    Args:
        function: Gives features, (N, ...) each, that depend on the row alone.
        name: Of the backbone, for errors.
        memory_format: Of the batch.
    """

    def __init__(self, function: Callable[[Tensor], Features], name: str, memory_format: torch.memory_format):
        self._function, self._name = function, name
        self._layout = torch.contiguous_format if memory_format == torch.preserve_format else memory_format

    @cached_property
    def _program(self) -> Callable[[Tensor], Features]:
        share_artefacts()
        # Weights are constants: they are laid out for the processor once, and batch norms folded into them.
        program: Any = torch.compile(self._function, dynamic=False, options={"freezing": True})
        return program

    def __getstate__(self) -> dict[str, Any]:
        """Without the program, which another process makes of the same artefacts."""
        return {name: value for name, value in vars(self).items() if name != "_program"}

    def __call__(self, batch: Tensor) -> Features:
        """Features of all rows, a program's size at a time.

        Raises:
            InputError: There is no compiler, or the network is not one that can be compiled.
        """
        size = n_rows(batch.device.type)
        parts = [self._of_rows(part, size) for part in batch.split(size)]
        return {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}

    def _of_rows(self, rows: Tensor, size: int) -> Features:
        n = len(rows)
        if n < size:
            rows = torch.cat([rows, rows[-1:].expand(size - n, *rows.shape[1:])])
        rows = rows.contiguous(memory_format=self._layout)
        try:
            found = self._program(rows)
        except (ImportError, NotImplementedError, RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"backbone {self._name} cannot be compiled on this machine ({reason[:200]}): set backbone.compile=false"
            ) from error
        return {kind: value[:n].clone() for kind, value in found.items()}
