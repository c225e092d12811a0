"""Moment probing: a linear classifier on the pooled feature, another on second moments of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from torch import Tensor, nn
from torch.nn import functional

from probe.core.arrays import RowReader
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.heads.shared.base import AnyHead
from probe.heads.shared.forecast import Forecast, Shapes
from probe.heads.shared.head import Validation
from probe.heads.shared.masks import check_both_masked, with_mask
from probe.heads.shared.minibatch import MinibatchSolver
from probe.heads.shared.module_head import ModuleHead
from probe.heads.shared.module_solver import Batch
from probe.heads.shared.moment_module import PROJECTED, MomentProbingModule
from probe.heads.shared.side_by_side import PART_ROWS, FirstLayer, begin_side_by_side, one_thread_each
from probe.heads.shared.token_moments import check_moment_options, check_patches
from probe.heads.shared.trained_numbers import TrainedNumbers
from probe.heads.shared.training import Recipe, Student
from probe.heads.shared.training_memory import of_training

PRODUCTS = ("float32", "bfloat16")
CHECKED_STEPS = 3
MOST_APART = 0.1
"""How far gradients by narrow products may be from those of float32, as a share of their length."""


class MomentProbingSolver(MinibatchSolver):
    """What `MomentProbing` and `MomentProbingNumbers` share."""

    consumes: ClassVar[tuple[str, ...]] = ("pooled", "tokens")
    recipe: ClassVar[str] = "2"  # gradients are summed part by part
    _threads: Executor | None = None

    @property
    def takes_mask(self) -> bool:
        """Any rows of tokens will do."""
        return True

    def __init__(
        self,
        layout: str = "vit",
        second_moment: str = "as_released",
        hidden_width: int = 512,
        n_groups: int = 4,
        n_prefix_tokens: int = 0,
        epochs: Sequence[int] = (30,),
        learning_rates: Sequence[float] = (1e-3, 1e-4, 1e-2),
        batch_size: int = 64,
        weight_decay: float = 0.05,
        warmup_epochs: float = 5,
        label_smoothing: float = 0.0,
        ema_decay: float | None = None,
        products: str = "float32",
        early_drop: bool = False,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.layout = layout
        self.second_moment = second_moment
        self.hidden_width = hidden_width
        self.n_groups = n_groups
        self.n_prefix_tokens = n_prefix_tokens
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.label_smoothing = label_smoothing
        self.ema_decay = ema_decay
        self.products = products
        self.early_drop = early_drop
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits on a mapping with `pooled` (N, D) and `tokens` (N, T, D), arrays or memmaps, and labels (N,).

        Rows of fewer tokens come with a `mask`, (N, T) booleans: what stands where it is False changes nothing.
        """
        self.check_parameters()
        rows, codes = self._check_fit(X, y)
        checked = self._validation_rows(validation)
        train = RowReader({**rows.arrays, "codes": codes})
        held = None if checked is None else RowReader({**checked[0], "codes": checked[1]})
        check_both_masked(train, held)
        self._select_and_train(train, held)
        return self

    def check_parameters(self) -> None:
        check_moment_options(self.layout, self.second_moment, self.hidden_width, self.n_groups)
        if self.hidden_width // self.n_groups < 7:
            raise InputError(
                f"{self.n_groups} groups of a width of {self.hidden_width} have {self.hidden_width // self.n_groups} "
                "channels each and two 3x3 convolutions of stride 2 need 7: raise hidden_width or lower n_groups"
            )
        if self.products not in PRODUCTS:
            raise InputError(f"products is {self.products!r}: choose one of {list(PRODUCTS)}")

    def forecast(self, n_rows: int, shapes: Shapes, n_classes: int) -> Forecast:
        head = clone(self).set_params(products="float32")  # in which candidates are judged
        head.widths_ = {kind: shape[-1] for kind, shape in shapes.items()}
        # One stands for columns of numbers, of which there are few.
        head.classes_ = head.y_mean_ = np.arange(max(1, n_classes))
        recipes = self._recipes()
        with torch.random.fork_rng(devices=[]):
            module = head._module()
        epochs = sum(recipe.epochs for recipe in recipes) + max(recipe.epochs for recipe in recipes)
        rows_in_work, of_parts = self.batch_size, 0
        if resolve_device(self.device) == "cpu":  # elsewhere batches are one part, of one candidate after another
            at_once = min(len(recipes) * self.batch_size, torch.get_num_threads() * PART_ROWS)
            rows_in_work = max(self.batch_size, at_once)
            of_parts = len(recipes) * self._bytes_of_parts(module, min(self.batch_size, n_rows), shapes["tokens"])
        return of_training(module, shapes, n_rows, len(recipes), rows_in_work, epochs, of_parts)

    def _bytes_of_parts(self, module: MomentProbingModule, n_rows: int, tokens: tuple[int, ...]) -> int:
        """Of one batch: what its parts leave until they are summed, the projection's inputs and slopes for all rows."""
        projection = list(module.projection.parameters())
        summed = sum(p.nbytes for p in module.parameters()) - sum(p.nbytes for p in projection)
        copied = tokens[1] if self.n_prefix_tokens or self.products != "float32" else 0
        dtype = torch.float32 if self.products == "float32" else torch.bfloat16
        of_first = n_rows * (tokens[0] - self.n_prefix_tokens) * (copied + self.hidden_width) * dtype.itemsize
        return -(-n_rows // PART_ROWS) * summed + of_first

    def _check_kinds(self, X: Any, *, reset: bool) -> RowReader:
        rows = super()._check_kinds(X, reset=reset)
        check_patches(rows.arrays["tokens"].shape[1], self.n_prefix_tokens)
        return with_mask(X, rows, self.n_prefix_tokens)

    def _module(self) -> MomentProbingModule:
        return MomentProbingModule(
            self.widths_["pooled"],
            self.widths_["tokens"],
            self.n_outputs,
            layout=self.layout,
            second_moment=self.second_moment,
            hidden_width=self.hidden_width,
            n_groups=self.n_groups,
            n_prefix_tokens=self.n_prefix_tokens,
            products=self.products,
        )

    def _train(
        self, recipes: list[Recipe], rows: RowReader, judge: Callable[[list[Student]], None] | None = None
    ) -> list[Student]:
        if resolve_device(self.device) != "cpu":
            return super()._train(recipes, rows, judge)
        with one_thread_each() as self._threads:
            try:
                return super()._train(recipes, rows, judge)
            finally:
                del self._threads

    def _begin(self, module: nn.Module, batch: Batch) -> Callable[[], Tensor]:
        assert isinstance(module, MomentProbingModule)
        if self._threads is None:
            end = super()._begin(module, batch)
        else:
            tokens = batch["tokens"]
            inputs, dtype = module.patches(tokens), module.product_dtype(tokens)
            first = FirstLayer(module.projection, inputs, PROJECTED, dtype)
            end = begin_side_by_side(self._threads, self._loss, module, batch, first)
        if module.products == "float32" or module.n_checked == CHECKED_STEPS:
            return end

        def end_checked() -> Tensor:
            loss = end()
            module.n_checked += 1
            self._check_products(module, batch)
            return loss

        return end_checked

    def _backward(self, module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, MomentProbingModule)
        loss = self._loss(module, batch)
        torch.autograd.backward(loss)
        return loss

    def _loss(self, module: MomentProbingModule, batch: Batch) -> Tensor:
        """Mean over the rows of a batch."""
        raise NotImplementedError

    def _check_products(self, module: MomentProbingModule, batch: Batch) -> None:
        """Holds the gradients on the parameters to those of float32."""
        module.products, given = "float32", module.products
        exact = torch.autograd.grad(self._loss(module, batch), list(module.parameters()))
        module.products = given
        found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        expected = torch.cat([gradient.flatten() for gradient in exact])
        apart = float((found - expected).norm() / expected.norm())
        if apart > MOST_APART:
            raise InputError(
                f"products={given} gives gradients that are {apart:.0%} off those of float32 in step "
                f"{module.n_checked}, expected at most {MOST_APART:.0%}: set head.products=float32"
            )


class MomentProbing(ModuleHead, MomentProbingSolver):
    """Classifies the first two moments of a row's tokens: y = (W1 m1 + b1 + W2 m2 + b2) / 2.

    m1 is the pooled feature; m2 are cross moments of the projected tokens: `n_groups` groups of channels, one
    LayerNorm for all of them, C_h = 1/T sum_t x_h(t) x_{h+1}(t)^T, columns at unit norm, two strided convolutions.

    Of numbers to predict see `MomentProbingNumbers`.

    Source: Gao, Wang, Lin, Zhu, Hu, Zhou, "Tuning Pre-trained Model via Moment Probing", ICCV 2023, arXiv 2307.11342.
    Departures: features are cached, so no augmentation of the images and no stochastic depth in the trunk, with which
    the published numbers were reached; any width and number of groups (a single group is paired with itself);
    the `centred` second moment, which is the covariance that the paper writes, beside the `as_released` one.

    Args:
        layout: `vit`: contiguous groups, prefix tokens left out of m2. `cnn`: interleaved groups, a LayerNorm before
            the first classifier; tokens are the flattened map.
        second_moment: `as_released` subtracts one mean per row and group, `centred` one per row and channel.
        hidden_width: Width of the projection of the tokens.
        n_groups: Groups of channels, a divisor of `hidden_width`; a group has at least 7 channels.
        n_prefix_tokens: How many tokens stand before the patches. A fact about the features and not a choice: the
            experiment sets it from the backbone.
        epochs: Numbers of epochs to choose from on validation.
        learning_rates: Peak learning rates to choose from on validation.
        batch_size: Rows per step.
        weight_decay: Decoupled decay of the matrices.
        warmup_epochs: Epochs of linear warm-up, at most half of them all.
        label_smoothing: Mass of the target that is spread over all classes.
        ema_decay: Decay of the moving average of the weights that predicts; null switches it off.
        products: What training multiplies on the way from the tokens: `float32`, or `bfloat16`, several times faster
            where the processor has such products. Gradients of the first steps are held to those of float32;
            predictions are float32.
        early_drop: Train candidates no further that validation has ruled out, after a quarter, a half or three
            quarters of the epochs.
        refit: Train again on train + validation with what was chosen.
        random_state: Seed of the initial weights and the order of the rows.
        device: `auto`, `cpu` or `cuda`.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "number")

    def for_target(self, target: str) -> AnyHead:
        return MomentProbingNumbers(**self.get_params(deep=False)) if target == "number" else self

    def check_parameters(self) -> None:
        super().check_parameters()
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, expected [0, 1): choose 0 to switch it off")

    def _loss(self, module: MomentProbingModule, batch: Batch) -> Tensor:
        return functional.cross_entropy(module(batch), batch["codes"], label_smoothing=self.label_smoothing)


class MomentProbingNumbers(TrainedNumbers, MomentProbingSolver):
    """The same with a mean for each column in the place of logits, down the squared error.

    `head=moment_probing` stands for it on numbers, with the same parameters; it has no yaml of its own.
    """

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.label_smoothing:
            raise InputError(
                f"label_smoothing is {self.label_smoothing}, and numbers to predict have no classes to spread over: "
                "set head.label_smoothing=0"
            )

    def _loss(self, module: MomentProbingModule, batch: Batch) -> Tensor:
        return self._objective().loss(module(batch)[None], batch)
