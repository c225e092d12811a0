"""The equations of the papers' released code in plain PyTorch, and reference files of any shape that follow from them.

Written from the equations alone, index by index, and apart from the heads that are tested against it.
"""

from itertools import pairwise

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def second_moments(groups, param):
    """Of groups, a list of (B, T, d): normalised, paired with the next, reduced by convolutions, flat."""
    normed = [layer_norm(x, param["ln.weight"], param["ln.bias"], 1e-5) for x in groups]
    centred = [x - x.mean(dim=(1, 2), keepdim=True) for x in normed]
    maps = []
    for left, right in pairwise(centred):
        C = torch.einsum("bti,btj->bij", left, right) / left.shape[1]
        maps.append(C / C.pow(2).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12))
    hidden = functional.conv2d(torch.stack(maps, dim=1), param["downblocks.0.0.weight"], stride=2)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return functional.conv2d(hidden, param["downblocks.0.2.weight"], stride=2).flatten(1)


def moment_probing_vit(param, data, n_groups):
    tokens = data["input.tokens_with_prefix"][:, 1:]
    projected = tokens @ param["proj.weight"].T + param["proj.bias"]
    d = projected.shape[2] // n_groups
    moments = second_moments([projected[:, :, h * d : (h + 1) * d] for h in range(n_groups)], param)
    first = data["input.cls"] @ param["classifier1.weight"].T + param["classifier1.bias"]
    return (first + moments @ param["classifier2.weight"].T + param["classifier2.bias"]) / 2


def moment_probing_cnn(param, data, n_groups):
    feature_map = data["input.feature_map"]
    projected = functional.conv2d(feature_map, param["proj.weight"], param["proj.bias"]).flatten(2).transpose(1, 2)
    moments = second_moments([projected[:, :, h::n_groups] for h in range(n_groups)], param)
    pooled = feature_map.mean(dim=(2, 3))
    pooled = layer_norm(pooled, param["cls_head.norm.weight"], param["cls_head.norm.bias"], 1e-6)
    first = pooled @ param["cls_head.fc.weight"].T + param["cls_head.fc.bias"]
    return (first + moments @ param["classifier2.weight"].T + param["classifier2.bias"]) / 2


def write_moment_probing(path, layout, *, n_rows, n_positions, width, n_classes, hidden, n_groups, seed):
    """`n_positions`: tokens behind the prefix of `vit`, or height and width of the map of `cnn`."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return torch.randn(*shape, generator=random) * scale

    d = hidden // n_groups
    side = ((d - 3) // 2 + 1 - 3) // 2 + 1
    pairs = n_groups - 1
    param = {
        "proj.weight": draw(hidden, width, scale=width**-0.5),
        "proj.bias": draw(hidden, scale=0.1),
        "ln.weight": 1 + draw(d, scale=0.2),
        "ln.bias": draw(d, scale=0.2),
        "downblocks.0.0.weight": draw(pairs, pairs, 3, 3, scale=0.4),
        "downblocks.0.2.weight": draw(pairs, pairs, 3, 3, scale=0.4),
        "classifier2.weight": draw(n_classes, pairs * side**2, scale=0.2),
        "classifier2.bias": draw(n_classes, scale=0.2),
    }
    if layout == "vit":
        data = {"input.cls": draw(n_rows, width), "input.tokens_with_prefix": draw(n_rows, 1 + n_positions, width)}
        param |= {"classifier1.weight": draw(n_classes, width, scale=0.2), "classifier1.bias": draw(n_classes)}
    else:
        data = {"input.feature_map": draw(n_rows, width, *n_positions)}
        param["proj.weight"] = param["proj.weight"][:, :, None, None]
        param |= {"cls_head.norm.weight": 1 + draw(width, scale=0.2), "cls_head.norm.bias": draw(width, scale=0.2)}
        param |= {"cls_head.fc.weight": draw(n_classes, width, scale=0.2), "cls_head.fc.bias": draw(n_classes)}
    labels = torch.randint(n_classes, (n_rows,), generator=random)
    for value in param.values():
        value.requires_grad_()
    logits = (moment_probing_vit if layout == "vit" else moment_probing_cnn)(param, data, n_groups)
    loss = (logits.logsumexp(1) - logits[torch.arange(n_rows), labels]).mean()
    loss.backward()
    data |= {"labels": labels, "output.logits": logits, "output.loss": loss.reshape(1)}
    data |= {f"param.{name}": value for name, value in param.items()}
    data |= {f"grad.{name}": value.grad for name, value in param.items()}
    save_file({name: value.detach().contiguous() for name, value in data.items()}, path)


def write_dual_head_kd(path, *, n_rows, width, hidden, n_classes, gamma, alpha, temperature, conflict):
    """The first seed whose two gradients conflict on the trunk, or do not."""
    for seed in range(1000):
        random = torch.Generator().manual_seed(seed)
        shapes = {"trunk": (hidden, width), "main": (n_classes, hidden), "aux": (n_classes, hidden)}
        param = {}
        for name, (rows, columns) in shapes.items():
            param[f"{name}.weight"] = torch.randn(rows, columns, generator=random) * columns**-0.5
            param[f"{name}.bias"] = torch.randn(rows, generator=random) * 0.1
        x = torch.randn(n_rows, width, generator=random)
        teacher = torch.randn(n_rows, n_classes, generator=random) * 3
        labels = torch.randint(n_classes, (n_rows,), generator=random)
        for value in param.values():
            value.requires_grad_()
        h = (x @ param["trunk.weight"].T + param["trunk.bias"]).clamp(min=0)
        main, aux = (h @ param[f"{head}.weight"].T + param[f"{head}.bias"] for head in ("main", "aux"))
        ce = (main.logsumexp(1) - main[torch.arange(n_rows), labels]).mean()
        q = torch.sigmoid((aux - teacher) / temperature).clamp(1e-8, 1 - 1e-8)
        kl = temperature**2 * (0.5 * (0.5 / q).log() + 0.5 * (0.5 / (1 - q)).log()).sum(1).mean()
        values = list(param.values())
        of_ce, of_kl = (
            torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True, materialize_grads=True)
            for loss in (ce, kl)
        )
        trunk_dot = sum((a * b).sum() for a, b in zip(of_ce[:2], of_kl[:2], strict=True))
        if (trunk_dot < 0) == conflict:
            break
    flat_ce = gamma * torch.cat([g.flatten() for g in of_ce])
    flat_kl = alpha * torch.cat([g.flatten() for g in of_kl])
    aligned = flat_ce + flat_kl - min(0.0, float(flat_kl @ flat_ce)) / float(flat_ce @ flat_ce) * flat_ce
    data = {
        "input.features": x, "input.labels": labels, "input.teacher_logits": teacher,
        "hyper.gamma_alpha_T": torch.tensor([gamma, alpha, temperature]),
        "output.main_logits": main, "output.aux_logits": aux, "output.ce": ce.reshape(1),
        "output.binary_kl_norm": kl.reshape(1), "output.trunk_dot": trunk_dot.reshape(1),
    }  # fmt: skip
    parts = aligned.split([value.numel() for value in values])
    for i, (name, value) in enumerate(param.items()):
        data[f"param.{name}"] = value
        data[f"grad_sum.{name}"] = gamma * of_ce[i] + alpha * of_kl[i]
        data[f"grad_aligned.{name}"] = parts[i].view_as(value)
    save_file({name: value.detach().contiguous() for name, value in data.items()}, path)


def write_naive_bayes(path, *, batch_sizes, width, n_classes, n_test, seed):
    """Every batch holds rows of every class, as the released code needs."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_classes, width)) * 2
    spread = random.uniform(0.3, 3, size=(n_classes, width))

    def draw(n):
        y = random.permutation(np.concatenate([np.arange(n_classes).repeat(2), random.integers(0, n_classes, n)]))
        return centres[y] + spread[y] * random.normal(size=(len(y), width)), y

    batches, data = [draw(n) for n in batch_sizes], {}
    for b, (x, y) in enumerate(batches):
        data |= {f"input.batch{b}.x": x, f"input.batch{b}.y": y}
        seen, labels = (np.concatenate(part) for part in zip(*batches[: b + 1], strict=True))
        means = np.array([seen[labels == k].mean(0) for k in range(n_classes)])
        variances = np.array([((seen[labels == k] - means[k]) ** 2).mean(0) + 1e-9 for k in range(n_classes)])
        prior = np.array([(labels == k).mean() for k in range(n_classes)])
        after = {"means": means, "class_vars": variances, "prior": prior}
        data |= {f"output.after_batch{b}.{name}": value for name, value in after.items()}
    x, y = draw(n_test)
    pooled = prior @ variances
    joint = np.log(prior) - 0.5 * ((x[:, None] - means) ** 2 / pooled).sum(axis=2)
    data |= {"test.x": x, "test.y": y, "output.test.predictions": joint.argmax(1)}
    data["output.test.joint_log_likelihood_up_to_shared_constant"] = joint
    save_file({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in data.items()}, path)


def write_knn(path, *, n_train, n_test, width, n_classes, ks, temperatures, seed):
    """Votes of two released codes, in double precision: weights exp(s / T), or a softmax over the largest k."""
    random = np.random.default_rng(seed)

    def draw(n):
        X = random.normal(size=(n, width))
        return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)

    X, queries, y = draw(n_train), draw(n_test), random.integers(0, n_classes, n_train)
    cosines = queries.astype(np.float64) @ X.astype(np.float64).T
    order = np.argsort(-cosines, axis=1)
    ranked = np.take_along_axis(cosines, order, axis=1)
    data = {"input.train_features": X, "input.train_labels": y, "input.test_features": queries}
    for k in ks:
        data[f"ref64.gap_at_k.k{k}"] = ranked[:, k - 1] - ranked[:, k]
        for T in temperatures:
            w = np.exp(ranked[:, : max(ks)] / T)
            votes = np.array([[w[i, :k][y[order[i, :k]] == c].sum() for c in range(n_classes)] for i in range(n_test)])
            best = np.sort(votes, axis=1)
            data[f"output.dino.votes.k{k}.T{T}"] = votes
            data[f"output.dino.pred.k{k}.T{T}"] = votes.argmax(axis=1)
            data[f"output.dinov3.votes.k{k}.T{T}"] = votes / w.sum(axis=1, keepdims=True)
            data[f"ref64.rel_gap_top2.k{k}.T{T}"] = (best[:, -1] - best[:, -2]) / best[:, -1]
    save_file({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in data.items()}, path)


def write_all(folder):
    """Files of each form, of shapes that the shipped ones do not have."""
    vit = {"n_rows": 9, "n_positions": 17, "width": 20, "n_classes": 4}
    cnn = {"n_rows": 3, "n_positions": (5, 3), "width": 24, "n_classes": 11}
    write_moment_probing(folder / "a.safetensors", "vit", hidden=512, n_groups=4, seed=0, **vit)
    write_moment_probing(folder / "b.safetensors", "vit", hidden=63, n_groups=3, seed=1, **vit | {"n_positions": 1})
    write_moment_probing(folder / "c.safetensors", "vit", hidden=96, n_groups=8, seed=2, **vit | {"n_classes": 2})
    write_moment_probing(folder / "d.safetensors", "cnn", hidden=512, n_groups=4, seed=3, **cnn)
    write_moment_probing(folder / "e.safetensors", "cnn", hidden=34, n_groups=2, seed=4, **cnn | {"n_rows": 1})
    dual = {"n_rows": 31, "width": 7, "hidden": 19, "n_classes": 4}
    for name, changes in {
        "f": {"gamma": 1.0, "alpha": 0.1, "temperature": 2.0, "conflict": False},
        "g": {"gamma": 0.5, "alpha": 3.0, "temperature": 1.0, "conflict": True, "n_rows": 5, "n_classes": 2},
        "h": {"gamma": 2.0, "alpha": 1.0, "temperature": 4.0, "conflict": True, "n_rows": 3, "hidden": 4},
    }.items():
        write_dual_head_kd(folder / f"{name}.safetensors", **dual | changes)
    write_naive_bayes(folder / "i.safetensors", batch_sizes=(5, 300), width=40, n_classes=3, n_test=50, seed=0)
    write_naive_bayes(folder / "j.safetensors", batch_sizes=(9, 1, 20, 4), width=2, n_classes=7, n_test=99, seed=1)
    knn = {"n_train": 50, "n_test": 20, "width": 9, "n_classes": 4, "ks": (1, 7), "temperatures": (0.1,)}
    write_knn(folder / "k.safetensors", seed=0, **knn)
    write_knn(folder / "l.safetensors", seed=1, **knn | {"n_classes": 2, "ks": (1, 3, 40), "width": 30})
