"""Weights from files: read without running foreign code, and loaded without silent gaps."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import pickle
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

NESTS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher")
"""Keys under which training scripts keep the weights, in the order in which they are preferred."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""
HYPERPARAMETERS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Dictionaries of Lightning, read as such: it need not be installed."""
FITTING = "give a checkpoint of this architecture, or set backbone.strict=false to load what fits"
"""What to do where weights are missing."""
RIVAL = 0.9
"""Share of the weights of the best prefix from which another prefix holds a network of this architecture too."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors file, or of a PyTorch file through `weights_only=True`.

    Weights inside `NESTS` are taken out, and the prefixes of `WRAPPERS` dropped. Beside tensors, what training scripts
    keep is allowed by name: arguments (`argparse.Namespace`), numbers of numpy, paths, Lightning's hyperparameters.

    Raises:
        InputError: No such file, a damaged one, or one that would run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} is no file: give the path of a .safetensors or .pth file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    while nest := next((nest for nest in NESTS if isinstance(content.get(nest), Mapping)), None):
        content = content[nest]
    state = {_bare(key): value for key, value in content.items() if hasattr(value, "dtype")}
    if not state:
        raise InputError(f"checkpoint {path} holds no tensors (keys: {_first(content)}): give a file of weights")
    return state


_ENVIRONMENT = threading.RLock()


@contextlib.contextmanager
def never_unpickled() -> Iterator[None]:
    """Within, `torch.load` reads tensors alone, whatever other libraries ask of it: older ones of timm unpickle."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    with _ENVIRONMENT:  # of the whole process
        before = {name: os.environ.pop(name, None) for name in names}
        os.environ[names[0]] = "1"
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def load_checkpoint(network: nn.Module, path: str, prefix: str | None, strict: bool) -> dict[str, Any]:
    """`read_state`, `without_prefix` and `load_state` in one."""
    state = without_prefix(read_state(path), network.state_dict(), prefix, path)
    return load_state(network, state, path, strict)


def without_prefix(
    state: Mapping[str, Tensor], own: Iterable[str], prefix: str | None, source: str
) -> Mapping[str, Tensor]:
    """The weights of one network out of a checkpoint of several, under the names that the network has for them.

    Args:
        own: Names of the network's weights.
        prefix: What the names of its weights begin with in the checkpoint; None: the prefix with which most of them
            are there. Everything else is left out; with no prefix nothing is.

    Raises:
        InputError: No weight has the prefix, or several prefixes hold such a network.
    """
    names = {name for name in own if not name.endswith("num_batches_tracked")}
    if prefix is None:
        found = Counter(
            key[: len(key) - len(name)]
            for key in state
            for name in (".".join(parts) for parts in _tails(key.split(".")))
            if name in names
        )
        most = max(found.values(), default=0)
        rivals = sorted(prefix for prefix, n in found.items() if n >= RIVAL * most)
        if "" in rivals or most < len(names) / 2:  # by other names altogether
            return state
        if len(rivals) > 1:
            raise InputError(
                f"{source} holds {len(rivals)} networks of this architecture, under {', '.join(rivals[:6])}: say "
                f"which with backbone.checkpoint_prefix={rivals[0]}"
            )
        prefix = rivals[0]
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not kept:
        raise InputError(
            f"{source} has no weight whose name begins with {prefix!r} (it has {_first(state)}): mend "
            "backbone.checkpoint_prefix, or set it to null"
        )
    return kept


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str, strict: bool = True) -> dict[str, Any]:
    """Copies weights into a network and returns what did not fit: nothing, unless `strict` is false.

    `num_batches_tracked` may be missing, no network reads it in eval mode.

    Returns:
        A record for the identity: empty, or the sorted names under `missing`, `unexpected`, `reshaped`.
    """
    own = network.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    misfits = {
        "missing": sorted(own.keys() - state.keys() - counters),
        "unexpected": sorted(state.keys() - own.keys()),
        "reshaped": sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
    }
    fitting = {k: v for k, v in state.items() if k in own and k not in misfits["reshaped"]}
    if not fitting.keys() - counters and own:
        raise InputError(
            f"{source} has no weight in common with the network (it has {_first(state)}, expected {_first(own)}): "
            "give a checkpoint of this architecture"
        )
    record = check_misfits(misfits, source, strict)
    network.load_state_dict(fitting, strict=False)
    return record


def check_misfits(misfits: Mapping[str, list[str]], source: str, strict: bool, remedy: str = FITTING) -> dict[str, Any]:
    """Refuses a checkpoint that does not fit, with counts and first names, or returns what is to be recorded."""
    record = {what: keys for what, keys in misfits.items() if keys}
    if record and strict:
        counts = "; ".join(f"{len(keys)} {what} keys ({_first(keys)})" for what, keys in record.items())
        raise InputError(
            f"{source} does not fit the network: {counts}; expected the network's own keys and shapes: {remedy}"
        )
    return record


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} cannot be read ({error}): give an undamaged safetensors file") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    import torch

    try:
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)|type ([\w.]+)", str(error))
        name = f" ({refused[1] or refused[2]})" if refused else ""
        raise InputError(
            f"checkpoint {path} holds more than tensors{name} and would run code to be read, or is no PyTorch file: "
            "save its state_dict with safetensors.torch.save_file and give that file"
        ) from error
    except Exception as error:  # damaged pickles end in whatever their bytes happen to mean
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"checkpoint {path} cannot be read ({reason}): give an undamaged file") from error
    if not isinstance(content, dict):
        raise InputError(
            f"checkpoint {path} holds a {type(content).__name__}, expected a state_dict: save that instead"
        )
    return content


def _harmless() -> list[Any]:
    """Classes that only hold what is put into them, by name."""
    import numpy as np
    from numpy._core import multiarray

    return [
        argparse.Namespace,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        np.dtype,
        *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdg"),
        *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        *((dict, name) for name in HYPERPARAMETERS),
        defaultdict,
        *(int, float, bool, str, list, dict, tuple, set),
    ]


def _bare(key: str) -> str:
    while prefix := next((prefix for prefix in WRAPPERS if key.startswith(prefix)), None):
        key = key.removeprefix(prefix)
    return key


def _tails(parts: list[str]) -> Iterable[list[str]]:
    return (parts[i:] for i in range(len(parts)))


def _first(keys: Any, n: int = 3) -> str:
    names = [str(key) for key in keys]
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")
