"""Dual-head distillation: a teacher speaks to an auxiliary head, and only the trunk that both heads share hears it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from probe.core.arrays import RowReader, row_chunks
from probe.core.errors import InputError
from probe.heads.shared.distillation import TwoHeads, binary_kl_norm, dual_backward, softmax_kd
from probe.heads.shared.head import Validation
from probe.heads.shared.minibatch import MinibatchSolver
from probe.heads.shared.module_head import ModuleHead
from probe.heads.shared.module_solver import Batch

ARMS = ("ce", "kd", "single", "dual")
ALIGNMENTS = ("none", "released", "shared")
AUXILIARIES = ("linear", "mlp")
TEACHER_SCALINGS = ("none", "standard")


class DualHeadKD(ModuleHead, MinibatchSolver):
    """Learns from labels with one head and from a teacher's logits with another: gamma CE(s1, y) + alpha L(s2, t).

    Both heads stand on a small trunk (`trunk_depth` times LayerNorm, Linear, GELU); the main head predicts.
    L is BinaryKL-Norm. The four arms train on the same trunk, seeds and row order:

    - `ce`: gamma CE on the main head, no teacher.
    - `kd`: gamma CE + alpha softmax distillation at `kd_temperature`, both on the main head.
    - `single`: gamma CE + alpha BinaryKL-Norm, both on the main head.
    - `dual`: gamma CE on the main head, alpha BinaryKL-Norm on the auxiliary one.

    Without a trunk (`trunk_depth=0`) nothing is shared, and `dual` is `ce` to the bit.

    Source: Yang, Zong, Huang, Feng, An, "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an
    Auxiliary Head", KDD 2025, arXiv 2411.08937. Departures: the trunk stands on frozen features in the place of the
    paper's backbone; AdamW with a cosine in the place of SGD with steps.

    The LayerNorm of the trunk takes each row's own mean and scale away: with a handful of features (two keep nothing
    but their order), switch the trunk off.

    Args:
        arm: `ce`, `kd`, `single` or `dual`; all but `ce` need teacher logits.
        teacher: Where the experiment gets the teacher logits from: the folder of another run, or a mapping with a
            `backbone`, a `head` and perhaps what it `reads`. `fit` itself reads its argument `teacher_logits` only.
        teacher_folds: Folds of the teacher's out-of-fold logits on the training rows; null for those of the teacher
            run's own fitted head. Read by the experiment.
        teacher_scaling: `none`, or `standard`: the teacher's logits less their mean and over their standard deviation,
            of all rows and classes together. Logits as large as a hundred times a cosine (CLIP) are far beyond the
            temperature, where BinaryKL-Norm hears their signs alone.
        trunk_width: Width of every layer of the trunk.
        trunk_depth: Number of layers of the trunk; 0 switches it off.
        auxiliary: `linear`, or `mlp` as in the paper: Linear to 200, Dropout 0.1, BatchNorm, ReLU, Linear.
        alignment: What `dual` does with an auxiliary gradient that opposes the cross-entropy's: `none`, `released`
            (projected with norms over all parameters) or `shared` (over the trunk's alone, which is exact).
        alpha: Weight of the distillation loss.
        gamma: Weight of the cross-entropy.
        temperature: T of BinaryKL-Norm.
        kd_temperature: Temperature of the softmax distillation of arm `kd`.
        epochs: Numbers of epochs to choose from on validation.
        learning_rates: Peak learning rates to choose from on validation.
        batch_size: Rows per step.
        weight_decay: Decoupled decay of the matrices.
        warmup_epochs: Epochs of linear warm-up, at most half of them all.
        early_drop: Train candidates no further that validation has ruled out, after a quarter, a half or three
            quarters of the epochs.
        refit: Train again on train + validation with what was chosen.
        random_state: Seed of the initial weights and the order of the rows.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(
        self,
        arm: str = "dual",
        teacher: str | Mapping[str, Any] | None = None,
        teacher_folds: int | None = 5,
        teacher_scaling: str = "none",
        trunk_width: int = 256,
        trunk_depth: int = 1,
        auxiliary: str = "linear",
        alignment: str = "none",
        alpha: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 2.0,
        kd_temperature: float = 4.0,
        epochs: Sequence[int] = (30,),
        learning_rates: Sequence[float] = (1e-3, 1e-2),
        batch_size: int = 64,
        weight_decay: float = 0.05,
        warmup_epochs: float = 1,
        early_drop: bool = False,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.arm = arm
        self.teacher = teacher
        self.teacher_folds = teacher_folds
        self.teacher_scaling = teacher_scaling
        self.trunk_width = trunk_width
        self.trunk_depth = trunk_depth
        self.auxiliary = auxiliary
        self.alignment = alignment
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature
        self.kd_temperature = kd_temperature
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.early_drop = early_drop
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        teacher_logits: ArrayLike | None = None,
    ) -> Self:
        """Fits on pooled features (N, D) and labels (N,).

        Args:
            X: Pooled features, an array or a memmap.
            y: Labels.
            validation: Rows and labels to choose on.
            teacher_logits: The teacher's logits, columns in the order of `classes_`: (N, K), followed by those of the
                validation rows where there are such rows and `refit` trains on them too.
        """
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        rows: dict[str, Any] = {"pooled": X, "codes": codes}
        checked = self._validation_rows(validation)
        others = None if checked is None else {**checked[0], "codes": checked[1]}
        if self.arm != "ce":
            n_refit = len(others["codes"]) if others and self.refit else 0
            logits = self._check_teacher(teacher_logits, len(codes), n_refit)
            self.teacher_mean_, self.teacher_deviation_ = self._teacher_scale(logits)
            rows["teacher"] = logits[: len(codes)]
            if others and n_refit:
                others["teacher"] = logits[len(codes) :]
        self._select_and_train(RowReader(rows), None if others is None else RowReader(others))
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.arm != "ce"

    def check_parameters(self) -> None:
        named = (
            ("arm", ARMS),
            ("auxiliary", AUXILIARIES),
            ("alignment", ALIGNMENTS),
            ("teacher_scaling", TEACHER_SCALINGS),
        )
        wrong = [
            f"{name} is {getattr(self, name)!r}, expected one of {list(known)}"
            for name, known in named
            if getattr(self, name) not in known
        ]
        wrong += [
            f"{name} is {getattr(self, name)}, expected a positive number"
            for name in ("temperature", "kd_temperature", "gamma", "trunk_width")
            if not 0 < getattr(self, name) < math.inf
        ]
        wrong += [
            f"{name} is {getattr(self, name)}, expected a number from 0"
            for name in ("alpha", "trunk_depth")
            if not 0 <= getattr(self, name) < math.inf
        ]
        if self.auxiliary == "mlp" and self.arm == "dual" and self.batch_size < 3:
            wrong.append(f"batch_size is {self.batch_size}, and the BatchNorm of head.auxiliary=mlp needs 3")
        if wrong:
            raise InputError("; ".join(wrong) + ": correct the parameters of DualHeadKD")

    def _check_teacher(self, teacher_logits: Any, n_train: int, n_refit: int) -> Any:
        """The teacher's logits, of the right rows and classes and finite."""
        if teacher_logits is None:
            raise InputError(
                f"arm={self.arm} learns from a teacher and no teacher logits were given: set "
                "head.teacher=<run folder>, pass teacher_logits to fit, or choose head.arm=ce"
            )
        logits = teacher_logits if isinstance(teacher_logits, np.memmap) else np.asarray(teacher_logits)
        expected = (n_train + n_refit, len(self.classes_))
        if logits.shape != expected:
            raise InputError(
                f"teacher logits have shape {logits.shape}, expected {expected} for {n_train} training rows, {n_refit} "
                f"validation rows and {len(self.classes_)} classes: give the teacher's logits of these rows and classes"
            )
        bad = sum(int((~np.isfinite(logits[part]).all(axis=1)).sum()) for part in row_chunks(logits))
        if bad:
            raise InputError(f"teacher logits of {bad} rows hold NaN or infinity: mend the teacher or leave them out")
        return logits

    def _teacher_scale(self, logits: Any) -> tuple[float, float]:
        """Mean and standard deviation that the teacher's logits are scaled by; 0 and 1 where they stay as they are."""
        if self.teacher_scaling == "none":
            return 0.0, 1.0
        chunks, size = list(row_chunks(logits)), math.prod(logits.shape)
        mean = sum(float(np.sum(logits[rows], dtype=np.float64)) for rows in chunks) / size
        squares = sum(float(np.square(logits[rows] - mean, dtype=np.float64).sum()) for rows in chunks)
        return mean, math.sqrt(squares / size) or 1.0

    def _module(self) -> TwoHeads:
        """Trunk and main head draw their weights before the auxiliary head: they are the same in every arm."""
        width, layers = self.n_features_in_, []
        for _ in range(self.trunk_depth):
            layers += [nn.LayerNorm(width), nn.Linear(width, self.trunk_width), nn.GELU()]
            width = self.trunk_width
        n_classes = len(self.classes_)
        trunk, main = nn.Sequential(*layers), nn.Linear(width, n_classes)
        if self.arm != "dual":
            return TwoHeads(trunk, main, None)
        if self.auxiliary == "linear":
            return TwoHeads(trunk, main, nn.Linear(width, n_classes))
        mlp = nn.Sequential(
            nn.Linear(width, 200), nn.Dropout(0.1), nn.BatchNorm1d(200), nn.ReLU(), nn.Linear(200, n_classes)
        )
        return TwoHeads(trunk, main, mlp)

    def _backward(self, module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, TwoHeads)
        main, auxiliary = module.both(batch)
        ce = self.gamma * functional.cross_entropy(main, batch["codes"])
        distilled = torch.zeros_like(ce) if self.arm == "ce" else self.alpha * self._distilled(main, auxiliary, batch)
        dual_backward(module, ce, distilled, self.alignment if self.arm == "dual" else "none")
        return ce + distilled

    def _distilled(self, main: Tensor, auxiliary: Tensor, batch: Batch) -> Tensor:
        teacher = (batch["teacher"] - self.teacher_mean_) / self.teacher_deviation_
        if self.arm == "kd":
            return softmax_kd(main, teacher, self.kd_temperature)
        return binary_kl_norm(auxiliary if self.arm == "dual" else main, teacher, self.temperature)
