"""A GPU that is none: `device="cuda"` on a machine without one.

Tensors of the pretended device live in the memory of the CPU; their storages carry a mark. Code that forgets a copy
fails as it would on a GPU: operations that mix both devices raise, and so does NumPy where it is handed a marked
tensor. A copy to the host that nobody waits for holds NOT_YET until an event or the device is synchronised. Products of
matrices are off by a rounding error, as a kernel that sums in another order has them, convolutions keep the ten bits of
TF32 where that is allowed, as it is by default, and a quotient by a plain number is a product with its reciprocal. What
it cannot show are the kernels themselves, their memory and their speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.data import DataLoader

NOT_YET = 1234.5
FREE_BYTES = 8 * 2**30
ALLOWED_TO_MIX = {"aten::copy_", "aten::_to_copy"}
NO_SCALARS = {"aten::cat", "aten::stack"}
PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"}
PRODUCT_FOR = {"aten::div": torch.ops.aten.mul.Tensor, "aten::div_": torch.ops.aten.mul_.Tensor}
WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


def on_gpu(tensor: Tensor) -> bool:
    while is_functorch_wrapped_tensor(tensor):  # one of those that `vmap` computes with
        tensor = get_unwrapped(tensor)
    return tensor.layout == torch.strided and getattr(tensor.untyped_storage(), "on_gpu", False)


def mark(tree: Any, value: bool = True) -> Any:
    for tensor in tree_iter(tree):
        if isinstance(tensor, Tensor) and tensor.device.type == "cpu":
            tensor.untyped_storage().on_gpu = value
    return tree


def tf32(tensor: Tensor) -> Tensor:
    """Rounded to the ten bits behind the point that tensor cores multiply of a float32."""
    return ((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class PretendedGpu(TorchFunctionMode):
    """Translates device names; counts what makes the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.n_waits = self.n_copies = 0
        self.queue: list[Callable[[], Any]] = []

    def synchronize(self, *_: Any) -> None:
        self.arrive(list(self.queue))

    def arrive(self, copies: list[Callable[[], Any]]) -> None:
        for copy in copies:
            if copy in self.queue:
                self.queue.remove(copy)
                copy()

    def fetch(self, tensor: Tensor, *, wait: bool = True) -> Tensor:
        """A copy on the host; its numbers come with the next synchronisation where nobody waits."""
        self.n_copies += 1
        host = mark(tensor.clone(), False)
        if wait:
            self.n_waits += 1
            self.synchronize()
        elif host.is_floating_point():
            snapshot = mark(tensor.clone(), False)
            host.fill_(NOT_YET)
            self.queue.append(lambda: host.copy_(snapshot))
        return host

    def move(self, tensor: Tensor, device: torch.device | None, *, wait: bool = True) -> Tensor:
        if device is None or device.type not in ("cpu", "cuda") or (device.type == "cuda") == on_gpu(tensor):
            return tensor
        return mark(tensor.clone()) if device.type == "cuda" else self.fetch(tensor, wait=wait)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name, this = getattr(func, "__name__", ""), args[0] if args else None
        if name == "__get__" and isinstance(this, Tensor) and on_gpu(this):
            found = {Tensor.device: torch.device("cuda", 0), Tensor.is_cuda: True, Tensor.is_cpu: False}
            return next((value for getter, value in found.items() if func == getter.__get__), func(*args))
        if name in ("numpy", "__array__") and on_gpu(this):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        if name == "pin_memory":
            return this
        if name in ("cpu", "cuda") and isinstance(this, Tensor):
            return self.move(this, torch.device(name))
        if func is Tensor.to:
            return self._to(this, *args[1:], **kwargs)
        return self._make(func, args, kwargs)

    def _to(self, tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        others = [other for other in (*args, *kwargs.values()) if isinstance(other, Tensor)]
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        if others:
            device = torch.device("cuda" if on_gpu(others[0]) else "cpu")
        if device is not None and device.type not in ("cpu", "cuda"):
            return tensor.to(*args, copy=copy, **kwargs)
        moved = self.move(tensor, device, wait=not non_blocking)
        if dtype is None or dtype == moved.dtype:
            return moved.clone() if copy and moved is tensor else moved
        if self.queue and moved is not tensor:
            raise RuntimeError("copy to the host that is converted on arrival: not pretended")
        return moved.to(dtype)

    def _make(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if device is None or device.type not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        if device.type == "cuda" and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        made = func(*args, **kwargs | {"device": "cpu"})
        return tree_map_only(Tensor, lambda tensor: self.move(tensor, device), made)


class _Operations(TorchDispatchMode):
    """Below autograd: what an operation gives lies where its arguments lie, which has to be one place."""

    def __init__(self, gpu: PretendedGpu):
        super().__init__()
        self.gpu = gpu

    def _round(self, made: Tensor, left: Tensor, right: Tensor) -> None:
        """Up to one epsilon of the lengths of the row and the column that were multiplied."""
        lengths = left.norm(dim=-1, keepdim=True) * right.norm(dim=-2, keepdim=True)
        # The same for the same product: kernels are off, but not by chance.
        random = torch.Generator().manual_seed(made.numel())
        noise = torch.rand(made.shape, generator=random, dtype=made.dtype) * 2 - 1
        made += torch.finfo(made.dtype).eps * lengths * noise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor) and t.device.type == "cpu"]
        there = [on_gpu(t) for t in tensors]
        if not any(there):
            return func(*args, **kwargs)
        with self:
            # Without autograd composed operations come here whole.
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        if name in WAITS:
            self.gpu.n_waits += 1
            self.gpu.synchronize()
        here = [t for t, gone in zip(tensors, there, strict=True) if not gone]
        if name in ("aten::index", "aten::index_put_", "aten::_index_put_impl_") and there[0]:
            here = [t for t in here if t.dtype not in (torch.int64, torch.bool)]
        written = func._schema.arguments[0].alias_info is not None and func._schema.arguments[0].alias_info.is_write
        bad = [t for t in here if t.ndim or name in NO_SCALARS or (written and t is tensors[0])]
        if bad and name not in ALLOWED_TO_MIX:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu: {name}")
        if name == "aten::convolution" and torch.backends.cudnn.allow_tf32 and args[0].dtype == torch.float32:
            args = (*map(tf32, args[:2]), *args[2:])
        by_number = name in PRODUCT_FOR and not kwargs and not (isinstance(args[1], Tensor) and on_gpu(args[1]))
        if by_number and args[0].is_floating_point():
            func, args = PRODUCT_FOR[name], (args[0], torch.ones((), dtype=args[0].dtype) / args[1])
        made = func(*args, **kwargs)
        if name in PRODUCTS:
            self._round(made, *args[-2:])
        # What was written to stays where it is.
        return made if name == "aten::copy_" else mark(made)


class _Stream:
    """Of which there is one: everything is computed at once, copies to the host arrive when they are waited for."""

    def __init__(self, gpu: PretendedGpu, copies: list[Callable[[], Any]] | None = None):
        self.gpu, self.copies = gpu, copies

    def record_event(self, *_: Any) -> _Stream:
        return _Stream(self.gpu, list(self.gpu.queue))

    def synchronize(self) -> None:
        self.gpu.arrive(list(self.gpu.queue) if self.copies is None else self.copies)

    def wait_stream(self, _: _Stream) -> None:
        pass


@contextmanager
def pretended_gpu(*, bfloat16: bool = True) -> Iterator[PretendedGpu]:
    """Within it there is one GPU."""
    gpu = PretendedGpu()
    stream = _Stream(gpu)
    state = torch.get_rng_state()
    stands_in = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "pretended",
        "mem_get_info": lambda *_: (FREE_BYTES, FREE_BYTES),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "get_device_properties": lambda *_: SimpleNamespace(L2_cache_size=50 * 2**20),
        "is_bf16_supported": lambda including_emulation=True: bfloat16,
        "synchronize": gpu.synchronize,
        "get_rng_state": lambda *_: state,
        "set_rng_state": lambda *_: None,
        "manual_seed_all": lambda _: None,
        "Stream": lambda *_: stream,
        "current_stream": lambda *_: stream,
        "stream": lambda _: nullcontext(),
        "is_current_stream_capturing": lambda: False,
    }
    # Optimizers ask the driver whether a graph is being captured, once they hear of an accelerator.
    accelerator = getattr(torch, "accelerator", torch)
    silent = mock.patch.object(accelerator, "current_accelerator", return_value=None, create=True)
    # Loaders ask it for pinned memory.
    init = DataLoader.__init__
    unpinned = mock.patch.object(DataLoader, "__init__", lambda *a, pin_memory, **k: init(*a, **k))
    kept = mock.patch.object(Tensor, "record_stream", return_value=None)
    with mock.patch.multiple(torch.cuda, **stands_in), silent, unpinned, kept, _Operations(gpu), gpu:
        yield gpu
