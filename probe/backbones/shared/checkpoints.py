"""Weights from files: read without running foreign code, and loaded without silent gaps."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

NESTS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher")
"""Keys under which training scripts keep the weights, in the order in which they are preferred."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors file, or of a PyTorch file through `weights_only=True`.

    Weights inside one of `NESTS` are taken out, and the prefixes that wrappers add (`module.`, `_orig_mod.`) dropped.

    Raises:
        InputError: No such file, a damaged one, or one that would run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} is no file: give the path of a .safetensors or .pth file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for nest in NESTS:
        if isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    state = {_bare(key): value for key, value in content.items() if hasattr(value, "dtype")}
    if not state:
        raise InputError(f"checkpoint {path} holds no tensors (keys: {_first(content)}): give a file of weights")
    return state


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


def check_misfits(misfits: Mapping[str, list[str]], source: str, strict: bool) -> dict[str, Any]:
    """Refuses a checkpoint that does not fit, with counts and first names, or returns what is to be recorded."""
    record = {what: keys for what, keys in misfits.items() if keys}
    if record and strict:
        counts = "; ".join(f"{len(keys)} {what} keys ({_first(keys)})" for what, keys in record.items())
        raise InputError(
            f"{source} does not fit the network: {counts}; expected the network's own keys and shapes: "
            "give a checkpoint of this architecture, or set backbone.strict=false to load what fits"
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
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {path} holds more than tensors and would run code to be read, or is no PyTorch file: "
            "save its state_dict with safetensors.torch.save_file and give that file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"checkpoint {path} cannot be read ({reason}): give an undamaged file") from error
    if not isinstance(content, dict):
        raise InputError(
            f"checkpoint {path} holds a {type(content).__name__}, expected a state_dict: save that instead"
        )
    return content


def _bare(key: str) -> str:
    for prefix in ("module.", "_orig_mod."):
        key = key.removeprefix(prefix)
    return key


def _first(keys: Any, n: int = 3) -> str:
    names = [str(key) for key in keys]
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")
