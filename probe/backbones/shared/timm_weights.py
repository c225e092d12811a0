"""Weights from files for models of timm, which knows the names and shapes that others give them."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from probe.backbones.shared.checkpoints import load_state, read_state, without_prefix

POSITIONS = re.compile("pos_embed|relative_position|rel_pos")
"""In the names of weights that depend on the size of images."""


def load_checkpoint(
    network: Any, checkpoint: str, prefix: str | None, strict: bool, resize: Callable[[], None]
) -> dict[str, Any]:
    """Loads a file of weights; timm's own conversion of foreign checkpoints is used where names or shapes differ.

    Args:
        resize: Gives the network the size of the images. Position embeddings are resampled once: by it, where those of
            the checkpoint have the network's first size, else by timm's conversion, right to the size of the images.
    """
    given = without_prefix(read_state(checkpoint), network.state_dict(), prefix, checkpoint)
    state = _converted(network, given)
    if _resampled(state, given):
        resize()
        return load_state(network, _converted(network, given), checkpoint, strict)
    misfits = load_state(network, state, checkpoint, strict)
    resize()
    return misfits


def _resampled(state: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    """Whether a conversion changed position embeddings beyond their shape."""
    by_size: dict[int, list[Tensor]] = {}
    for value in given.values():
        by_size.setdefault(value.numel(), []).append(value.flatten())
    return any(
        not any(torch.equal(value.flatten(), other) for other in by_size.get(value.numel(), []))
        for name, value in state.items()
        if POSITIONS.search(name)
    )


def _converted(network: Any, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights under the network's names and in its shapes, as far as timm knows, without a classifier."""
    classifier = network.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    own = network.state_dict()
    if any(key not in own or own[key].shape != value.shape for key, value in state.items()):
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        # Where it fails, timm does not know this kind of checkpoint: the names in the error below tell the user more.
        with contextlib.suppress(KeyError, IndexError, RuntimeError, ValueError, AttributeError):
            state = convert(dict(state), network) if convert else state
    return {key: value for key, value in state.items() if key in own or not key.startswith(prefixes)}
