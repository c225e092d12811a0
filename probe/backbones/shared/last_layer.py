"""Whether the pooled features of a network are what its classifier gives, and which layer to read instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CLASSIFIERS = ("fc", "classifier", "head", "heads", "logits", "linear", "last_linear")
"""What networks call it; any last `nn.Linear` is taken for one, too."""
ENDINGS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda logits: logits,
    lambda logits: logits.softmax(1),
    lambda logits: logits.log_softmax(1),
    lambda logits: logits.sigmoid(),
)


@dataclass
class Call:
    """One layer at work: what it was given and gave, and how many layers had finished when it began."""

    name: str
    module: nn.Module
    n_before: int
    given: Any
    output: Any = None


@dataclass
class Calls:
    """All layers at work, in the order in which they finished."""

    finished: list[Call] = field(default_factory=list)
    begun: list[Call] = field(default_factory=list)

    def watch(self, network: nn.Module) -> ExitStack:
        """Listens to all layers until what it returns is closed."""
        stack = ExitStack()

        def before(name: str) -> Callable[[nn.Module, Any], None]:
            def listen(module: nn.Module, inputs: Any) -> None:
                self.begun.append(Call(name, module, len(self.finished), inputs[0] if inputs else None))

            return listen

        def after(module: nn.Module, _: Any, output: Any) -> None:
            call = next(call for call in reversed(self.begun) if call.module is module)
            call.output = output[0] if isinstance(output, tuple | list) and output else output
            self.finished.append(call)

        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_pre_hook(before(name)).remove)
                stack.callback(module.register_forward_hook(after).remove)
        return stack


def note_on_logits(network: nn.Module, name: str, run: Callable[[], Tensor]) -> str | None:
    """A sentence that `pooled` is what the last layer gives, and what to tap instead; None where it is not.

    Args:
        network: Has layers that can be listened to.
        name: How the sentence calls the backbone.
        run: Runs the network on a few images and gives their pooled features.
    """
    calls = Calls()
    with calls.watch(network):
        pooled = run()
    last = next((call for call in reversed(calls.finished) if _is_last_layer(call, pooled)), None)
    if last is None:
        return None
    before = _layer_before(calls.finished[: last.n_before], last.given)
    instead = f"; the layer before is {before}: set backbone.taps=[{before}] reads.pooled={before} to read that"
    return (
        f"pooled of backbone {name} is what its last layer {last.name} gives, {pooled.shape[1]} numbers, which are "
        f"logits if that is a classifier{instead if before else ''}"
    )


def note_on_saved_logits(network: nn.Module, name: str, width: int) -> str | None:
    """The sentence for a network without layers to listen to: its last weights are a matrix as high as `pooled`."""
    weights = list(network.named_parameters())
    if weights and weights[-1][1].ndim == 1:  # its bias
        weights.pop()
    if not weights or weights[-1][1].ndim != 2 or len(weights[-1][1]) != width:
        return None
    layer = weights[-1][0].removeprefix("inner.").rpartition(".")[0]
    return (
        f"pooled of backbone {name} seems to be what its last layer {layer} gives, {width} numbers, which are logits "
        "if that is a classifier; a saved network has no layers to tap: save it without that layer to read the one "
        "before"
    )


def _is_last_layer(call: Call, pooled: Tensor) -> bool:
    if next(call.module.parameters(), None) is None:  # a classifier that was taken off
        return False
    if not isinstance(call.module, nn.Linear) and call.name.rpartition(".")[2] not in CLASSIFIERS:
        return False
    if not isinstance(call.output, Tensor) or call.output.numel() != pooled.numel():
        return False
    output = call.output.reshape(pooled.shape).float()
    return any(torch.allclose(ending(output), pooled.float(), atol=1e-5) for ending in ENDINGS)


def _layer_before(finished: Sequence[Call], given: Any) -> str | None:
    """The tap that gives what the last layer was given, else the last layer before that can be tapped at all."""

    def same(value: Tensor) -> bool:
        if not isinstance(given, Tensor) or value.numel() != given.numel():
            return False
        return torch.allclose(value.float().flatten(), given.float().flatten(), rtol=1e-4, atol=1e-5)

    tensors = [call for call in reversed(finished) if isinstance(call.output, Tensor) and 2 <= call.output.ndim <= 4]
    taps = (call.name + ending for call in tensors for ending, value in _reduced(call.output) if same(value))
    return next(taps, tensors[0].name if tensors else None)


def _reduced(output: Tensor) -> list[tuple[str, Tensor]]:
    """What taps make of an output, with their endings."""
    if output.ndim == 4:
        return [("", output.mean((2, 3))), ("", output.mean((1, 2)))]
    if output.ndim == 3:
        return [(":cls", output[:, 0]), ("", output.mean(1)), ("", output[:, 1:].mean(1))]
    return [("", output)]
