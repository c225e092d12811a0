import threading
from concurrent.futures import Executor, Future

import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from probe.heads.shared.side_by_side import PART_ROWS, FirstLayer, begin_side_by_side, one_thread_each


def setting(n_rows):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3)).double()
    return module, {"x": torch.randn(n_rows, 5).double(), "codes": torch.arange(n_rows) % 3}


def loss(module, batch):
    return functional.cross_entropy(module(batch["x"]), batch["codes"])


@pytest.mark.parametrize("n_rows", [1, PART_ROWS, PART_ROWS + 1, 3 * PART_ROWS - 5])
def test_loss_and_gradients_are_those_of_the_whole_batch(n_rows):
    module, batch = setting(n_rows)
    expected = loss(module, batch)
    gradients = torch.autograd.grad(expected, list(module.parameters()))
    with one_thread_each() as threads:
        found = begin_side_by_side(threads, loss, module, batch)()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


def behind_first(module, batch):
    return functional.cross_entropy(module[1:](batch["hidden"]), batch["codes"])


@pytest.mark.parametrize("n_rows", [1, PART_ROWS + 1, 3 * PART_ROWS - 5])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_first_layer_gets_the_gradients_of_the_whole_batch_once_all_parts_have_given_their_slopes(n_rows, n_threads):
    module, batch = setting(n_rows)
    expected = loss(module, batch)
    gradients = torch.autograd.grad(expected, list(module.parameters()))
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with one_thread_each() as threads:
            first = FirstLayer(module[0], batch["x"], "hidden", torch.float64)
            found = begin_side_by_side(threads, behind_first, module, batch, first)()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


def test_a_first_layer_of_narrow_products_gives_wide_gradients_near_those_of_wide_ones():
    module, batch = setting(PART_ROWS + 9)
    module, batch = module.float(), {**batch, "x": batch["x"].float()}
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        with one_thread_each() as threads:
            first = FirstLayer(module[0], batch["x"], "hidden", dtype)
            begin_side_by_side(threads, behind_first, module, batch, first)()
        found.append([parameter.grad for parameter in module[0].parameters()])
    for wide, narrow in zip(*found, strict=True):
        assert narrow.dtype == torch.float32
        assert 0 < (narrow - wide).norm() / wide.norm() < 0.02


class AtOnce(Executor):
    """On the thread that submits, where a mode sees what torch does."""

    def submit(self, task, *arguments):
        done = Future()
        done.set_result(task(*arguments))
        return done


class Copied(TorchDispatchMode):
    """Counts copied numbers of tensors of a width."""

    def __init__(self, width):
        super().__init__()
        self.width, self.numbers = width, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() in ("aten::clone", "aten::copy_", "aten::_to_copy") and args[0].shape[-1] == self.width:
            self.numbers += args[0].numel()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("n_prefix", "dtype", "n_copies"), [(0, "float32", 0), (1, "float32", 1), (0, "bfloat16", 1)])
def test_inputs_of_a_first_layer_are_copied_once_at_most_whatever_the_number_of_parts(n_prefix, dtype, n_copies):
    layer, rows = nn.Linear(5, 512), slice(0, 40)
    inputs = torch.randn(40, 3 + n_prefix, 5)[:, n_prefix:]
    with Copied(5) as copied:
        first = FirstLayer(layer, inputs, "hidden", getattr(torch, dtype))
        for part in (slice(0, 19), slice(19, 40)):
            first.take_slopes(part, first.outputs(part).detach())
        copied_before = copied.numbers
        first.begin(AtOnce(), 8)
    of_weights = layer.weight.numel() * (dtype == "bfloat16")
    assert copied_before == n_copies * inputs.numel() + of_weights
    assert copied.numbers == copied_before + of_weights  # the products, made wide
    first.leave_gradients()
    slopes = first.outputs(rows).detach()
    expected = slopes.flatten(0, 1).T @ inputs.flatten(0, 1)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_a_first_layer_reads_its_inputs_a_few_times_however_many_parts_a_batch_has():
    for n_outputs, n_slices in ((8, 1), (512, 4)):
        first = FirstLayer(nn.Linear(3, n_outputs), torch.randn(4, 3), "hidden", torch.float32)
        first.take_slopes(slice(0, 4), torch.zeros(4, n_outputs))
        assert [len(first.begin(AtOnce(), n_parts)) for n_parts in (1, 32)] == [1, n_slices]


def test_gradients_of_a_first_layer_lie_in_memory_as_its_weights_do():
    found = []
    for transposed in (False, True):
        module, batch = setting(PART_ROWS + 9)
        if transposed:
            module[0].weight = nn.Parameter(module[0].weight.detach().T.contiguous().T)
        with one_thread_each() as threads:
            first = FirstLayer(module[0], batch["x"], "hidden", torch.float64)
            begin_side_by_side(threads, behind_first, module, batch, first)()
        assert module[0].weight.grad.stride() == module[0].weight.stride()
        found.append(module[0].weight.grad)
    torch.testing.assert_close(*found)


def test_fused_steps_on_convolutions_are_those_of_plain_ones():
    """Their gradients come with the channels last, and a fused optimizer takes numbers in the order of memory."""
    ends = []
    for fused in (False, True):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(64, 3))
        batch = {"x": torch.randn(2 * PART_ROWS, 3, 9, 9).to(memory_format=torch.channels_last)}
        batch["codes"] = torch.arange(2 * PART_ROWS) % 3
        if fused:
            with one_thread_each() as threads:
                begin_side_by_side(threads, loss, module, batch)()
        else:
            loss(module, batch).backward()
        torch.optim.AdamW(module.parameters(), lr=1e-3, fused=fused).step()
        ends.append([parameter.detach() for parameter in module.parameters()])
    for plain, side_by_side in zip(*ends, strict=True):
        torch.testing.assert_close(side_by_side, plain, rtol=1e-5, atol=1e-6)


def test_bits_do_not_depend_on_the_number_of_threads():
    found, before = [], torch.get_num_threads()
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        module, batch = setting(5 * PART_ROWS)
        with one_thread_each() as threads:
            begin_side_by_side(threads, loss, module.float(), {**batch, "x": batch["x"].float()})()
        found.append([parameter.grad for parameter in module.parameters()])
    torch.set_num_threads(before)
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)


def test_a_module_is_begun_while_another_is_at_work():
    before, second_began = torch.get_num_threads(), threading.Event()

    def of_first(module, batch):
        assert second_began.wait(60)
        return loss(module, batch)

    def of_second(module, batch):
        second_began.set()
        return loss(module, batch)

    torch.set_num_threads(2)
    try:
        with one_thread_each() as threads:
            ends = [begin_side_by_side(threads, of_one, *setting(7)) for of_one in (of_first, of_second)]
            assert float(ends[0]()) == float(ends[1]())
    finally:
        torch.set_num_threads(before)


def test_gradients_of_several_modules_in_work_are_those_of_each_alone():
    found, expected = [], []
    with one_thread_each() as threads:
        settings = [setting(n_rows) for n_rows in (2 * PART_ROWS, 7, PART_ROWS + 1)]
        ends = [begin_side_by_side(threads, loss, *given) for given in settings]
        for (module, batch), end in zip(settings, ends, strict=True):
            found.append((end(), [parameter.grad for parameter in module.parameters()]))
            expected.append((loss(module, batch), torch.autograd.grad(loss(module, batch), list(module.parameters()))))
    for (value, gradients), (other, others) in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other.detach())
        torch.testing.assert_close(gradients, list(others))


def test_threads_compute_by_themselves_and_torch_has_its_own_back_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []

    def threads_of_blas():
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    of_blas = threads_of_blas()

    def failing(module, batch):
        seen.append((threading.get_ident(), torch.get_num_threads(), *threads_of_blas().values()))
        raise ValueError("no loss")

    try:
        with pytest.raises(ValueError, match="no loss"), one_thread_each() as threads:
            begin_side_by_side(threads, failing, *setting(2 * PART_ROWS))()
        assert torch.get_num_threads() == 2
        assert threads_of_blas() == of_blas
    finally:
        torch.set_num_threads(before)
    assert {n for _, *each in seen for n in each} == {1}
    assert threading.get_ident() not in {thread for thread, *_ in seen}
