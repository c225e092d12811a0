import copy
import inspect
import re

import numpy as np
import pytest
import torch
import yaml
from oracles import files_of
from places import ROOT
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional

from probe.core.arrays import RowSubset
from probe.core.device import full_precision
from probe.core.errors import InputError
from probe.core.ragged import RaggedMask, RaggedRows
from probe.heads.attentive import Attentive, AttentiveModule
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head
from probe.heads.shared.poolings import POOLINGS, pooling

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
RENAMED = [
    ("pooler.", "pool."),
    ("linear.", "classifier."),
    ("cross_attn.", ""),
    ("norm.gamma", "norm.weight"),
]
OPTIONS = {
    "num_queries": "n_queries",
    "d_out": "d_out",
    "num_heads": "n_heads",
    "heads": "n_heads",
    "dim_head": "head_width",
    "mlp_ratio": "mlp_ratio",
    "depth": "depth",
    "complete_block": "complete_block",
    "self_attention_apply_to": "self_attention",
    "activation": "activation",
}
"""Settings of the released modules that are options here."""
UNUSED = ("pool.norm2_cross.",)
"""Parameters that no output of the released module hangs on."""


def kind_of(path):
    """The kind that a file is about, and whether a BatchNorm stands ahead of its classifier."""
    name = re.match(r"attentive_(vjepa2|aim_v1|siglip|[a-z]+)", path.stem).group(1)
    return {"vjepa2": "jepa", "aim_v1": "aim", "siglip": "map"}.get(name, name), name not in ("vjepa2", "aim_v1")


def ours(name, kind):
    """Our name of a reference parameter, without its `param.` or `grad.<mode>.`."""
    name = re.sub(r"^(param|grad(\.(eval|train))?)\.", "", name)
    for old, new in RENAMED:
        name = name.replace(old, new)
    inside = ("pool.", "classifier.")
    return name if name.startswith(inside) or (name.startswith("bn.") and kind != "aim_v1") else f"pool.{name}"


def oracle(path, device):
    """The released module as ours, in double; tokens, and the reference values by name."""
    data, (kind, batch_norm) = load_file(path), kind_of(path)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    known = inspect.signature(POOLINGS[kind]).parameters
    read = {"True": True, "False": False}
    options = {
        OPTIONS[key]: read.get(value, int(value) if value.isdecimal() else value)
        for key, value in told.items()
        if OPTIONS.get(key) in known
    }
    if kind == "aim":
        options["token_norm"] = any("bn.running_mean" in name for name in data if batch_norm is ("pool" in name))
    if kind == "jepa":
        options["projection"] = any("xattn.proj" in name for name in data)
        options["refines"] = "query" if "ep_repo" in path.stem else "tokens"
    spelled = "aim_v1" if kind == "aim" and not batch_norm else kind
    state = {
        ours(name, spelled): value
        for name, value in data.items()
        if name.startswith("param.") and not ours(name, spelled).startswith(UNUSED)
    }
    if kind == "coca":  # the released module learns more queries than it reads
        state["pool.img_queries"] = state["pool.img_queries"][:1]
    tokens, n_classes = data["input.tokens"], len(state["classifier.weight"])
    pool = pooling(kind, options, token_width=tokens.shape[2], n_tokens=tokens.shape[1])
    module = AttentiveModule(pool, n_classes, batch_norm=batch_norm).double()
    counts = {name: value + 10 for name, value in module.named_buffers() if name.endswith("n_batches")}
    bias = {"classifier.bias": torch.zeros(n_classes)}
    module.load_state_dict(bias | counts | state)
    return module.to(device), tokens.double().to(device), data, spelled


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", files_of("attentive"), ids=lambda path: path and path.stem)
def test_pooled_vectors_logits_and_gradients_equal_the_released_ones(path, device):
    modes = sorted({name.split(".")[1] for name in load_file(path) if re.match(r"output\.(eval|train)\.", name)})
    for mode in modes or ["eval"]:
        module, tokens, data, spelled = oracle(path, device)
        module.train(mode == "train")
        output, grad = ("output.", "grad.") if not modes else (f"output.{mode}.", f"grad.{mode}.")
        with full_precision():
            logits = module({"tokens": tokens})
            loss = functional.cross_entropy(logits, data["labels"].to(device))
            loss.backward()
        assert (logits.cpu() - data[f"{output}logits"]).abs().max() < 1e-6
        assert abs(loss.item() - data[f"{output}loss"].item()) < 1e-6
        if (pooled := data.get(f"{output}pooled")) is not None:
            assert (copy.deepcopy(module).pooled({"tokens": tokens})[0].cpu() - pooled.flatten(1)).abs().max() < 1e-6
        gradients = {name: p.grad.cpu() for name, p in module.named_parameters()}
        expected = {ours(name, spelled): value for name, value in data.items() if name.startswith(grad)}
        assert expected
        for name, value in expected.items():
            # Some are zero but for rounding: a shift of all scores moves no softmax.
            found, value = gradients[name], value.reshape(gradients[name].shape).double()
            assert (found - value).norm() <= 1e-6 * value.norm() + 1e-12, name
        if mode == "train":
            for name, value in data.items():
                if found := re.match(r"output\.train\.(pool_)?bn_running_(mean|var)_after", name):
                    norm = module.pool.bn if found.group(1) or spelled == "aim_v1" else module.bn
                    torch.testing.assert_close(getattr(norm, f"running_{found.group(2)}").cpu(), value)


@pytest.mark.parametrize("path", files_of("attentive"), ids=lambda path: path and path.stem)
def test_single_precision_stays_close_to_the_released_logits(path):
    module, tokens, data, _ = oracle(path, "cpu")
    logits = module.float().eval()({"tokens": tokens.float()})
    name = "output.logits" if "output.logits" in data else "output.eval.logits"
    torch.testing.assert_close(logits.double(), data[name].double(), atol=1e-5, rtol=0)


def contract_case():
    return {"epochs": 6, "learning_rates": (3e-2,), "weight_decays": (1e-3,), "batch_size": 32}


def number_case():
    return {**contract_case(), "options": {"n_queries": 1}, "epochs": 2}


def small(**parameters):
    """A head that trains in a moment."""
    defaults = {"epochs": 6, "learning_rates": (1e-2,), "weight_decays": (1e-3,), "batch_size": 32}
    return Attentive(**(defaults | parameters))


def needles(n, n_tokens=12, width=16, n_classes=4, seed=0):
    """One token among noise carries the class, in a place drawn for each row and behind a mark that noise lacks."""
    rng = np.random.default_rng(seed)
    codes, mark = np.eye(width)[:n_classes], np.eye(width)[-1]
    y = rng.integers(0, n_classes, n)
    tokens = rng.standard_normal((n, n_tokens, width))
    tokens[..., -1] = 0
    # Noise speaks of classes as loudly as the needle does.
    tokens += 4 * codes[rng.integers(0, n_classes, (n, n_tokens))]
    rows, places = np.arange(n), rng.integers(0, n_tokens, n)
    tokens[rows, places] = 0.3 * rng.standard_normal((n, width)) + 4 * codes[y] + 4 * mark
    return tokens.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted():
    X, y = needles(200)
    return small().fit(X, y), X, y


@pytest.mark.parametrize("device", DEVICES)
def test_a_needle_among_tokens_is_found_by_attention_and_not_by_the_mean(device):
    (X, y), (X_test, y_test) = needles(1500), needles(600, seed=1)
    linear = LinearProbe(Cs=[1.0]).fit(X.mean(1), y).score(X_test.mean(1), y_test)
    head = small(epochs=25, options={"n_queries": 4}, device=device).fit(X, y)
    assert linear < 0.5
    assert head.score(X_test, y_test) > 0.97


@pytest.mark.parametrize("kind", POOLINGS)
def test_every_kind_learns_what_its_mean_token_shows(kind):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = (rng.standard_normal((120, 5, 16)) + 2 * rng.standard_normal((3, 1, 16))[y]).astype(np.float32)
    head = small(kind=kind, epochs=10).fit(X[:90], y[:90])
    assert head.score(X[90:], y[90:]) >= 0.9
    maps = head.attention(X)
    assert maps.shape[::2] == (120, 5)
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("kind", ["ep", "aim", "jepa"])
def test_candidates_trained_together_end_where_each_ends_alone(kind):
    (X, y), validation = needles(120), needles(60, seed=1)
    grid = {"learning_rates": (1e-3, 1e-2), "weight_decays": (0.0, 0.3)}
    together = small(kind=kind, refit=False, epochs=3, **grid).fit(X, y, validation=validation)
    for candidate in together.selection_["searched"]:
        only = {"learning_rates": [candidate["learning_rate"]], "weight_decays": [candidate["weight_decay"]]}
        alone = small(kind=kind, refit=False, epochs=3, **only).fit(X, y, validation=validation)
        (found,) = alone.selection_["searched"]
        assert found == candidate
        if candidate.items() >= together.selection_["chosen"].items():
            np.testing.assert_allclose(together.logits(X), alone.logits(X), atol=2e-4)


def test_a_candidate_that_diverges_harms_no_other():
    (X, y), validation = needles(120), needles(60, seed=1)
    alone = small(refit=False).fit(X, y, validation=validation)
    both = small(refit=False, learning_rates=(1e-2, 1e30)).fit(X, y, validation=validation)
    assert both.selection_["searched"][1]["score"] == 0.0
    np.testing.assert_allclose(both.logits(X), alone.logits(X), atol=2e-4)


def test_training_is_adamw_with_warm_up_and_cosine():
    X, y = needles(60)
    head = small(epochs=3, batch_size=20, warmup_epochs=1, weight_decays=(2.0,), learning_rates=(3e-3,)).fit(X, y)
    torch.manual_seed(0)
    module = AttentiveModule(pooling("ep", {}, token_width=16, n_tokens=12), 4)
    matrices = [p for p in module.parameters() if p.ndim > 1]
    groups = [{"params": matrices, "weight_decay": 2.0}, {"params": [module.classifier.bias], "weight_decay": 0.0}]
    optimizer, random, t = torch.optim.AdamW(groups, lr=3e-3), np.random.default_rng(0), 0
    for _ in range(3):
        for rows in np.array_split(random.permutation(60), 3):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * ((t + 1) / 4 if t < 3 else 0.5 * (1 + np.cos(np.pi * (t - 3) / 6)))
            optimizer.zero_grad()
            loss = functional.cross_entropy(
                module({"tokens": torch.from_numpy(X[np.sort(rows)])}), torch.from_numpy(y[np.sort(rows)])
            )
            loss.backward()
            optimizer.step()
            t += 1
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(getattr(head, name.replace(".", "_") + "_"), value, atol=1e-5, err_msg=name)


def test_training_stops_where_no_candidate_does_better_and_the_refit_trains_for_the_best_epoch():
    X, y = needles(120, n_tokens=4)
    false = (y[80:] + 1) % 4  # the more is learnt, the worse these are predicted
    head = small(epochs=60, patience=2, learning_rates=(1e-2, 3e-2)).fit(X[:80], y[:80], validation=(X[80:], false))
    searched, chosen = head.selection_["searched"], head.selection_["chosen"]
    (best,) = (candidate for candidate in searched if candidate.items() >= chosen.items())
    assert max(candidate["epochs"] for candidate in searched) < 20
    assert head.n_epochs_ == best["epochs"]
    assert best["score"] == max(candidate["score"] for candidate in searched)
    before = head.before_refit()
    assert before.score(X[80:], false) == best["score"]
    assert not np.array_equal(before.logits(X), head.logits(X))


def test_without_validation_rows_a_tenth_of_the_training_rows_chooses():
    X, y = needles(60)
    head = small(learning_rates=(1e-3, 1e-2)).fit(X, y)
    assert head.selection_["on"] == "a tenth of the training rows"
    assert not hasattr(small().fit(X, y), "selection_")
    head = small(learning_rates=(1e-3, 1e-2, 1e-1)).fit(X[:2], [0, 1])
    assert head.selection_["on"] == "nothing, for want of rows"
    assert head.selection_["chosen"]["learning_rate"] == 1e-2


def test_rows_beside_those_of_the_fit_move_no_bit(fitted, tmp_path):
    head, X, y = fitted
    poisoned = np.concatenate([X, np.full_like(X[:5], np.nan)])
    np.save(tmp_path / "tokens.npy", poisoned)
    stored = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    assert np.array_equal(small().fit(stored[: len(X)], y).logits(X), head.logits(X))


def test_the_global_random_state_is_neither_read_nor_moved(fitted):
    head, X, y = fitted
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert np.array_equal(small().fit(X, y).logits(X), head.logits(X))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", POOLINGS)
def test_what_stands_under_the_mask_changes_neither_fit_nor_logits_nor_attention(kind):
    X, y = needles(60)
    mask = np.random.default_rng(0).random(X.shape[:2]) < 0.6
    mask[:, 0] = True
    given = {"tokens": X, "mask": mask}
    other = {"tokens": np.where(mask[..., None], X, 1e4).astype(np.float32), "mask": mask}
    head, again = small(kind=kind, epochs=2).fit(given, y), small(kind=kind, epochs=2).fit(other, y)
    assert np.array_equal(head.logits(given), again.logits(other))
    assert (head.attention(given).transpose(0, 2, 1)[~mask] == 0).all()
    assert not np.array_equal(head.logits(given), head.logits(X))


@pytest.mark.parametrize("kind", [kind for kind in POOLINGS if kind != "clip"])
def test_padding_to_more_tokens_moves_no_logit(kind, fitted):
    _, X, y = fitted
    head = small(kind=kind, epochs=2).fit(X, y)
    padded = {"tokens": np.pad(X, ((0, 0), (0, 7), (0, 0))), "mask": np.arange(19)[None] < np.full((len(X), 1), 12)}
    np.testing.assert_allclose(head.logits(padded), head.logits(X), atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in POOLINGS if kind != "clip"])
def test_rows_that_differ_in_length_are_fitted_as_padded_ones_with_their_mask(kind):
    X, y = needles(60)
    lengths = np.random.default_rng(0).integers(1, 13, size=60)
    mask = np.arange(12)[None] < lengths[:, None]
    ragged = RaggedRows(X[mask], np.append(0, np.cumsum(lengths)))
    order = np.random.default_rng(1).permutation(60)
    train, held = {}, {}
    for part, rows in ((train, order[:40]), (held, order[40:])):
        part["ragged"] = {"tokens": RowSubset(ragged, rows), "mask": RowSubset(RaggedMask(lengths), rows)}
        part["padded"] = {"tokens": X[rows], "mask": mask[rows]}
    fits = [
        small(kind=kind, epochs=2, learning_rates=(1e-3, 1e-2)).fit(
            train[how], y[order[:40]], validation=(held[how], y[order[40:]])
        )
        for how in ("ragged", "padded")
    ]
    np.testing.assert_allclose(fits[0].logits(held["ragged"]), fits[1].logits(held["padded"]), rtol=1e-3, atol=1e-4)


def test_prefix_tokens_are_left_out_unless_asked_for(fitted):
    _, X, y = fitted
    poisoned = X.copy()
    poisoned[:, :2] = 50
    head = small(n_prefix_tokens=2).fit(X, y)
    assert np.array_equal(head.logits(poisoned), head.logits(X))
    assert head.attention(X).shape == (200, 16, 10)
    assert small(n_prefix_tokens=2, prefix=True).fit(X, y).attention(X).shape == (200, 16, 12)


@pytest.mark.parametrize("kind", ["ep", "clip", "jepa"])
def test_one_token_and_constant_tokens_stay_finite(kind):
    X = np.zeros((6, 1, 4), np.float32)
    head = small(kind=kind).fit(X, [0, 0, 0, 0, 1, 2])
    assert np.isfinite(head.predict_proba(X)).all()


def test_half_precision_moves_logits_by_less_than_a_hundredth(fitted):
    head, X, _ = fitted
    assert np.abs(head.logits(X.astype(np.float16)) - head.logits(X)).max() < 1e-2


def test_a_saved_head_looks_where_the_fitted_one_does(fitted, tmp_path):
    head, X, _ = fitted
    head.save(tmp_path / "head.safetensors")
    assert np.array_equal(Head.load(tmp_path / "head.safetensors").attention(X), head.attention(X))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", POOLINGS)
def test_cuda_agrees_with_the_cpu(kind, fitted):
    _, X, y = fitted
    expected, found = (small(kind=kind, epochs=2, device=device).fit(X, y).logits(X) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.ptp(expected))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "mean"}, "kind is 'mean': choose one of ep, aim"),
        ({"options": {"heads": 3}}, "options has heads, which kind ep does not know: choose among n_queries, d_out"),
        (
            {"options": {"n_queries": 3}},
            "n_queries is 3 and does not divide a width of 16: set a divisor of it in opti",
        ),
        ({"epochs": 0}, "epochs is 0, expected a whole number from 1: change the parameters of the head"),
        ({"learning_rates": ()}, r"learning_rates is \(\), expected positive numbers"),
        (
            {"weight_decays": (-1.0,), "patience": 0},
            r"patience is 0, .*; weight_decays is \(-1.0,\), expected numbers fr",
        ),
        ({"n_prefix_tokens": 12}, "n_prefix_tokens is 12 and there are 12 tokens, of which at least one must be left"),
        (
            {"learning_rates": (1e30,)},
            r"training of Attentive diverged at learning rate 1e\+30: give smaller learning_ra",
        ),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters, message, fitted):
    _, X, y = fitted
    with pytest.raises(InputError, match=message):
        small(**parameters).fit(X, y)


def test_masks_that_fit_no_token_are_refused(fitted):
    head, X, y = fitted
    mask = np.ones(X.shape[:2], dtype=bool)
    mask[7] = False
    with pytest.raises(InputError, match="the mask of row 7 leaves no token to pool: leave that row out"):
        small().fit({"tokens": X, "mask": mask}, y)
    mask[7, 0] = True
    with pytest.raises(InputError, match="the mask of row 7 leaves no token to pool behind the 1 of the prefix"):
        small(n_prefix_tokens=1).fit({"tokens": X, "mask": mask}, y)
    with pytest.raises(
        InputError, match=r"mask has shape \(200, 11\) and dtype bool, expected booleans of shape \(200"
    ):
        head.logits({"tokens": X, "mask": mask[:, 1:]})
    with pytest.raises(InputError, match="and dtype float64, expected booleans of shape"):
        head.logits({"tokens": X, "mask": mask.astype(float)})
    with pytest.raises(
        InputError, match="a mask was given for some of the training and validation rows: give it for b"
    ):
        small().fit({"tokens": X, "mask": mask}, y, validation=(X, y))


def test_attention_that_is_not_a_number_is_refused_with_its_row(fitted):
    head, X, _ = fitted
    X = X.copy()
    X[3] = 3e38 * np.sign(X[3])
    for of in (head.attention, head.logits):
        with pytest.raises(
            InputError, match=r"row 3 has .* that are not finite, its tokens are so large that their produ"
        ):
            of(X)


def test_memory_that_does_not_suffice_is_told_before_training_with_what_would():
    X, y = np.zeros((20, 2, 512), np.float32), np.arange(20) % 2
    head = small(kind="jepa", learning_rates=np.geomspace(1e-5, 1e-1, 20_000), device="cpu")
    message = r"training 20000 candidates side by side on batches of 20 rows takes \d+.\d GB and cpu has .* GB free: "
    with pytest.raises(InputError, match=message + r"search at most \d+ of them \(learning_rates x weight_decays\)"):
        head.fit(X, y, validation=(X, y))


def test_memory_that_training_keeps_is_that_of_its_saved_tensors():
    from probe.heads.shared.training_memory import kept_bytes

    module = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Sigmoid(), torch.nn.Linear(20, 5))
    one, two = (kept_bytes(module, torch.zeros(n, 10)) for n in (1, 2))
    assert two - one == 4 * (10 + 20)


def test_yaml_lists_every_parameter_with_its_python_default():
    written = yaml.safe_load((ROOT / "conf" / "head" / "attentive.yaml").read_text())
    assert written.pop("_target_") == "probe.heads.attentive.Attentive"
    defaults = {name: p.default for name, p in inspect.signature(Attentive).parameters.items()}
    assert written == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}


def descended(head, X, y, n_steps):
    """A fitted probe after normalised gradient descent of its query alone; at each step the cosine with att_svm's."""
    pool = pooling("ep", {"n_queries": 1}, token_width=X.shape[2], n_tokens=X.shape[1])
    module = AttentiveModule(pool, len(head.classes_)).double().eval()
    module.load_state_dict(
        {n: torch.tensor(getattr(head, f"{n.replace('.', '_')}_")).double() for n in module.state_dict()}
    )
    query, solution = module.pool.cls_token, head.att_svm(X, y).query
    cosines = []
    for _ in range(n_steps):
        loss = functional.cross_entropy(module({"tokens": torch.from_numpy(X).double()}), torch.from_numpy(y))
        (gradient,) = torch.autograd.grad(loss, query)
        with torch.no_grad():
            query -= 0.5 * gradient / gradient.norm()
        found = query.detach().numpy().ravel()
        cosines.append(found @ solution / np.linalg.norm(found) / np.linalg.norm(solution))
    return module, np.array(cosines)


def test_the_query_of_a_probe_approaches_the_direction_of_the_attention_svm():
    X, y = needles(10, n_tokens=5, width=48, n_classes=2)
    head = small(options={"n_queries": 1}, epochs=2, batch_size=10).fit(X, y)
    found = head.att_svm(X, y)
    # Much further on, attention is 1 to the last bit and gradients are rounding.
    module, cosines = descended(head, X, y, 250)
    assert cosines[-1] > 0.99
    assert cosines[-1] > cosines[60] > cosines[10] > found.cosine
    A = module.pooled({"tokens": torch.from_numpy(X).double()})[1][:, 0].detach().numpy()
    assert (A.argmax(1) == found.tokens).all()
    assert A.max(1).min() > 0.99


def test_the_attention_svm_of_other_probes_and_other_labels_is_refused(fitted):
    head, X, y = fitted
    with pytest.raises(
        InputError, match="att_svm is about one query, this probe is ep with its usual options: fit kind"
    ):
        head.att_svm(X, y)
    one = small(options={"n_queries": 1}, epochs=1).fit(X, y)
    with pytest.raises(
        InputError, match="y holds 200 labels for 200 rows, or an unknown class: give one of its classes"
    ):
        one.att_svm(X, y + 9)
    with pytest.raises(InputError, match="no query sets the best token of every row apart from its others"):
        one.att_svm(X, y)


def test_several_labels_are_learnt_from_known_ones(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 4, 6)).astype(np.float32)
    truth = (X.mean(axis=1)[:, :3] > [-0.1, 0.1, 0.2]).astype(np.int64)
    y = np.where(rng.random(truth.shape) < 0.2, -1, truth)
    quick = {"epochs": 25, "patience": 25, "learning_rates": [0.01], "weight_decays": [0.001], "batch_size": 40}
    head = Attentive("ep", {"n_queries": 1}, **quick).for_target("labels").fit(X, y)
    assert (head.predict(X) == truth).mean() > 0.8
    other = np.where(y == -1, -1, 1 - truth)
    assert (type(head)("ep", {"n_queries": 1}, **quick).fit(X, other).predict(X) == truth).mean() < 0.3
    searched = Attentive(**quick | {"epochs": 2, "learning_rates": [0.001, 0.01]}).for_target("labels").fit(X, y)
    assert searched.selection_["on"] == "a tenth of the training rows"
    searched.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(type(head).load(tmp_path / "head.safetensors").logits(X), searched.logits(X))
