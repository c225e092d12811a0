"""Attentive probes: attention pools the tokens of a row, a linear classifier reads the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from probe.core.arrays import RowReader, row_chunks
from probe.core.device import full_precision
from probe.core.errors import InputError
from probe.core.given import is_of_kinds
from probe.heads.shared import att_svm, poolings
from probe.heads.shared.base import AnyHead
from probe.heads.shared.head import FloatArray, Validation, check_lazy
from probe.heads.shared.masks import check_both_masked, with_mask
from probe.heads.shared.module_head import ModuleHead
from probe.heads.shared.module_solver import Batch, as_tensors
from probe.heads.shared.objectives import BinaryCrossEntropy
from probe.heads.shared.poolings.parts import Pooled, Pooling, RunningNorm
from probe.heads.shared.several_labels import SeveralLabels
from probe.heads.shared.together_solver import TogetherSolver
from probe.heads.shared.token_moments import check_patches
from probe.heads.shared.trained_numbers import TrainedNumbers


class AttentiveModule(nn.Module):
    """Logits, or means, of tokens (B, T, D): a pooling, perhaps a BatchNorm without scale and shift, a linear layer."""

    def __init__(self, pool: Pooling, n_outputs: int, *, batch_norm: bool = True, n_dropped: int = 0):
        super().__init__()
        self.pool, self.n_dropped = pool, n_dropped
        self.bn = RunningNorm(pool.width) if batch_norm else nn.Identity()
        self.classifier = nn.Linear(pool.width, n_outputs)

    def pooled(self, batch: Batch) -> Pooled:
        """The vector of each row and its attention maps."""
        tokens, mask = batch["tokens"][:, self.n_dropped :], batch.get("mask")
        if mask is not None:
            mask = mask[:, self.n_dropped :]
            tokens = tokens.masked_fill(~mask[..., None], 0)
        return self.pool(tokens, mask)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B, K)."""
        return self.classifier(self.bn(self.pooled(batch)[0]))


class AttentiveSolver(TogetherSolver):
    """What `Attentive` and `AttentiveNumbers` share."""

    consumes: ClassVar[tuple[str, ...]] = ("tokens",)

    @property
    def takes_mask(self) -> bool:
        """Whether rows may differ in length: any kind but `clip`, which learns places."""
        return self.kind != "clip"

    def __init__(
        self,
        kind: str = "ep",
        options: Mapping[str, Any] | None = None,
        batch_norm: bool = True,
        prefix: bool = False,
        n_prefix_tokens: int = 0,
        epochs: int = 20,
        patience: int = 5,
        learning_rates: Sequence[float] = (1e-4, 1e-3, 1e-2),
        weight_decays: Sequence[float] = (1e-3, 1e-1),
        batch_size: int = 256,
        warmup_epochs: float = 1,
        refit: bool = True,
        random_state: int = 0,
        device: str = "auto",
    ):
        self.kind = kind
        self.options = options
        self.batch_norm = batch_norm
        self.prefix = prefix
        self.n_prefix_tokens = n_prefix_tokens
        self.epochs = epochs
        self.patience = patience
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.batch_size = batch_size
        self.warmup_epochs = warmup_epochs
        self.refit = refit
        self.random_state = random_state
        self.device = device

    def check_parameters(self) -> None:
        super().check_parameters()
        poolings.check_options(self.kind, self.options or {})

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Trains all candidates on (X, y) and chooses among them on the validation rows."""
        self.check_parameters()
        X, codes = self._check_fit(X, y)
        check_lazy(X.arrays["tokens"], "tokens")
        self.n_tokens_ = X.arrays["tokens"].shape[1]
        rows, others = RowReader({**X.arrays, "codes": codes}), self._validation_rows(validation)
        held = None if others is None else RowReader({**others[0], "codes": others[1]})
        check_both_masked(rows, held)
        self._choose(rows, held)
        return self

    def _module(self) -> AttentiveModule:
        dropped = 0 if self.prefix else self.n_prefix_tokens
        pool = poolings.pooling(
            self.kind, self.options or {}, token_width=self.widths_["tokens"], n_tokens=self.n_tokens_ - dropped
        )
        return AttentiveModule(pool, self.n_outputs, batch_norm=self.batch_norm, n_dropped=dropped)

    def _check_rows(self, X: Any, *, reset: bool) -> RowReader:
        """Tokens, and their mask where one is given, as a reader of rows."""
        given = X.arrays if isinstance(X, RowReader) else X if is_of_kinds(X) else {"tokens": X}
        rows = self._check_kinds(given, reset=reset)
        dropped = 0 if self.prefix else self.n_prefix_tokens
        check_patches(rows.arrays["tokens"].shape[1], dropped)
        return with_mask(given, rows, dropped)

    def _outputs(self, X: Any) -> FloatArray:
        found = super()._outputs(X)
        _check_finite(found, "outputs")
        return found

    @torch.no_grad()
    def attention(self, X: Any) -> FloatArray:
        """Where the fitted head looks: (N, Q, T) maps that sum to 1 over the tokens, one for each query or head.

        T counts patches, with `prefix` the prefix tokens too.
        """
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        found = []
        for part in row_chunks(rows):
            chunk = rows[part]
            module = cast(AttentiveModule, self._loaded(chunk))
            parameter = next(module.parameters())
            with full_precision():
                maps = module.pooled(as_tensors(chunk, str(parameter.device), parameter.dtype))[1].cpu().numpy()
            _check_finite(maps, "attention", part.start)
            found.append(maps)
        return np.concatenate(found)


class Attentive(ModuleHead, AttentiveSolver):
    """Attention over the tokens of a row, then BatchNorm, then a linear classifier; trained by AdamW.

    Every (learning rate, weight decay) is trained at once and stopped at its best epoch on the validation rows; the
    best of all is trained again on training and validation rows for as many epochs. Without validation rows a tenth of
    the training rows is held out to choose on; a single candidate is then trained for all epochs.

    X is (N, T, D), or a mapping of `tokens` and `mask`, (N, T) booleans that are True where there is a token: what
    stands elsewhere changes nothing.

    Of several labels, and of numbers to predict, see `AttentiveLabels` and `AttentiveNumbers`.

    The equations and sources of each kind stand in `probe/heads/shared/poolings/`. The protocol is that of efficient
    probing (Psomas et al., ICLR 2026, arXiv 2506.10178), but for AdamW in the place of LARS, features extracted once in
    the place of augmented images, and a choice on rows that are not reported.

    Args:
        kind: `ep`, `aim`, `abmilp`, `simpool`, `esimpool`, `map`, `cae`, `coca`, `clip` or `jepa`.
        options: Of the kind, such as `{n_queries: 8}` of `ep`; null: as published.
        batch_norm: Whether a BatchNorm without scale and shift stands ahead of the classifier; AIM's own stands on the
            tokens, V-JEPA has none.
        prefix: Whether prefix tokens such as CLS are pooled besides the patches.
        n_prefix_tokens: How many tokens stand before the patches. A fact about the features and not a choice: the
            experiment sets it from the backbone.
        epochs: Passes over the rows; the learning rate falls along half a cosine to zero.
        patience: Training ends after so many epochs in which no candidate did better than before.
        learning_rates: Peak learning rates to choose from.
        weight_decays: Decoupled decays of matrices and queries to choose from.
        batch_size: Rows per step.
        warmup_epochs: Epochs of linear warm-up, at most half of all.
        refit: Train again on train + validation with what was chosen.
        random_state: Seed of the initial weights and the order of the rows.
        device: `auto`, `cpu` or `cuda`.

    Attributes:
        n_epochs_: For how many epochs the weights were trained.
        selection_: Candidates with their scores and epochs; absent where nothing was searched.
    """

    fits: ClassVar[tuple[str, ...]] = ("one_class", "labels", "number")
    reads_unknown: ClassVar[bool] = True

    def for_target(self, target: str) -> AnyHead:
        kind = {"labels": AttentiveLabels, "number": AttentiveNumbers}.get(target)
        return self if kind is None else kind(**self.get_params(deep=False))

    @torch.no_grad()
    def att_svm(self, X: Any, y: ArrayLike) -> att_svm.AttSVM:
        """The attention SVM of a probe of one query, kind `ep` with `n_queries=1`.

        With values held as fitted, each token alone has a margin for the class of its row, that class's logit less the
        largest other; t* is the token of the largest one. The query is argmin |p| with p.(x_t* - x_t) >= 1 for all
        other tokens of all rows: gradient descent of the query alone goes to infinity in that direction, or in that of
        tokens that are the best near where it began.

        Source: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, arXiv 2308.16898.

        Raises:
            InputError: for another kind, or rows that no query can set apart.
        """
        check_is_fitted(self)
        if self.kind != "ep" or self.pool_cls_token_.shape[1] != 1:
            raise InputError(
                f"att_svm is about one query, this probe is {self.kind} with {self.options or 'its usual options'}: "
                "fit kind ep with options {n_queries: 1}"
            )
        rows = self._check_rows(X, reset=False)
        att_svm.check_size(*rows.arrays["tokens"].shape[:2])
        chunk = rows[:]
        codes = self._validation_codes(y)
        if len(codes) != len(rows) or (codes < 0).any():
            raise InputError(
                f"y holds {len(codes)} labels for {len(rows)} rows, or an unknown class: give one "
                "of its classes for each row"
            )
        chunk = {name: v.astype(np.float64) if v.dtype.kind == "f" else v for name, v in chunk.items()}
        module = cast(AttentiveModule, self._loaded(chunk))
        dropped = module.n_dropped
        tokens = chunk["tokens"][:, dropped:]
        mask = chunk["mask"][:, dropped:] if "mask" in chunk else np.ones(tokens.shape[:2], dtype=bool)
        # A row of one token is pooled to the value of that token.
        device = next(module.parameters()).device
        alone = torch.from_numpy(tokens.reshape(-1, 1, tokens.shape[2])).to(device)
        logits = module.classifier(module.bn(module.pool(alone, None)[0])).cpu().numpy()
        best = att_svm.best_tokens(logits.reshape(*tokens.shape[:2], -1), codes, mask)
        pairs = att_svm.pairs(tokens, best, mask)
        query, own = att_svm.least_norm(pairs), self.pool_cls_token_[0, 0].astype(np.float64)
        own /= np.linalg.norm(own)
        length = np.linalg.norm(query)
        margin = float((pairs @ own).min(initial=np.inf) * length)
        return att_svm.AttSVM(query, best, float(query @ own / length) if length else 0.0, margin)


class AttentiveLabels(SeveralLabels, Attentive):
    """The same where a row has any number of labels: down the binary cross-entropy of those that are known, judged by
    mAP.

    `head=attentive` stands for it on such data; it has no yaml of its own.
    """

    def _objective(self) -> BinaryCrossEntropy:
        return BinaryCrossEntropy()


class AttentiveNumbers(TrainedNumbers, AttentiveSolver):
    """The same with a mean for each column in the place of logits, down the squared error.

    `head=attentive` stands for it on numbers, with the same parameters; it has no yaml of its own.
    """


def _check_finite(values: FloatArray, name: str, first_row: int = 0) -> None:
    """Refuses what tokens too large for their products make of attention."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        raise InputError(
            f"row {first_row + int(np.argmin(finite))} has {name} that are not finite, its tokens are so large that "
            "their products overflow: leave that row out, or extract its features again"
        )
