"""Heads and extraction on CUDA give what they give on the CPU.

`pytest -m gpu` runs these tests on a GPU; the others run on a pretended one, which shows a forgotten copy but no
kernel.
"""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_gpu import NOT_YET, pretended_gpu
from sklearn.datasets import load_digits
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from torchvision.transforms import Compose, Normalize, ToTensor

from probe.backbones.shared.pixels import Normalisation
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core import device as gpu
from probe.core.arrays import RowSubset
from probe.core.device import resolve_device
from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.attentive import Attentive
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.fixed_moments import FixedMoments
from probe.heads.knn import KNearest
from probe.heads.lda import LinearDiscriminant
from probe.heads.linalg import eigen
from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.moment_probing import MomentProbing
from probe.heads.naive_bayes import NaiveBayes
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.shared.one_vs_rest import OneVsRestLinear
from probe.protocols.full import Full

DEVICES = ["pretended", pytest.param("cuda", marks=pytest.mark.gpu)]
every_device = pytest.mark.parametrize("place", DEVICES)


def there(place, **options):
    """Within it `device="cuda"` can be used."""
    return pretended_gpu(**options) if place == "pretended" else nullcontext()


def pooled(dtype=np.float32):
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    X = X[:, X.std(axis=0) > 0] / 16 + np.random.default_rng(0).normal(size=(400, 1)) / 4
    return X.astype(dtype), y


def tokens():
    X, y = pooled()
    random = np.random.default_rng(1)
    mixing = random.standard_normal((X.shape[1], 6 * 8)).astype(np.float32) / 8
    return {"pooled": X, "tokens": (X @ mixing).reshape(-1, 6, 8).astype(np.float16)}, y


def moment_probing(**parameters):
    small = {"hidden_width": 32, "n_groups": 4, "epochs": (2,), "learning_rates": (1e-3, 3e-3), "n_prefix_tokens": 1}
    return partial(MomentProbing, **(small | parameters))


def fixed_moments(**parameters):
    small = {"hidden_width": 8, "n_groups": 2, "Cs": (1e-3, 1e-2), "n_prefix_tokens": 1}
    return partial(FixedMoments, **(small | parameters))


def attentive(**parameters):
    small = {"epochs": 2, "learning_rates": (1e-3, 3e-3), "weight_decays": (1e-2,), "n_prefix_tokens": 1}
    return partial(Attentive, **(small | parameters))


def dual(**parameters):
    small = {"trunk_width": 24, "epochs": (2,), "learning_rates": (1e-3, 3e-3)}
    return partial(DualHeadKD, **(small | parameters))


def linear(**parameters):
    # So far below the default tolerance that what is left is rounding.
    return partial(LinearProbe, **({"Cs": [1e-2, 1.0], "tol": 1e-10} | parameters))


def sgd(**parameters):
    return partial(LinearSGD, **({"epochs": 2, "batch_size": 100, "lrs": (0.01, 0.03)} | parameters))


MOMENTS = {
    "ncm": partial(NearestClassMean),
    "ncm cosine": partial(NearestClassMean, metric="cosine", pre_norm=True, post_norm=True),
    "naive_bayes": partial(NaiveBayes),
    "naive_bayes per class": partial(NaiveBayes, variance="per_class", scaling="standard"),
    "ridge": partial(RidgeProbe),
    "lda": partial(LinearDiscriminant),
    "lda none": partial(LinearDiscriminant, shrinkage="none"),
    "lda fixed": partial(LinearDiscriminant, shrinkage=0.2),
}
POOLED = MOMENTS | {
    "lda ledoit_wolf": partial(LinearDiscriminant, shrinkage="ledoit_wolf"),
    "linear": linear(),
    "linear standard": linear(scaling="standard"),
    "linear l2": linear(scaling="l2", refit=False),
    "linear_sgd sgd": sgd(scaling="standard"),
    "linear_sgd adamw": sgd(solver="adamw", lrs=(1e-3, 3e-3)),
    "linear_sgd lars": sgd(solver="lars", lrs=(1.0, 3.0)),
    "linear_sgd lamb": sgd(solver="lamb", lrs=(1e-3, 3e-3)),
    "dual_head_kd ce": dual(arm="ce"),
    "knn": partial(KNearest, ks=[1, 7], temperatures=[0.1, 1.0]),
}
TOKENS = {
    "moment_probing": moment_probing(),
    "moment_probing cnn": moment_probing(layout="cnn", second_moment="centred"),
    "moment_probing average": moment_probing(ema_decay=0.9, label_smoothing=0.1),
    "fixed_moments pca": fixed_moments(),
    "fixed_moments random": fixed_moments(projection="random"),
    "attentive ep": attentive(),
    "attentive aim": attentive(kind="aim"),
    "attentive jepa": attentive(kind="jepa", options={"depth": 2}, batch_norm=False),
}
DISTILLED = {
    "kd": dual(arm="kd"),
    "single": dual(arm="single"),
    "dual": dual(),
    "dual released": dual(alignment="released"),
    "dual shared": dual(alignment="shared", trunk_depth=2),
}


def assert_alike(found, expected):
    """To 1e-4 of what the logits spread over; -inf where the other is."""
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected[finite]))


def fitted_on_both(place, kind, X, y, part, **extras):
    """Logits of the head as it was fitted on the CPU, and on CUDA; the rows of `part` choose."""
    n = len(y) - part

    def cut(rows):
        return {k: v[rows] for k, v in X.items()} if isinstance(X, dict) else X[rows]

    train, validation = (cut(slice(n)), y[:n]), (cut(slice(n, None)), y[n:])
    expected = kind(device="cpu").fit(*train, validation=validation, **extras)
    with there(place):
        head = kind(device="cuda").fit(*train, validation=validation, **extras)
        found = head.logits(X)
    assert_alike(found, expected.logits(X))
    return head, found


@every_device
@pytest.mark.parametrize("kind", POOLED.values(), ids=POOLED)
def test_heads_on_pooled_features_agree_with_the_cpu(place, kind):
    fitted_on_both(place, kind, *pooled(), part=100)


@every_device
@pytest.mark.parametrize("kind", TOKENS.values(), ids=TOKENS)
def test_heads_on_tokens_agree_with_the_cpu(place, kind):
    fitted_on_both(place, kind, *tokens(), part=100)


@every_device
def test_convolutions_of_moment_probing_keep_all_digits(place):
    X, y = tokens()
    X["pooled"] = np.zeros_like(X["pooled"])
    head = moment_probing()(device="cpu").fit(X, y)
    expected = head.logits(X)
    with there(place):
        found = head.set_params(device="cuda").logits(X)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))


@every_device
@pytest.mark.parametrize("kind", DISTILLED.values(), ids=DISTILLED)
def test_arms_of_distillation_agree_with_the_cpu(place, kind):
    X, y = pooled()
    teacher = 3 * np.eye(10, dtype=np.float32)[y] + np.random.default_rng(2).normal(size=(len(y), 10))
    fitted_on_both(place, kind, X, y, part=100, teacher_logits=teacher.astype(np.float32))


@every_device
def test_an_auxiliary_head_with_dropout_learns_there_too(place):
    # Its noise is the device's own: no number can be compared.
    X, y = pooled()
    with there(place):
        head = dual(auxiliary="mlp", epochs=(10,), device="cuda")().fit(X, y, teacher_logits=3 * np.eye(10)[y])
        assert head.score(X, y) > 0.8


@every_device
@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_path_of_linear_agrees_with_the_cpu_chunk_by_chunk(place, dtype, held, bfloat16, monkeypatch):
    X, y = pooled(dtype)
    expected = linear(device="cpu")().fit(X, y)
    if not held:
        monkeypatch.setattr(gpu, "free_bytes", lambda device: 0)
    if place == "cuda":
        monkeypatch.setattr(eigen, "fast_bfloat16", lambda device: bfloat16)
    with there(place, bfloat16=bfloat16):
        found = linear(device="cuda")().fit(X, y)
        assert_alike(found.logits(X), expected.logits(X))
    assert_alike(found.coefs_path_, expected.coefs_path_)


@every_device
def test_few_rows_two_classes_and_several_labels_agree_with_the_cpu(place):
    X, y = pooled()
    fitted_on_both(place, linear(Cs=[1.0]), X[:40], y[:40], part=10)
    fitted_on_both(place, linear(), X, y % 2, part=100)
    labels = np.stack([y % 2, y > 4, y % 3 == 0], axis=1).astype(int)
    fitted_on_both(place, partial(OneVsRestLinear, Cs=[0.01, 1.0], tol=1e-10), X, labels, part=100)


@every_device
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_products_in_float32_agree_with_the_cpu(place, dtype, monkeypatch):
    monkeypatch.setattr("probe.heads.shared.moments.FLOAT64_PRODUCTS", 0)
    X, y = pooled(dtype)
    for kind in (partial(RidgeProbe, [10.0]), partial(LinearDiscriminant, 0.2)):
        fitted_on_both(place, kind, X, y, part=100)


@every_device
@pytest.mark.parametrize("kind", MOMENTS.values(), ids=MOMENTS)
def test_streaming_agrees_with_the_cpu(place, kind):
    X, y = pooled()
    streams = {}
    for device in ("cpu", "cuda"):
        with there(place):
            head = kind(device=device)
            for rows in np.split(np.argsort(y, kind="stable"), [90, 200, 201]):
                head.partial_fit(X[rows], y[rows], classes=np.arange(10))
            streams[device] = head.logits(X)
    assert_alike(streams["cuda"], streams["cpu"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*POOLED, *TOKENS])
def test_the_same_seed_gives_the_same_bits_there(name):
    X, y = pooled() if name in POOLED else tokens()
    logits = [(POOLED | TOKENS)[name](device="cuda").fit(X, y).logits(X) for _ in range(2)]
    np.testing.assert_array_equal(*logits)


@every_device
@pytest.mark.parametrize("name", [*POOLED, *TOKENS])
def test_a_head_fitted_there_is_loaded_on_the_cpu(place, name, tmp_path):
    X, y = pooled() if name in POOLED else tokens()
    with there(place):
        head = (POOLED | TOKENS)[name](device="cuda").fit(X, y)
        head.save(tmp_path / "head.safetensors")
        found = head.logits(X)
    copy = Head.load(tmp_path / "head.safetensors").set_params(device="cpu")
    assert_alike(copy.logits(X), found)


@every_device
def test_a_memmap_on_disk_agrees_with_the_cpu(place, tmp_path):
    X, y = pooled(np.float16)
    np.save(tmp_path / "x.npy", X)
    stored = RowSubset(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(len(y)))
    for kind in (NearestClassMean, NaiveBayes, RidgeProbe, LinearDiscriminant, linear(), sgd(), dual(arm="ce")):
        fits = []
        with there(place):
            for device in ("cpu", "cuda"):
                fits.append(kind(device=device).fit(stored, y).logits(stored))
        assert_alike(fits[1], fits[0])


@every_device
def test_auto_is_cuda_where_there_is_one(place):
    with there(place):
        assert resolve_device("auto") == "cuda"
        assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("cuda", "device is cuda and torch finds 0 GPUs here: set device=auto"),
        ("cuda:1", "device is cuda:1 and torch finds 0 GPUs here"),
        ("gpu", "device is 'gpu', expected auto, cpu, cuda or cuda:<number>: set one of them"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(device, text, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match=text):
        NearestClassMean(device=device).fit(*pooled())
    store = FeatureStore(tmp_path / "cache")
    with pytest.raises(InputError, match=text):
        store.get(TinyBackbone(), images(), "train", ["pooled"], device=device)
    with pytest.raises(InputError, match=text):
        run(Run(TinyBackbone(), images(), Full(), NearestClassMean(), store, tmp_path / "runs", device=device))
    assert not store.root.exists()


def test_of_several_gpus_each_can_be_named():
    with pretended_gpu():
        assert resolve_device("cuda:0") == "cuda:0"
        with pytest.raises(InputError, match="device is cuda:1 and torch finds 1 GPUs here"):
            resolve_device("cuda:1")


def images(n=50):
    random = np.random.default_rng(0)
    parts = {
        name: ArrayPartition(
            random.integers(0, 256, (m, 32, 32, 3), dtype=np.uint8), np.arange(m) % 2, [f"{name}{i}" for i in range(m)]
        )
        for name, m in (("train", n), ("test", 4))
    }
    return make_dataset("noise", ("a", "b"), parts)


VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
BACKBONES = {
    "tiny": (lambda: TinyBackbone(taps=["stem"]), ("pooled", "tokens", "map", "stem")),
    "vit": (
        lambda: TimmBackbone("vit_tiny_patch16_224", pretrained=False, model_kwargs=VIT, taps=["blocks.0.attn:heads"]),
        ("pooled", "tokens", "map", "blocks.0.attn:heads"),
    ),
}


@every_device
@pytest.mark.parametrize("n_workers", [0, 2, None])
@pytest.mark.parametrize("name", BACKBONES)
def test_extraction_agrees_with_the_cpu(place, name, n_workers, tmp_path):
    build, kinds = BACKBONES[name]
    options = {"dtypes": dict.fromkeys(kinds, "float32"), "batch_size": 16, "progress": False}
    expected = FeatureStore(tmp_path / "cpu").get(build(), images(), "train", kinds, device="cpu", **options)
    with there(place):
        found = FeatureStore(tmp_path / "cuda").get(
            build(), images(), "train", kinds, device="cuda", n_workers=n_workers, **options
        )
    for kind in kinds:
        assert_alike(np.asarray(found.arrays[kind]), np.asarray(expected.arrays[kind]))


@every_device
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
        (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
    ],
)
def test_every_byte_is_normalised_to_the_bits_of_the_cpu(place, mean, std):
    pixels = torch.arange(256, dtype=torch.uint8).expand(3, 256, 256)
    expected = Compose([ToTensor(), Normalize(mean, std)])(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    with there(place):
        found = Normalisation(mean, std).to("cuda")(pixels[None].to("cuda"))
        assert found.is_cuda
        assert torch.equal(found.cpu()[0], expected)


@every_device
def test_a_backbone_takes_batches_of_the_host(place):
    batch = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = TinyBackbone().extract(batch, ["pooled"])["pooled"].numpy()
    with there(place):
        found = TinyBackbone().to("cuda").extract(batch, ["pooled"])["pooled"]
        assert found.is_cuda
        assert_alike(found.cpu().numpy(), expected)


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu():
        x, y = torch.ones(3, 2, device="cuda"), torch.ones(3, 2)
        assert (x.device, (x * torch.tensor(2.0)).device, x.cpu().device) == (torch.device("cuda", 0),) * 2 + (
            y.device,
        )
        picked = torch.zeros(1, dtype=torch.int64)
        assert x[picked].is_cuda
        for mixed in (lambda: x + y, lambda: y @ x.T, lambda: torch.cat([x, y]), lambda: y[picked.to("cuda")]):
            with pytest.raises(RuntimeError, match="to be on the same device"):
                mixed()
        for converted in (x.numpy, lambda: np.asarray(x)):
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
                converted()
        host = x.to("cpu", non_blocking=True)
        assert (host == NOT_YET).all()
        torch.cuda.current_stream().record_event().synchronize()
        assert torch.equal(host, y)
    assert not hasattr(torch.ones(1).untyped_storage(), "on_gpu")
