import inspect
import pickle

import numpy as np
import pytest
import torch
import yaml
from oracles import assert_relative, files_of
from places import ROOT
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.nn import functional

from probe.core.errors import InputError
from probe.heads.dual_head_kd import ARMS, DualHeadKD
from probe.heads.shared.distillation import TwoHeads, align, binary_kl_norm, dual_backward, softmax_kd
from probe.heads.shared.head import Head

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def oracle(path, device):
    """Module with the reference weights (its trunk is Linear, ReLU), and both losses, weighted."""
    data = {name: value.to(device) for name, value in load_file(path).items()}
    gamma, alpha, temperature = data["hyper.gamma_alpha_T"].tolist()
    layers = {name: nn.Linear(*data[f"param.{name}.weight"].T.shape) for name in ("trunk", "main", "aux")}
    for name, layer in layers.items():
        layer.load_state_dict({part: data[f"param.{name}.{part}"] for part in ("weight", "bias")})
    module = TwoHeads(nn.Sequential(layers["trunk"], nn.ReLU()), layers["main"], layers["aux"]).to(device)
    main, auxiliary = module.both({"pooled": data["input.features"]})
    ce = functional.cross_entropy(main, data["input.labels"])
    kl = binary_kl_norm(auxiliary, data["input.teacher_logits"], temperature)
    return data, module, (main, auxiliary), (ce, kl), (gamma, alpha)


def assert_gradients(module, data, prefix, relative):
    layers = {"trunk": module.trunk[0], "main": module.main, "aux": module.auxiliary}
    for name, layer in layers.items():
        for part in ("weight", "bias"):
            reference = f"{prefix}.{name}.{part}"
            assert_relative(getattr(layer, part).grad, data[reference], relative, reference)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", files_of("dual_head_kd"), ids=lambda path: path and path.stem)
def test_logits_losses_and_gradients_equal_the_released_ones(path, device):
    data, module, (main, auxiliary), (ce, kl), (gamma, alpha) = oracle(path, device)
    absolute, relative = (1e-5, 1e-5) if device == "cpu" else (1e-4, 1e-4)
    torch.testing.assert_close(main, data["output.main_logits"], atol=absolute, rtol=0)
    torch.testing.assert_close(auxiliary, data["output.aux_logits"], atol=absolute, rtol=0)
    torch.testing.assert_close(ce, data["output.ce"].reshape(()), atol=absolute, rtol=0)
    # A sum over classes, of any size.
    torch.testing.assert_close(kl, data["output.binary_kl_norm"].reshape(()), atol=absolute, rtol=relative / 10)
    dual_backward(module, gamma * ce, alpha * kl, "none")
    assert_gradients(module, data, "grad_sum", relative)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", files_of("dual_head_kd"), ids=lambda path: path and path.stem)
def test_released_alignment_equals_the_released_gradients(path, device):
    data, module, _, (ce, kl), (gamma, alpha) = oracle(path, device)
    dual_backward(module, gamma * ce, alpha * kl, "released")
    assert_gradients(module, data, "grad_aligned", 1e-5 if device == "cpu" else 1e-4)


@pytest.mark.parametrize("path", files_of("dual_head_kd"), ids=lambda path: path and path.stem)
def test_shared_alignment_leaves_no_conflict_on_the_trunk(path):
    data, module, _, (ce, kl), (gamma, alpha) = oracle(path, "cpu")
    trunk = list(module.trunk.parameters())
    g_ce = torch.autograd.grad(gamma * ce, trunk, retain_graph=True)
    g_aux = torch.autograd.grad(alpha * kl, trunk, retain_graph=True)
    dot = sum((a * b).sum() for a, b in zip(g_ce, g_aux, strict=True))
    lengths = [torch.cat([g.flatten() for g in gradients]).norm() for gradients in (g_ce, g_aux)]
    rounding = 1e-6 * float(lengths[0] * lengths[1])
    expected = gamma * alpha * data["output.trunk_dot"].reshape(())
    torch.testing.assert_close(dot, expected, atol=10 * rounding, rtol=0)
    dual_backward(module, gamma * ce, alpha * kl, "shared")
    after = sum((a * (p.grad - a)).sum() for a, p in zip(g_ce, trunk, strict=True))
    torch.testing.assert_close(after, dot.clamp(min=0), atol=rounding + 1e-6 * float(lengths[0]) ** 2, rtol=0)
    # The heads themselves keep the gradients of the plain sum.
    aligned = [p.grad for p in (*module.main.parameters(), *module.auxiliary.parameters())]
    expected = [data[f"grad_sum.{head}.{part}"] for head in ("main", "aux") for part in ("weight", "bias")]
    for ours, plain in zip(aligned, expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-7, rtol=1e-5)


def pair(shape=(40, 7), scale=6.0, seed=0):
    torch.manual_seed(seed)
    return scale * torch.randn(shape, dtype=torch.float64), scale * torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 7.0])
def test_binary_kl_norm_is_the_divergence_it_is_named_after(temperature):
    student, teacher = pair()
    difference = (student - teacher) / temperature
    divergence = 0.5 * torch.log(0.5 / difference.sigmoid()) + 0.5 * torch.log(0.5 / (-difference).sigmoid())
    expected = temperature**2 * divergence.sum(dim=1).mean()
    torch.testing.assert_close(binary_kl_norm(student, teacher, temperature), expected)
    log_cosh = torch.log(torch.cosh((student - teacher) / (2 * temperature)))
    torch.testing.assert_close(expected, temperature**2 * log_cosh.sum(dim=1).mean())


@pytest.mark.parametrize("temperature", [0.5, 2.0, 7.0])
def test_gradient_of_binary_kl_norm_is_half_t_tanh(temperature):
    student, teacher = pair()
    student.requires_grad_()
    binary_kl_norm(student, teacher, temperature).backward()
    expected = temperature / 2 * torch.tanh((student - teacher) / (2 * temperature)) / len(student)
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binary_kl_norm_of_equal_logits_is_zero_with_zero_gradient(dtype):
    student = pair()[0].to(dtype).requires_grad_()
    loss = binary_kl_norm(student, student.detach(), 2.0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() == 0


def contract_case():
    """All arms but `ce` want a teacher's logits."""
    return {"arm": "ce", "trunk_depth": 0, "epochs": (20,), "learning_rates": (0.05,)}


def test_binary_kl_norm_is_symmetric_small_differences_squared_large_ones_linear():
    student, teacher = pair()
    torch.testing.assert_close(binary_kl_norm(student, teacher, 2.0), binary_kl_norm(teacher, student, 2.0))
    step = torch.full((1, 1), 1e-2, dtype=torch.float64)
    for temperature in (1.0, 4.0):
        assert binary_kl_norm(step, 0 * step, temperature).item() == pytest.approx(1e-4 / 8, rel=1e-4)
    assert binary_kl_norm(1e6 * step, 0 * step, 2.0).item() == pytest.approx(1e4, rel=1e-3)
    assert np.isfinite(binary_kl_norm(1e32 * step.float(), 0 * step.float(), 2.0).item())


def test_only_softmax_distillation_forgets_a_shift_of_the_teacher():
    student, teacher = pair()
    torch.testing.assert_close(softmax_kd(student, teacher + 3, 4.0), softmax_kd(student, teacher, 4.0))
    assert (binary_kl_norm(student, teacher + 3, 2.0) - binary_kl_norm(student, teacher, 2.0)).abs() > 0.1


def test_softmax_distillation_equals_numpy():
    student, teacher = pair()
    p, q = (torch.softmax(x / 4, dim=1).numpy() for x in (student, teacher))
    assert softmax_kd(student, teacher, 4.0).item() == pytest.approx(16 * (q * np.log(q / p)).sum(axis=1).mean())


def test_gradients_that_agree_are_summed_as_they_are():
    a, b = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]
    for mode in ("none", "released", "shared"):
        assert torch.equal(align(a, b, [True], mode)[0], a[0] + b[0])
    c = [torch.tensor([-3.0, -1.0])]
    assert torch.equal(align(a, c, [True], "shared")[0], a[0] + c[0] + a[0])


def digits_like(n=300, width=20, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((n_classes, width))
    y = rng.integers(0, n_classes, n)
    X = (centres[y] + 1.2 * rng.standard_normal((n, width))).astype(np.float32)
    return X, y, (3 * np.eye(n_classes)[y] + rng.standard_normal((n, n_classes))).astype(np.float32)


def small(**parameters):
    return DualHeadKD(**({"epochs": (4,), "learning_rates": (3e-3,), "trunk_width": 16} | parameters))


@pytest.mark.parametrize("auxiliary", ["linear", "mlp"])
@pytest.mark.parametrize("alignment", ["none", "released", "shared"])
def test_alpha_zero_is_plain_cross_entropy_to_the_bit(auxiliary, alignment):
    X, y, teacher = digits_like()
    plain = small(arm="ce", trunk_depth=2).fit(X, y)
    dual = small(arm="dual", trunk_depth=2, alpha=0.0, auxiliary=auxiliary, alignment=alignment)
    dual.fit(X, y, teacher_logits=teacher)
    assert np.array_equal(dual.logits(X), plain.logits(X))
    for arm in ("kd", "single"):
        fitted = small(arm=arm, trunk_depth=2, alpha=0.0).fit(X, y, teacher_logits=teacher)
        assert np.array_equal(fitted.logits(X), plain.logits(X))


@pytest.mark.parametrize("alignment", ["none", "released", "shared"])
@pytest.mark.parametrize("auxiliary", ["linear", "mlp"])
def test_without_a_trunk_dual_is_plain_cross_entropy_to_the_bit(auxiliary, alignment):
    X, y, teacher = digits_like()
    plain = small(arm="ce", trunk_depth=0).fit(X, y)
    dual = small(trunk_depth=0, auxiliary=auxiliary, alignment=alignment).fit(X, y, teacher_logits=teacher)
    assert np.array_equal(dual.main_weight_, plain.main_weight_)
    assert np.array_equal(dual.logits(X), plain.logits(X))


def test_arms_start_from_the_same_weights_and_end_at_others():
    X, y, teacher = digits_like()
    logits = {}
    for arm in ARMS:
        still = small(arm=arm, learning_rates=(1e-30,)).fit(X, y, teacher_logits=teacher)
        logits.setdefault("start", still.logits(X))
        assert np.array_equal(still.logits(X), logits["start"])
        logits[arm] = small(arm=arm).fit(X, y, teacher_logits=teacher).logits(X)
    assert len({value.tobytes() for value in logits.values()}) == 5


@pytest.mark.parametrize("alignment", ["none", "released", "shared"])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_descends_the_loss_it_is_named_after(arm, alignment):
    X, y, teacher = digits_like(40)
    weights = {"gamma": 1.3, "alpha": 2.5, "temperature": 1.5, "kd_temperature": 3.0}
    head = small(arm=arm, alignment=alignment, trunk_depth=2, **weights)
    head._check_fit(X, y)
    head.teacher_mean_, head.teacher_deviation_ = head._teacher_scale(teacher)
    torch.manual_seed(0)
    module = head._module().double()
    batch = {"pooled": torch.from_numpy(X).double(), "codes": torch.from_numpy(y)}
    batch["teacher"] = torch.from_numpy(teacher).double()
    loss = head._backward(module, batch)
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    hidden = module.trunk(batch["pooled"])
    main = module.main(hidden)
    p, q = (torch.softmax(z / 3.0, dim=1) for z in (main, batch["teacher"]))
    student = module.auxiliary(hidden) if arm == "dual" else main
    terms = {
        "ce": 0 * main.sum(),
        "kd": 9 * (q * (q / p).log()).sum(1).mean(),
        "single": 1.5**2 * torch.cosh((student - batch["teacher"]) / 3.0).log().sum(1).mean(),
    }
    ce = -1.3 * main.log_softmax(1)[torch.arange(40), batch["codes"]].mean()
    distilled = 2.5 * terms["single" if arm == "dual" else arm]
    torch.testing.assert_close(loss, ce + distilled)
    dual_backward(module, ce, distilled, alignment if arm == "dual" else "none")
    for ours, parameter in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


@pytest.mark.parametrize("arm", ["kd", "single", "dual"])
def test_standardised_logits_teach_whatever_their_scale(arm, tmp_path):
    X, y, teacher = digits_like()
    standard = (teacher - teacher.mean()) / teacher.std()
    expected = small(arm=arm).fit(X, y, teacher_logits=standard)
    head = small(arm=arm, teacher_scaling="standard").fit(X, y, teacher_logits=100 * teacher - 7)
    np.testing.assert_allclose(head.logits(X), expected.logits(X), atol=1e-4)
    assert np.abs(small(arm=arm).fit(X, y, teacher_logits=100 * teacher - 7).logits(X) - head.logits(X)).max() > 1e-3
    flat = small(arm=arm, teacher_scaling="standard").fit(X, y, teacher_logits=np.full_like(teacher, 3.0))
    assert np.isfinite(flat.logits(X)).all()


def layers(sequence):
    return [type(layer).__name__ for layer in sequence]


def test_trunk_heads_and_defaults_are_those_of_the_issue_and_the_paper():
    head = DualHeadKD(trunk_depth=2, trunk_width=16, auxiliary="mlp")
    head._check_fit(*digits_like(20)[:2])
    module = head._module()
    assert layers(module.trunk) == ["LayerNorm", "Linear", "GELU"] * 2
    assert isinstance(module.main, nn.Linear)
    assert layers(module.auxiliary) == ["Linear", "Dropout", "BatchNorm1d", "ReLU", "Linear"]
    assert (module.auxiliary[0].out_features, module.auxiliary[1].p) == (200, 0.1)
    defaults = DualHeadKD().get_params()
    assert {name: defaults[name] for name in ("gamma", "temperature", "kd_temperature", "alignment", "arm")} == {
        "gamma": 1.0,
        "temperature": 2.0,
        "kd_temperature": 4.0,
        "alignment": "none",
        "arm": "dual",
    }
    assert defaults["teacher_folds"] is not None


def test_a_poisoned_auxiliary_head_changes_no_prediction():
    X, y, teacher = digits_like()
    head = small(auxiliary="mlp").fit(X, y, teacher_logits=teacher)
    expected = head.predict_proba(X)
    poisoned = [name for name in vars(head) if name.startswith("auxiliary_") and name.endswith("_")]
    assert len(poisoned) >= 6
    for name in poisoned:
        setattr(head, name, np.full_like(getattr(head, name), np.nan if "tracked" not in name else 0))
    assert np.array_equal(head.predict_proba(X), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns(arm, device):
    X, y, teacher = digits_like(600)
    test, y_test, _ = digits_like(400, seed=1)
    head = DualHeadKD(arm=arm, epochs=(15,), learning_rates=(3e-3,), device=device).fit(X, y, teacher_logits=teacher)
    assert head.score(test, y_test) > 0.9
    assert np.isfinite(head.logits(test)).all()


@pytest.mark.parametrize("arm", ARMS)
def test_accuracy_is_that_of_bayes_on_gaussians_of_shared_covariance(arm):
    centres = np.random.default_rng(0).standard_normal((3, 10)) * 0.6
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 3000)
    X = centres[y] + rng.standard_normal((3000, 10))
    posterior = X @ centres.T - 0.5 * np.square(centres).sum(axis=1)
    train, test = slice(2000), slice(2000, 3000)
    bayes = np.mean(posterior[test].argmax(axis=1) == y[test])
    head = small(arm=arm, trunk_depth=0, epochs=(20,), learning_rates=(1e-2,))
    head.fit(X[train], y[train], teacher_logits=posterior[train])
    assert 0.6 < bayes < 0.9
    assert head.score(X[test], y[test]) >= bayes - 3 * np.sqrt(bayes * (1 - bayes) / 1000)


def test_accuracy_misses_bayes_without_a_trunk_where_the_boundary_is_curved():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1500)
    X = rng.standard_normal((1500, 10)) * np.where(y == 1, 2, 1)[:, None]
    squares = np.square(X[1000:]).sum(axis=1)
    bayes = np.mean((squares > 10 * np.log(4) / (1 - 1 / 4)) == y[1000:])
    head = small(arm="ce", trunk_depth=0, learning_rates=(1e-2,)).fit(X[:1000], y[:1000])
    assert bayes > 0.9
    assert head.score(X[1000:], y[1000:]) < 0.65


def test_selection_and_refit_carry_the_teacher_along():
    X, y, teacher = digits_like(200)
    rows, others = slice(0, 150), slice(150, 200)
    head = small(learning_rates=(1e-7, 1e-2))
    head.fit(X[rows], y[rows], validation=(X[others], y[others]), teacher_logits=teacher)
    assert head.selection_["chosen"] == {"epochs": 4, "learning_rate": 1e-2}
    alone = small(learning_rates=(1e-2,)).fit(X, y, teacher_logits=teacher)
    assert np.array_equal(head.logits(X), alone.logits(X))
    kept = small(learning_rates=(1e-7, 1e-2), refit=False)
    kept.fit(X[rows], y[rows], validation=(X[others], y[others]), teacher_logits=teacher[rows])
    alone = small(learning_rates=(1e-2,)).fit(X[rows], y[rows], teacher_logits=teacher[rows])
    assert np.array_equal(kept.logits(X), alone.logits(X))


def test_validation_rows_of_a_class_without_training_rows_count_as_wrong():
    X, y, _ = digits_like(200)
    few = y < 3
    head = small(arm="ce", learning_rates=(1e-3, 1e-2)).fit(X[few], y[few], validation=(X, y))
    assert set(head.predict(X)) <= {0, 1, 2}
    assert max(tried["score"] for tried in head.selection_["searched"]) <= np.mean(few)


def test_memmaps_train_to_the_same_bits_as_arrays(tmp_path):
    X, y, teacher = digits_like()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "teacher.npy", teacher)
    mapped, teacher_mapped = (np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "teacher.npy"))
    head = small().fit(mapped, y, teacher_logits=teacher_mapped)
    assert np.array_equal(head.logits(mapped), small().fit(X, y, teacher_logits=teacher).logits(X))


def test_saved_pickled_and_cloned_heads_predict_the_same(tmp_path):
    X, y, teacher = digits_like()
    names = np.array(["ant", "bee", "cat", "dog", "eel"])[y]
    head = small(auxiliary="mlp").fit(X, names, teacher_logits=teacher)
    head.save(tmp_path / "head.safetensors")
    refitted = clone(head).fit(X, names, teacher_logits=teacher)
    for copy in (Head.load(tmp_path / "head.safetensors"), pickle.loads(pickle.dumps(head)), refitted):
        assert np.array_equal(copy.logits(X), head.logits(X))
        assert np.array_equal(copy.predict(X), head.predict(X))


def test_scikit_learn_estimator_checks():
    # Arm `ce`: the only one that fits without a teacher. No trunk: some checks give two features, of which a
    # LayerNorm keeps nothing but the order.
    head = DualHeadKD(arm="ce", trunk_depth=0, epochs=(20,), learning_rates=(0.03,), batch_size=16)
    check_estimator(head, on_skip=None)


def test_pipelines_cross_validation_and_grid_search_take_teacher_logits():
    X, y, teacher = digits_like()
    head = small(learning_rates=(0.03,))
    assert cross_val_score(head, X, y, cv=3, params={"teacher_logits": teacher}).min() > 0.8
    pipeline = make_pipeline(StandardScaler(), head)
    pipeline.fit(X, y, dualheadkd__teacher_logits=teacher)
    assert pipeline.score(X, y) > 0.8
    search = GridSearchCV(small(), {"alpha": [0.0, 1.0]}, cv=2).fit(X, y, teacher_logits=teacher)
    assert set(search.best_params_) == {"alpha"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"arm": "triple"}, r"arm is 'triple', expected one of \['ce', 'kd', 'single', 'dual'\]"),
        ({"auxiliary": "deep", "alignment": "pcgrad"}, "auxiliary is 'deep', .*; alignment is 'pcgrad', expected"),
        ({"teacher_scaling": "minmax"}, r"teacher_scaling is 'minmax', expected one of \['none', 'standard'\]"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a positive number"),
        ({"alpha": -1.0}, "alpha is -1.0, expected a number from 0"),
        ({"auxiliary": "mlp", "batch_size": 2}, "batch_size is 2, and the BatchNorm of head.auxiliary=mlp needs 3"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters, message):
    X, y, teacher = digits_like(30)
    with pytest.raises(InputError, match=message):
        small(**parameters).fit(X, y, teacher_logits=teacher)


@pytest.mark.parametrize("arm", ["kd", "single", "dual"])
def test_teacher_logits_that_are_missing_not_finite_or_of_other_rows_or_classes_are_refused(arm):
    X, y, teacher = digits_like(50)
    head = small(arm=arm)
    with pytest.raises(
        InputError, match=rf"arm={arm} learns from a teacher and no teacher logits .* choose head.arm=ce"
    ):
        head.fit(X, y)
    with pytest.raises(InputError, match=r"teacher logits have shape \(49, 5\), expected \(50, 5\) for 50 training"):
        head.fit(X, y, teacher_logits=teacher[1:])
    with pytest.raises(InputError, match=r"teacher logits have shape \(50, 4\), expected \(50, 5\) .* and 5 classes"):
        head.fit(X, y, teacher_logits=teacher[:, 1:])
    with pytest.raises(InputError, match="10 validation rows and 5 classes"):
        head.fit(X, y, validation=(X[:10], y[:10]), teacher_logits=teacher)
    teacher[[3, 4], 0] = np.nan, np.inf
    with pytest.raises(InputError, match="teacher logits of 2 rows hold NaN or infinity"):
        head.fit(X, y, teacher_logits=teacher)


def test_constant_features_and_single_row_classes_stay_finite():
    X, y = np.ones((7, 4), np.float32), [0, 0, 0, 0, 1, 2, 2]
    for auxiliary in ("linear", "mlp"):
        head = small(auxiliary=auxiliary, batch_size=3).fit(X, y, teacher_logits=np.zeros((7, 3)))
        assert np.isfinite(head.predict_proba(X)).all()


def test_yaml_lists_every_parameter_with_its_python_default():
    written = yaml.safe_load((ROOT / "conf" / "head" / "dual_head_kd.yaml").read_text())
    assert written.pop("_target_") == "probe.heads.dual_head_kd.DualHeadKD"
    defaults = {name: p.default for name, p in inspect.signature(DualHeadKD).parameters.items()}
    assert written == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}
