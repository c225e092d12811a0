"""The forward pass of a network as a compiled program: the same numbers to rounding, in less time.

Compiled programs lie in the cache folder (`compiled`), or where `TORCHINDUCTOR_CACHE_DIR` says, and serve all processes
that ask for the same one: workers, ranks, jobs of a sweep. They are code, which torch loads: a folder that others could
have written to is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probe.backbones.shared.parts import PART_PIXELS
from probe.backbones.shared.programs import OPTIONS, Features, ahead_of_time
from probe.core.errors import InputError
from probe.core.files import cache_root

N_ROWS = {"cpu": 32, "cuda": 128}
"""Most rows of a call: a program is made for one size, and a row's numbers do not hang on how many came along."""
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
OTHERS_WRITE, OTHERS_ENTER = stat.S_IWGRP | stat.S_IWOTH, stat.S_IXGRP | stat.S_IXOTH


def n_rows(device: str, n_pixels: int) -> int:
    """Rows of every call on a device: of large images on a processor no more than a part of a batch has."""
    most = N_ROWS.get(device.partition(":")[0])
    return most if most and device != "cpu" else max(1, min(N_ROWS["cpu"], round(PART_PIXELS / n_pixels)))


def takes_fewer_rows(n_pixels: int) -> bool:
    """Whether a call on a processor takes fewer rows than one of small images."""
    return n_rows("cpu", n_pixels) < N_ROWS["cpu"]


def share_artefacts() -> Path:
    """Has compiled programs lie in the cache folder, unless the environment names another place, and gives it.

    Raises:
        InputError: Others can write there.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch writes its own default there as soon as it is asked.
    if os.environ.get(FOLDER) in (None, default_cache_dir()):
        os.environ[FOLDER] = str(cache_root() / "compiled")
    folder = Path(os.environ[FOLDER])
    check_private(folder)
    keep_no_headers()
    return folder


def keep_no_headers() -> None:
    """Has torch precompile no headers, which it keeps in the temporary folder whatever the environment says.

    They go into the programs, and there another user could have put them.
    """
    from torch._inductor import config

    for section, name in ((config, "cpp_cache_precompile_headers"), (config.aot_inductor, "precompile_headers")):
        if hasattr(section, name):
            setattr(section, name, False)


def check_private(folder: Path) -> None:
    """Makes a folder for this user alone, and refuses one into which others could have put something.

    All that lies in it belongs to this user. The folders above belong to this user or to root, and nobody else may
    rename what lies in them. Where files have no owners, as on Windows, nothing is looked at.

    Raises:
        InputError: Another user can write there, or owns something on the way.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return
    here, user = folder.resolve(), os.getuid()
    reached = bool(here.stat().st_mode & OTHERS_ENTER)
    inside = [Path(top, name) for top, folders, files in os.walk(here) for name in (*folders, *files)]
    odd = [here] if _is_open(here, {user}) else []
    odd += [path for path in here.parents if _is_open(path, {user, 0})]
    odd += [path for path in inside if path.lstat().st_uid != user or (reached and _is_open(path, {user}))]
    if odd:
        raise InputError(
            f"compiled programs are code and would be read from {here}, but {odd[0]} can be written by other users: "
            f"set {FOLDER} to a folder that is yours alone (mkdir -m 700), or backbone.compile=false"
        )


def _is_open(path: Path, owners: set[int]) -> bool:
    """Whether others than these users own a path, or can write to it or exchange what lies in it."""
    facts = path.lstat()
    if facts.st_uid not in owners:
        return True
    guarded = stat.S_ISLNK(facts.st_mode) or (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX)
    return bool(facts.st_mode & OTHERS_WRITE) and not guarded


def check_compiler(name: str) -> None:
    """Refuses a machine without a compiler for the processor, and a folder of programs that others can write to.

    Args:
        name: Of the backbone.

    Raises:
        InputError: There is none, or such a folder.
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
    share_artefacts()


class Compiled:
    """A function of a batch (N, ...), compiled at its first call.

    Args:
        function: Gives features, (N, ...) each, that depend on the row alone.
        network: What it runs.
        name: Of the backbone, for errors.
        memory_format: Of the batch.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Features],
        network: nn.Module,
        name: str,
        memory_format: torch.memory_format,
    ):
        self._function, self._network, self._name = function, network, name
        self._layout = torch.contiguous_format if memory_format == torch.preserve_format else memory_format
        self._program: Callable[[Tensor], Features] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the program, which another process loads from the same file."""
        return {**vars(self), "_program": None}

    def __call__(self, batch: Tensor) -> Features:
        """Features of all rows, a program's size at a time.

        Raises:
            InputError: There is no compiler, or the network is not one that can be compiled.
        """
        size = n_rows(batch.device.type, batch.shape[2:].numel())
        parts = [self._of_rows(part, size) for part in batch.split(size)]
        return {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}

    def _of_rows(self, rows: Tensor, size: int) -> Features:
        n = len(rows)
        if n < size:
            filler = rows[-1:] if n else rows.new_zeros(1, *rows.shape[1:])
            rows = torch.cat([rows, filler.expand(size - n, *rows.shape[1:])])
        rows = rows.contiguous(memory_format=self._layout)
        try:
            self._program = self._program or self._make(rows)
            found = self._program(rows)
        except InputError:
            raise
        except Exception as error:  # tracing, the compiler and the program have each their own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"backbone {self._name} cannot be compiled on this machine ({reason[:200]}): set backbone.compile=false"
            ) from error
        return {kind: value[:n].clone() for kind, value in found.items()}

    def _make(self, rows: Tensor) -> Callable[[Tensor], Features]:
        folder = share_artefacts()
        if rows.device.type == "cpu":
            return ahead_of_time(self._function, self._network, rows, folder)
        return frozen(self._function)


def frozen(function: Callable[[Tensor], Features]) -> Callable[[Tensor], Features]:
    """Compiled at its first call, on a GPU."""
    from torch._inductor import config

    program: Any = torch.compile(function, dynamic=False)

    def run(rows: Tensor) -> Features:
        # An option of `torch.compile` comes too late: tracing asks for it.
        with config.patch(OPTIONS):
            return program(rows)

    return run
