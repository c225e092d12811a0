"""Runs that find their layer: `reads.pooled=<pattern>:best` and `:mix`."""

from dataclasses import replace

import numpy as np
import pytest
from first_rows import FirstRows, first_rows

from probe.backbones.timm import TimmBackbone
from probe.command.sweep import show_run
from probe.core.base import Dataset
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.number import Number
from probe.datasets.sklearn import load
from probe.experiment import layers
from probe.experiment.reading import NO_ROWS
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.attentive import Attentive
from probe.heads.knn import KNearest
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.none import NoHead
from probe.heads.ridge import RidgeProbe
from probe.heads.shared.head import Head
from probe.heads.zero_shot import ZeroShot
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.results.reader import read_predictions, read_result

NAMES = ["blocks.0", "blocks.2", "blocks.4"]
WIDE = "last2:cls"


class Poisoned(FirstRows):
    """The same rows under labels that are all wrong."""

    def __init__(self, rows):
        super().__init__(rows, len(rows))
        self.labels, self.fingerprint = (self.labels + 1) % 10, rows.fingerprint  # so that the same rows are drawn


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    store = FeatureStore(tmp_path_factory.mktemp("cache"))
    backbone = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=[*NAMES, WIDE])
    return backbone, first_rows(load("digits"), 160), store


@pytest.fixture(scope="module")
def request_of(parts, tmp_path_factory):
    backbone, dataset, store = parts

    def build(reads, head=None, **more):
        given = {"dataset": dataset, "protocol": Full(), "head": head or LinearProbe(Cs=[0.1, 10.0]), **more}
        return Run(given.pop("backbone", backbone), store=store, folder=tmp_path_factory.mktemp("runs"),
                   device="cpu", reads={"pooled": reads}, **given)  # fmt: skip

    return build


@pytest.fixture(scope="module")
def best(request_of):
    return run(request_of("blocks.*:best"))


@pytest.fixture(scope="module")
def mixed(request_of):
    return run(request_of("blocks.*:mix"))


def test_the_best_layer_is_chosen_where_the_head_chooses_and_counts_as_search(best):
    record = read_result(best)
    told, selection = record["layers"], record["selection"]
    assert told["of"] == NAMES
    assert told["chosen"] == NAMES[int(np.argmax(told["scores"]))]
    assert told["on"] == selection["on"] == "5 folds of the training rows"
    assert set(selection["chosen"]) == {"layer", "C"}
    assert selection["chosen"]["layer"] == told["chosen"]
    assert [(one["layer"], one["C"]) for one in selection["searched"]] == [(n, C) for n in NAMES for C in (0.1, 10.0)]
    assert record["labels"]["backbone"].endswith("(pooled=blocks.*:best)")
    assert record["extraction"]["layers"] == {"of": NAMES, "recipe": "1"}


def test_a_run_with_the_best_layer_predicts_as_one_that_names_it(best, request_of):
    name = read_result(best)["layers"]["chosen"]
    named = run(request_of(name))
    assert named.name != best.name
    for key, values in read_predictions(named).items():
        np.testing.assert_array_equal(read_predictions(best)[key], values, err_msg=key)


@pytest.mark.parametrize("how", ["best", "mix"])
def test_neither_a_choice_nor_a_mixture_looks_at_a_test_row(how, request_of, parts, monkeypatch):
    clean = read_result(run(request_of(f"blocks.*:{how}", NearestClassMean())))
    dataset = parts[1]
    poisoned = replace(dataset, partitions={**dataset.partitions, "test": Poisoned(dataset.partitions["test"])})
    seen = []
    find = getattr(layers, f"_{how}")
    monkeypatch.setattr(layers, f"_{how}", lambda drawn, rows, many: seen.append(rows.test) or find(drawn, rows, many))
    found = read_result(run(request_of(f"blocks.*:{how}", NearestClassMean(), dataset=poisoned)))
    assert seen == [NO_ROWS]
    assert found["layers"] == clean["layers"]
    assert found["metrics"]["top1"]["value"] != clean["metrics"]["top1"]["value"]


def test_a_mixture_has_a_weight_for_each_layer_in_the_record_and_on_the_screen(mixed, capsys):
    told = read_result(mixed)["layers"]
    assert told["of"] == NAMES
    assert sum(told["weights"]) == pytest.approx(1)
    assert min(told["weights"]) >= 0
    assert told["selection"]["chosen"]["C"] in [c["C"] for c in told["selection"]["searched"]]
    show_run(mixed, was_there=False)
    assert f"weights of the layers: blocks.0 {told['weights'][0]:.3f}, " in capsys.readouterr().out


@pytest.mark.parametrize("how", ["best", "mix"])
def test_one_layer_is_that_layer(how, request_of):
    alone, named = run(request_of(f"blocks.2:{how}")), run(request_of("blocks.2"))
    for key, values in read_predictions(named).items():
        np.testing.assert_array_equal(read_predictions(alone)[key], values, err_msg=key)


def test_the_head_that_is_kept_takes_the_layers_by_their_names(mixed, best, parts):
    backbone, dataset, store = parts
    found = store.get(backbone, dataset, "test", [*NAMES, WIDE], device="cpu").arrays
    for folder in (mixed, best):
        head, predictions = Head.load(folder / "head.safetensors"), read_predictions(folder)
        X = {name: found[name][predictions["row"]] for name in NAMES}
        np.testing.assert_array_equal(head.predict(X), predictions["predicted"])
        told = read_result(folder)["layers"]
        shares = dict(zip(head.layers_, head.layer_shares_, strict=True))
        assert list(shares) == ([told["chosen"]] if "chosen" in told else NAMES)
        np.testing.assert_array_equal(
            head.predict(sum(np.float32(s) * X[name] for name, s in shares.items())), predictions["predicted"]
        )
    with pytest.raises(InputError, match=r"reads the layers blocks\.0, blocks\.2, blocks\.4, X has no blocks\.2"):
        Head.load(mixed / "head.safetensors").predict({"blocks.0": X["blocks.0"], "blocks.4": X["blocks.4"]})


def test_all_layers_come_from_one_pass(request_of, best, monkeypatch):
    monkeypatch.setattr(TimmBackbone, "extract", None)
    assert run(request_of("blocks.*:mix", NearestClassMean(metric="cosine"))).exists()


def test_the_best_of_layers_of_several_widths_may_be_chosen_and_the_pooled_feature_is_among_all(request_of):
    told = read_result(run(request_of("*:best", NearestClassMean())))["layers"]
    assert set(told["of"]) == {*NAMES, WIDE, "pooled"}


@pytest.mark.parametrize("head", [NearestClassMean(), KNearest(ks=[1, 5])], ids=["ncm", "knn"])
@pytest.mark.parametrize("how", ["best", "mix"])
def test_any_head_of_one_vector_finds_its_layer_at_any_scaling(how, head, request_of, parts, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(parts[2].root))  # a head of rows refers to them
    folder = run(request_of(f"blocks.*:{how}", head, standardize=True))
    kept = Head.load(folder / "head.safetensors")
    assert hasattr(kept, "feature_mean_")
    assert kept.layers_
    assert read_result(folder)["selection"]["searched"]


class Numbers(FirstRows):
    """The same rows with a number to predict."""

    def __init__(self, rows):
        super().__init__(rows, len(rows))
        self.labels = self.labels.astype(np.float64)


@pytest.mark.parametrize("how", ["best", "mix"])
def test_numbers_find_their_layer_and_their_mixture(how, request_of, parts):
    dataset = Dataset("digits as numbers", ("digit",), {k: Numbers(p) for k, p in parts[1].partitions.items()},
                      target=Number())  # fmt: skip
    told = read_result(run(request_of(f"blocks.*:{how}", RidgeProbe(alphas=[0.1, 10.0]), dataset=dataset)))["layers"]
    assert told["of"] == NAMES
    assert told["scores"] if how == "best" else sum(told["weights"]) == pytest.approx(1)


def test_without_rows_to_choose_on_the_last_layer_is_taken_and_said(request_of):
    record = read_result(run(request_of("blocks.*:best", NearestClassMean(), protocol=FewShot(k=1))))
    assert record["layers"]["chosen"] == "blocks.4"
    assert record["selection"] == {
        "on": "nothing, for want of rows", "searched": [], "chosen": {"layer": "blocks.4"}, "remarks": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reads", "more", "error", "text"),
    [
        (
            "stages.*:best", {}, InputError,
            r"reads\.pooled=stages\.\*:best names no layer that backbone .* gives, which are pooled, "
            r"blocks\.0, blocks\.2, blocks\.4, last2:cls: set backbone\.taps=\[stages\.\*\], or reads\.pooled=\*:best",
        ),
        (
            "*:mix", {}, InputError,
            r"\*:mix sums layers of one width, pooled of backbone .* has 64 numbers and last2:cls has 128: name layers "
            r"of one width, or choose one of them by reads\.pooled=\*:best",
        ),
        ("blocks.*:best", {"head": NoHead()}, DoesNotFit, "head none predicts nothing: name one layer, reads"),
        ("blocks.*:best", {"head": ZeroShot()}, DoesNotFit, r"head zero_shot compares images with texts: set reads\.p"),
        (
            "blocks.*:best", {"protocol": ClassIncremental(n_tasks=2)}, DoesNotFit,
            r"wants all training rows at once, protocol class_incremental gives tasks: name one layer",
        ),
        ("blocks.*:mix", {"calibrate": True}, DoesNotFit, "calibrate=true keeps rows from all that is fitted, reads"),
        (":best", {}, InputError, r"=:best names no layer .*: choose among these, or reads\.pooled=\*:best"),
        ("blocks.*:bst", {}, DoesNotFit, r"head linear reads blocks\.\*:bst, backbone .* gives \['pooled'"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_refused_before_anything_is_extracted(reads, more, error, text, request_of):
    request = request_of(reads, **more)
    with pytest.raises(error, match=text):
        run(request)
    assert not list(request.folder.iterdir())


def test_a_layer_is_found_for_heads_of_one_vector_alone(request_of):
    request = replace(request_of("pooled", Attentive()), reads={"tokens": "blocks.*:best"})
    with pytest.raises(
        DoesNotFit, match=r"finds a layer for one vector per row, head attentive reads tokens: name one"
    ):
        run(request)
