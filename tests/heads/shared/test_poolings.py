import math

import numpy as np
import pytest
import torch

from probe.core.errors import InputError
from probe.heads.shared.poolings import POOLINGS, check_options, pooling
from probe.heads.shared.poolings.ep import EfficientProbing
from probe.heads.shared.poolings.parts import RunningNorm

ORDERLESS = [kind for kind in POOLINGS if kind != "clip"]
every_kind = pytest.mark.parametrize("kind", POOLINGS)


def make(kind, width=16, n_tokens=9, **options):
    torch.manual_seed(0)
    pool = pooling(kind, options, token_width=width, n_tokens=n_tokens).double()
    with torch.no_grad():
        for p in pool.parameters():  # no weight at zero or one hides a mistake
            p.add_(0.3 * torch.randn_like(p))
    return pool.eval()


def tokens(n=4, n_tokens=9, width=16, seed=0):
    return torch.randn(n, n_tokens, width, generator=torch.Generator().manual_seed(seed)).double()


@every_kind
def test_attention_sums_to_one_over_the_tokens(kind):
    pooled, A = make(kind)(tokens(), None)
    assert pooled.shape == (4, make(kind).width)
    assert A.shape[::2] == (4, 9)
    total = A.sum(-1)
    if kind == "clip":  # the mean token has its share
        assert ((total > 0) & (total < 1)).all()
    else:
        torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("kind", ORDERLESS)
def test_permuting_or_repeating_tokens_moves_no_pooled_vector(kind):
    x, pool = tokens(), make(kind)
    expected = pool(x, None)[0]
    torch.testing.assert_close(pool(x[:, torch.randperm(9)], None)[0], expected)
    torch.testing.assert_close(pool(x.repeat(1, 3, 1), None)[0], expected)


def test_an_order_of_tokens_moves_clip():
    x, pool = tokens(), make("clip")
    assert (pool(x.flip(1), None)[0] - pool(x, None)[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in ORDERLESS), ("jepa", {"depth": 3}), ("abmilp", {"depth": 3})]
)
def test_tokens_under_the_mask_are_pooled_as_those_alone(kind, options):
    pool = make(kind, **options)
    x, mask = tokens(n_tokens=12), torch.zeros(4, 12, dtype=torch.bool)
    mask[:, [0, 2, 3, 4, 5, 7, 8, 10, 11]] = True
    x[~mask] = 0
    pooled, A = pool(x, mask)
    expected, A_expected = pool(x[:, mask[0]], None)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(A[..., mask[0]], A_expected)
    assert (A[..., ~mask[0]] == 0).all()


def test_clip_gives_masked_places_no_weight_and_the_mean_of_the_others():
    pool, x = make("clip"), tokens()
    mask = torch.ones(4, 9, dtype=torch.bool)
    mask[:, 6:] = False
    x = x.masked_fill(~mask[..., None], 0)
    pooled, A = pool(x, mask)
    short = make("clip", n_tokens=6)
    short.load_state_dict(pool.state_dict() | {"pos_embed": pool.pos_embed[:7]})
    torch.testing.assert_close(pooled, short(x[:, :6], None)[0])
    assert (A[..., 6:] == 0).all()


@pytest.mark.parametrize("kind", ["ep", "aim", "simpool", "esimpool", "cae", "coca"])
def test_one_token_is_pooled_to_its_value_whatever_the_queries(kind):
    x, pool = tokens(n_tokens=1), make(kind)
    expected, A = pool(x, None)
    for name, p in pool.named_parameters():
        if name in ("cls_token", "query_token", "img_queries", "wq.weight", "wk.weight", "k.weight"):
            torch.nn.init.normal_(p)
    torch.testing.assert_close(pool(x, None)[0], expected)
    assert (A == 1).all()


def test_queries_of_zero_and_values_as_they_are_make_efficient_probing_the_mean():
    pool, x = make("ep", n_queries=4), tokens()
    torch.nn.init.zeros_(pool.cls_token)
    torch.nn.init.eye_(pool.v.weight)
    torch.testing.assert_close(pool(x, None)[0], x.mean(1))


@pytest.mark.parametrize(("n_queries", "d_out"), [(1, 1), (4, 1), (4, 2), (16, 1)])
def test_efficient_probing_is_its_equation_index_by_index(n_queries, d_out):
    pool, x = make("ep", n_queries=n_queries, d_out=d_out), tokens()
    u, W = pool.cls_token[0].detach().numpy(), pool.v.weight.detach().numpy()
    found, w = pool(x, None)[0].detach().numpy(), 16 // d_out // n_queries
    for b, row in enumerate(x.numpy()):
        for q in range(n_queries):
            a = np.exp(row @ u[q] / math.sqrt(16))
            values = row @ W.T
            expected = (a / a.sum()) @ values[:, q * w : (q + 1) * w]
            np.testing.assert_allclose(found[b, q * w : (q + 1) * w], expected, atol=1e-12)


def test_scaling_the_tokens_sharpens_efficient_probing_and_not_jepa():
    x = tokens()
    for kind, moved in (("ep", True), ("jepa", False)):
        pool = make(kind)
        change = (pool(5 * x, None)[1] - pool(x, None)[1]).abs().max()
        assert (change > 0.05) == moved, kind


@pytest.mark.parametrize(
    ("kind", "width", "expected"),
    [
        ("ep", 768, 32 * 768 + 768**2),
        ("aim", 768, 768 + 2 * 768**2),
        ("esimpool", 768, 2 * 768),
        ("coca", 768, 768 + 768 + 2 * 768 * 512 + 768 * 128),
        ("jepa", 768, 768 + 3 * 768 * 769 + 4 * 768 + 2 * 4 * 768**2 + 5 * 768),
    ],
)
def test_parameter_counts_follow_the_published_formulas(kind, width, expected):
    with torch.device("meta"):
        pool = pooling(kind, {}, token_width=width, n_tokens=196)
    assert sum(p.numel() for p in pool.parameters()) == expected


def test_queries_default_to_32_or_what_the_width_allows():
    assert EfficientProbing(384).cls_token.shape[1] == 32
    assert EfficientProbing(48).cls_token.shape[1] == 16


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("ep", {"n_queries": 5}, "n_queries is 5 and does not divide a width of 16: set a divisor of it in options"),
        ("ep", {"d_out": 3}, "d_out is 3 and does not divide a width of 16"),
        ("aim", {"n_heads": 3}, "n_heads is 3 and does not divide a width of 16"),
        ("abmilp", {"activation": "gelu"}, "activation is 'gelu': choose one of tanh, relu in options"),
        ("abmilp", {"self_attention": "all"}, "self_attention is 'all': choose one of none, map, both in options"),
        ("abmilp", {"depth": 0}, "depth is 0, expected a whole number from 1"),
        ("jepa", {"depth": 0}, "depth is 0, expected a whole number from 1"),
        ("jepa", {"refines": "both"}, "refines is 'both': choose one of tokens, query in options"),
        ("coca", {"head_width": 0}, "n_heads is 8 and head_width 0, expected 1 or more"),
    ],
)
def test_options_that_cannot_work_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        pooling(kind, options, token_width=16, n_tokens=9)


def test_unknown_kinds_and_options_are_refused_by_name():
    with pytest.raises(InputError, match="kind is 'mean': choose one of ep, aim, abmilp, simpool"):
        check_options("mean", {})
    with pytest.raises(
        InputError, match="options has heads, which kind aim does not know: choose among n_queries, n_h"
    ):
        check_options("aim", {"heads": 2})


def test_clip_refuses_another_number_of_tokens():
    with pytest.raises(InputError, match="there are 8 tokens, kind clip was fitted on 9 places: pad the tokens to as"):
        make("clip")(tokens(n_tokens=8), None)


def test_a_running_norm_is_batch_norm_over_the_tokens_that_are_there():
    x = tokens()
    mask = torch.ones(4, 9, dtype=torch.bool)
    mask[1, 4:] = False
    ours, theirs = RunningNorm(16).double(), torch.nn.BatchNorm1d(16, eps=1e-6, affine=False).double()
    ours.n_batches.fill_(20)
    expected = theirs(x[mask])
    torch.testing.assert_close(ours(x, mask)[mask], expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x, mask)[mask], theirs.eval()(x[mask]))


def test_a_running_norm_that_saw_one_batch_predicts_with_that_batch_alone():
    x = 1e-3 * tokens()[:, 0] + 5
    norm = RunningNorm(16).double()
    norm(x)
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    torch.testing.assert_close(norm.running_var, x.var(0))
