"""The code that a model of transformers runs: its own, whatever other packages are installed.

transformers hands the inner loops of some models (Mamba, Qwen3-Next, LFM2, ...) to packages where it finds them:
flash-linear-attention (`fla`), causal-conv1d, mamba-ssm. Their kernels round otherwise, and most need a GPU: features
would depend on what else is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from torch import nn

from probe.core.errors import InputError

PACKAGES = {
    "fla": "flash-linear-attention", "causal_conv1d": "causal-conv1d", "mamba_ssm": "mamba-ssm", "xlstm": "xlstm",
}  # fmt: skip
"""Modules that transformers may take code from, and what installs them."""
Place = tuple[str, str]
"""A module and a name in it."""


def handed_over(network: nn.Module, name: str) -> tuple[Place, ...]:
    """The functions of a model's code in whose place another package's would run.

    Raises:
        InputError: Code of such a package stands in the model, where it cannot be taken out.
    """
    parts = [network, *(module for _, module in network.named_modules())]
    files = sorted({type(part).__module__ for part in parts} & sys.modules.keys())
    files = [file for file in files if file.startswith("transformers.models.")]
    everything = [value for file in files for value in vars(sys.modules[file]).values()]
    everything += [value for part in parts for value in (type(part), *vars(part).values())]
    if foreign := sorted({root for value in everything if (root := _root(value)) in PACKAGES}):
        raise InputError(
            f"huggingface model {name} runs code of {', '.join(foreign)}, which this version of transformers takes "
            f"where it is installed: pip uninstall {' '.join(PACKAGES[root] for root in foreign)}, or pip install "
            "'transformers>=5.16', whose own code can be run beside it"
        )
    for part in parts:
        if getattr(part, "use_mambapy", False):  # a package likewise, asked for by the configuration
            part.use_mambapy = False
    return tuple((f, n) for f in files for n, value in vars(sys.modules[f]).items() if _own(value) is not None)


@contextmanager
def own_code(places: Sequence[Place]) -> Iterator[None]:
    """Within, transformers' own functions run in these places."""
    before = [(vars(sys.modules[file]), name, vars(sys.modules[file])[name]) for file, name in places]
    try:
        for module, name, function in before:
            module[name] = _own(function) or function
        yield
    finally:
        for module, name, function in before:
            module[name] = function


def _root(value: Any) -> str:
    """The package that a function or class is of."""
    return str(getattr(value, "__module__", "")).partition(".")[0] if callable(value) else ""


def _own(function: Any) -> Any:
    """The function of transformers that another one runs in the place of; None where there is none."""
    while function is not None:
        names = function.__code__.co_freevars if isinstance(function, FunctionType) else ()
        if "is_new_implementation" in names:
            held = dict(zip(names, (cell.cell_contents for cell in function.__closure__), strict=True))
            return held["torch_function"] if held["is_new_implementation"] else None
        function = getattr(function, "__wrapped__", None)
    return None
