import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from probe.core.arrays import RowReader
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.shared.objectives import BinaryCrossEntropy, CrossEntropy
from probe.heads.shared.training import Recipe, ruled_out, train


def rows(n=40, width=6, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, n)
    return {"pooled": (rng.standard_normal((n, width)) + codes[:, None]).astype(np.float32), "codes": codes}


class Reads(RowReader):
    """Counts how often rows are read."""

    n_reads = 0

    def __getitem__(self, key):
        type(self).n_reads += 1
        return super().__getitem__(key)

    def at_epoch(self, epoch):
        return self


class Noisy(nn.Module):
    """Draws random numbers in training, as Dropout does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, batch):
        return self.linear(functional.dropout(batch["pooled"], 0.5, self.training))


def begin(module, batch):
    loss = functional.cross_entropy(module(batch), batch["codes"])
    loss.backward()
    return lambda: loss


def build():
    torch.manual_seed(0)
    return Noisy()


RECIPES = [
    Recipe(epochs, rate, 16, 0.1, 1, ema, 0) for epochs, rate, ema in ((3, 1e-2, None), (2, 1e-1, None), (3, 1e-3, 0.9))
]
trained = functools.partial(train, build, begin=begin, device="cpu")


def test_candidates_end_where_they_end_alone_to_the_bit_from_one_read():
    reader = Reads(rows())
    together = trained(RECIPES, reader)
    assert Reads.n_reads == 9  # three epochs of three batches
    for recipe, student in zip(RECIPES, together, strict=True):
        (alone,) = trained([recipe], RowReader(rows()))
        assert alone.losses == student.losses
        assert len(student.losses) == recipe.epochs
        for name, value in alone.module.state_dict().items():
            assert torch.equal(student.module.state_dict()[name], value)


def test_a_candidate_that_is_dropped_moves_no_other():
    def judge(students):
        if len(students) == 3:
            students[0].drop()

    dropped, *others = trained(RECIPES, RowReader(rows()), judge=judge)
    assert dropped.dropped_after == 1
    assert len(dropped.losses) == 1
    for student, whole in zip(others, trained(RECIPES[1:], RowReader(rows())), strict=True):
        assert student.losses == whole.losses


def test_a_copy_as_of_now_predicts_by_the_average_and_leaves_training_alone():
    seen = []

    def judge(students):
        seen.append([student.as_of_now().linear.weight.detach().clone() for student in students])

    watched = trained(RECIPES[2:], RowReader(rows()), judge=judge)[0]
    alone = trained(RECIPES[2:], RowReader(rows()))[0]
    assert torch.equal(watched.module.linear.weight, alone.module.linear.weight)
    assert len(seen) == 2 or not torch.equal(seen[0][0], seen[1][0])


def test_ruled_out_is_who_is_behind_by_three_standard_errors():
    right = np.zeros((4, 100), dtype=bool)
    right[0, :60] = True
    right[1, :55] = True  # five rows that only the best has: 2.2 standard errors
    right[2, :50] = True  # ten: 3.2
    right[3, 30:90] = True  # thirty each: no difference
    assert ruled_out(1.0 - right).tolist() == [False, False, True, False]
    assert not ruled_out(1.0 - right[:, :0]).any()


def test_among_those_right_on_the_same_rows_the_log_loss_rules_out():
    wrong = np.zeros((4, 100))
    wrong[3, :2] = 1  # two rows: no doubt is beyond question, whatever the log-loss
    scatter = np.random.default_rng(0).normal(size=(4, 100))
    losses = np.array([0.5, 0.1, 0.12, 0.0])[:, None] + 0.05 * scatter
    assert ruled_out(wrong).tolist() == [False] * 4
    assert ruled_out(wrong, losses).tolist() == [True, False, False, False]
    assert not ruled_out(wrong[:, :0], losses[:, :0]).any()


def test_what_decides_between_equals_is_the_log_loss_that_scores_count():
    logits, codes = torch.randn(2, 7, 3, dtype=torch.float64), torch.tensor([0, 1, 2, -1, 0, 1, 2])
    scores = CrossEntropy().scores([(logits, codes)])
    np.testing.assert_allclose(-CrossEntropy().ties(logits, codes).sum(axis=1), [loss for _, loss in scores])


@pytest.mark.parametrize("early_drop", [False, True])
def test_a_hopeless_rate_is_dropped_where_asked_and_told(early_drop):
    given, held = rows(120), rows(80, seed=1)
    head = DualHeadKD(
        arm="ce", trunk_depth=0, epochs=(4,), learning_rates=(1e-1, 1e-9), batch_size=30, early_drop=early_drop
    )
    # A first weight that is as good as chance would let the hopeless rate live: turn it away from the classes.
    head.random_state = next(s for s in range(50) if first_accuracy(head, s, held) < 0.3)
    head.fit(given["pooled"], given["codes"], validation=(held["pooled"], held["codes"]))
    good, hopeless = head.selection_["searched"]
    assert head.selection_["chosen"]["learning_rate"] == 1e-1
    assert "dropped_after" not in good
    assert good["score"] > 0.8
    assert hopeless.get("dropped_after") == (1 if early_drop else None)
    assert hopeless["score"] < 0.35


def test_of_rates_that_get_every_row_right_the_worse_log_loss_is_dropped():
    given, held = rows(120), rows(80, seed=1)
    for part in (given, held):
        part["pooled"] += 8 * part["codes"][:, None] - 4
    head = DualHeadKD(arm="ce", trunk_depth=0, epochs=(8,), learning_rates=(1e-1, 3e-2), batch_size=30, early_drop=True)
    head.fit(given["pooled"], given["codes"], validation=(held["pooled"], held["codes"]))
    faster, slower = head.selection_["searched"]
    assert faster["score"] == slower["score"] == 1
    assert slower["dropped_after"] == 2
    assert "dropped_after" not in faster
    assert head.selection_["chosen"]["learning_rate"] == 1e-1


def first_accuracy(head, seed, held):
    torch.manual_seed(seed)
    head.n_features_in_, head.classes_ = held["pooled"].shape[1], np.array([0, 1])
    logits = head._module()({"pooled": torch.from_numpy(held["pooled"])})
    return float((logits.argmax(1).numpy() == held["codes"]).mean())


def test_rows_of_several_labels_are_compared_by_their_losses_and_nothing_decides_between_equals():
    objective = BinaryCrossEntropy()
    logits, codes = (
        torch.tensor([[[9.0, -9.0], [0.0, 0.0]], [[-9.0, 9.0], [torch.nan, 0.0]]]),
        torch.tensor([[1, 0], [1, -1]]),
    )
    losses = objective.losses(logits, codes)
    assert losses.shape == (2, 2)
    assert losses[0, 0] < 1e-3 < losses[0, 1] < losses[1, 0] < losses[1, 1] < np.inf
    assert not objective.ties(logits, codes).any()
