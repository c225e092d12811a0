"""Heads on a network that trains: what they say, and that training does not notice."""

import copy
import os
import random
import socket

import language_models
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from watch_child import PIXELS, network, states, train, watch_as_rank

import probe
from probe.backbones.shared.borrowed import Borrowed
from probe.command.live import network_backbone
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.sklearn import load

# Features of networks that have not learnt anything vary too little for the default rates, which a warning says.
pytestmark = pytest.mark.filterwarnings("ignore:features vary by")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))


def watched(model, heads=("ncm", "linear_sgd"), datasets="digits", pixels=PIXELS, **options):
    options = {"limit": 60, "quiet": True, **options}
    return probe.Watch((model, pixels), datasets, list(heads), **options)


def drawing(image):
    """A transform that moves all generators, and no feature."""
    random.random(), np.random.rand(), torch.rand(1)
    return torch.from_numpy(np.array(image.convert("L"), dtype=np.float32))[None] / 255


def everything(model):
    """All of a model that training depends on."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "required": [p.requires_grad for p in model.parameters()],
        "places": [p.data_ptr() for p in (*model.parameters(), *model.buffers())],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "random": states(),
    }


def assert_same(one, other):
    for part in ("state", "gradients"):
        for name, value in one[part].items():
            theirs = other[part][name]
            assert (value is None and theirs is None) or torch.equal(value, theirs), (part, name)
    assert {k: v for k, v in one.items() if k not in ("state", "gradients")} == {
        k: v for k, v in other.items() if k not in ("state", "gradients")
    }


def test_the_model_and_all_random_states_are_as_they_were():
    model = network()
    train(model, 3)
    before = everything(model)
    watch = watched(model, pixels={"transform": drawing, "size": 8})
    assert_same(everything(model), before)
    watch(0)
    assert_same(everything(model), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("keep", [False, True])
def test_a_language_model_is_measured_on_texts_as_a_run_measures_it(keep):
    model, words = language_models.network("bert").train(), language_models.tokenizer()
    rows = [" ".join(np.random.default_rng(i).choice(language_models.WORDS, 6)) for i in range(60)]
    data = ((rows, ["ab"[i % 2] for i in range(60)]), {"name": "mine"})
    before = everything(model)
    watch = probe.Watch((model, words), data, ["ncm", "tfidf_linear"], keep=keep, quiet=True)
    found = watch(0)
    assert_same(everything(model), before)
    for head in ("ncm", "tfidf_linear"):
        plain = probe.run((model, words), data, head, "holdout", quiet=True)
        assert found[f"mine/{head}/top1"] == plain.metrics["top1"].value


@pytest.mark.parametrize("keep", [False, True])
def test_training_goes_on_bit_for_bit_as_without(keep):
    ends = []
    for with_watch in (False, True):
        model = network()
        watch = (
            watched(model, keep=keep, pixels={"transform": drawing, "size": 8}) if with_watch else lambda epoch: None
        )
        optimizer = train(model, 1)
        for epoch in range(2):
            watch(epoch)
            train(model, 3, optimizer)
        ends.append(everything(model) | {"places": []})
    assert_same(*ends)


@pytest.mark.parametrize("protocol", ["full", ("few_shot", {"k": 5})])
def test_the_numbers_are_those_of_a_run_on_the_same_network(protocol):
    model = network()
    train(model, 3)
    watch = watched(model, ["ncm", "linear"], protocol=protocol, seed=1, metrics=["top1", "log_loss"])
    found = watch(0)
    for head in ("ncm", "linear"):
        run = probe.run((copy.deepcopy(model), PIXELS), "digits", head, protocol, 1, limit=60, quiet=True)
        for metric in ("top1", "log_loss"):
            assert found[f"digits(limit=60)/{head}/{metric}"] == pytest.approx(run.metrics[metric].value, abs=1e-5)
    row = next(row for row in watch.history if row["metric"] == "top1" and row["head"] == "linear")
    assert row["low"] <= row["value"] <= row["high"]
    assert list(watch.frame.columns) == [
        "epoch", "dataset", "head", "metric", "value", "low", "high", "fit_seconds", "extract_seconds"
    ]  # fmt: skip


def test_rows_are_drawn_once_and_read_once_per_pass():
    digits, seen = load("digits"), []
    X = np.stack([np.asarray(digits.partitions["train"][row]) for row in range(120)])
    y = digits.partitions["train"].labels[:120]

    def transform(image):
        seen.append(np.asarray(image).tobytes())
        return torch.from_numpy(np.array(image.convert("L"), dtype=np.float32))[None] / 255

    watch = probe.Watch(
        (network(), {"transform": transform, "size": 8}), {"train": (X, y), "test": (X[:40], y[:40])}, ["ncm", "lda"],
        ("few_shot", {"k": 3}),
        quiet=True, features={"n_workers": 0},
    )  # fmt: skip
    passes = []
    for epoch in range(3):
        seen.clear()
        watch(epoch)
        passes.append(sorted(seen))
    assert passes[1] == passes[2]
    assert len(passes[1]) < 120 + 40
    assert len(passes[0]) > len(passes[1])  # the first one checks that features are a function of the row


def test_weights_of_now_are_measured():
    model = network()
    watch = watched(model, ["ncm"])
    first = watch(0)
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.zero_()
    assert watch(1) != first
    assert list(watch(2).values()) == [0.1]  # one feature for all: the first of ten classes
    assert [row["epoch"] for row in watch.history] == [0, 1, 2]


def test_features_are_kept_where_that_is_asked_for(tmp_path):
    model = network()
    watched(model, ["ncm"])(0)
    assert not (tmp_path / "cache").exists()
    watched(model, ["ncm"], keep=True)(0)
    run = probe.run((copy.deepcopy(model), PIXELS), "digits", "ncm", limit=60, quiet=True)
    assert run.record["seconds"]["extract"] == 0


def test_it_measures_when_it_is_due():
    watch = watched(network(), ["ncm"], every=3)
    assert [bool(watch()) for _ in range(5)] == [True, False, False, True, False]
    assert bool(watch(6))
    assert [row["epoch"] for row in watch.history] == [0, 3, 6]
    assert watch.measure(7)


def test_data_without_test_rows_is_held_out_of_and_several_sets_are_named():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    X[y == 1] //= 4
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    watch = watched(network(), ["ncm", ("ncm", {"metric": "cosine"})], [((X, y), {"name": "mine"}), pairs, "digits"])
    watch(0)
    names = {(row["dataset"], row["head"]) for row in watch.history}
    assert ("mine", "ncm(metric=cosine)") in names
    assert len(names) == 6
    assert max(row["value"] for row in watch.history if row["dataset"] == "mine") > 0.9


def test_heads_of_maps_and_layers_are_watched():
    model = nn.Sequential(nn.Conv2d(1, 7, 3), nn.ReLU(), nn.Conv2d(7, 9, 3))
    watch = watched(model, ["ncm", "moment_probing_small"], protocol=("few_shot", {"k": 2}))
    assert len(watch(0)) == 2
    tapped = probe.Watch(
        (model, {**PIXELS, "taps": ["0"]}), "digits", "ncm", limit=60, reads={"pooled": "0"}, quiet=True
    )
    assert list(tapped(0).values()) != [watch(1)["digits(limit=60)/ncm/top1"]]


def test_it_measures_inside_of_autocast_and_inference_mode():
    model = network()
    watch = watched(model)
    expected = watch(0)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert watch(1) == expected


def test_a_network_is_read_on_the_device_where_it_lies():
    # No GPU is needed to see that images follow the weights.
    model = nn.Conv2d(1, 9, 3, device="meta")
    for target in (None, Borrowed(model)):
        backbone = network_backbone(model, dict(PIXELS), target)
        assert backbone.device == "meta"
        assert backbone.shapes["map"] == (9, 6, 6)


def test_a_classifier_is_told_that_its_logits_are_read(capsys):
    watched(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), quiet=False)
    assert "logits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        (None, {}, "backbone is a Noisy and nothing says how an image becomes its input"),
        ("tiny", {}, r"backbone is 'tiny', expected a network that trains, as \(network, transform\)"),
        ({"checkpoint": "x.pt", **PIXELS}, {}, "takes no checkpoint, which would replace its weights"),
        (PIXELS, {"every": 0}, "every is 0, expected a whole number of epochs"),
        (PIXELS, {"heads": "nosuch"}, "head 'nosuch' is unknown"),
        (PIXELS, {"heads": "moment_probing_small"}, "reads map, tokens|reads tokens|reads map"),
        (PIXELS, {"heads": "dual_head_kd"}, "learns from a teacher, of which a network that trains has none"),
        (PIXELS, {"heads": ["ncm", "ncm"]}, "head ncm is given twice: leave one out"),
        (PIXELS, {"datasets": ["digits", "digits"]}, "two datasets are called digits"),
        (PIXELS, {"metrics": "top7"}, r"metrics are \['top7'\], expected some of top1"),
        (PIXELS, {"datasets": []}, "the list of datasets is empty"),
        (PIXELS, {"protocol": "class_incremental"}, "gives rows task by task"),
        (PIXELS, {"features": {"many": 1}}, "features has no parameter many"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused_before_training(given, options, sentence):
    backbone = given if given == "tiny" else network() if given is None else (network(), given)
    options = {"datasets": "digits", "heads": "ncm", "quiet": True, **options}
    with pytest.raises((InputError, DoesNotFit), match=sentence):
        probe.Watch(backbone, options.pop("datasets"), options.pop("heads"), **options)


def as_ranks(fails):
    context = torch.multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ends = [context.Pipe() for _ in range(2)]
    children = [
        context.Process(target=watch_as_rank, args=(rank, 2, port, fails, ends[rank][1])) for rank in range(2)
    ]  # fmt: skip
    for child in children:
        child.start()
    answers = [end.recv() if end.poll(120) else None for end, _ in ends]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    return answers


def test_of_two_ranks_the_first_reads_and_both_know():
    (scores, n_read, n_rows, weights), (others, n_others, n_others_rows, same_weights) = as_ranks(fails=False)
    assert scores == others
    assert [len(one) for one in scores] == [2, 0, 2]
    assert n_read > 2 * 120
    assert n_others == 0
    assert n_rows == n_others_rows == 4
    assert weights == same_weights


def test_of_two_ranks_none_waits_for_one_that_stopped():
    one, other = as_ranks(fails=True)
    assert one.startswith("InputError: ")
    assert "no such image" in one
    assert other.startswith("ProbeError: the first rank stopped (InputError: ")


@pytest.fixture
def wandb():
    """wandb, whose service does not outlive the test: processes that tests start would find it by the environment."""
    import wandb

    yield wandb
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


def test_an_epoch_is_a_step_of_the_wandb_run_that_is_active(tmp_path, wandb):
    watch = watched(network(), ["ncm"])
    watch(0)
    with wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True)) as run:
        before = states()
        run.log({"loss": 1.0})
        watch(1)
        watch(2)
        assert states() == before
        assert run.step == 3
        assert run.summary["probe/digits(limit=60)/ncm/top1"] == watch.history[-1]["value"]
        assert run.summary["probe/epoch"] == 2


def test_neighbours_and_measures_without_a_head_come_from_the_same_pass():
    scores = watched(network(), heads=("knn", "none"))(0)
    assert {name.partition("/")[2] for name in scores} == {"knn/top1", "none/retrieval_map"}
    result = probe.run((network(), PIXELS), "digits", "none", limit=60, quiet=True)
    (measured,) = (value for name, value in scores.items() if name.endswith("map"))
    assert measured == pytest.approx(result.metrics["retrieval_map"].value, abs=1e-5)


def test_pairs_are_watched_with_the_groups_of_their_rows():
    X = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    X[1::4] = X[::4]  # every other pair is of one image
    match, groups = np.arange(80) // 2 % 2 == 0, np.arange(80) // 2
    digits = ((X, match.astype(np.int64)), {"groups": groups})
    scores = watched(network(), heads=("pairs",), datasets=[digits], protocol="holdout", limit=None)(0)
    assert [value for name, value in scores.items() if name.endswith("pairs/pair_average_precision")] == [1.0]
