"""Runs that hold a grid: one pass, one run, a metric with its interval per cell, the best chosen on other rows."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from first_rows import FirstRows, first_rows
from language_models import WORDS, save

import probe
from probe.backbones.identity import IdentityBackbone
from probe.backbones.timm import TimmBackbone
from probe.core.errors import DoesNotFit
from probe.datasets.sklearn import load
from probe.experiment.grids import placed
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.grid import GridProbe
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.results.grid import Grid
from probe.results.reader import find_complete, read_predictions, read_result

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TAPS = ["blocks.*:cls", "blocks.*:mean"]


class Poisoned(FirstRows):
    """The same rows under labels that are all wrong."""

    def __init__(self, rows):
        super().__init__(rows, len(rows))
        self.labels, self.fingerprint = (self.labels + 1) % 10, rows.fingerprint  # so that the same rows are drawn


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    store = FeatureStore(tmp_path_factory.mktemp("cache"))
    backbone = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=TAPS)
    return backbone, first_rows(load("digits"), 500), store


@pytest.fixture(scope="module")
def request_of(parts, tmp_path_factory):
    backbone, dataset, store = parts

    def build(head=None, **more):
        given = {"dataset": dataset, "protocol": Full(), "head": head or GridProbe(Cs=[0.1, 10.0]), **more}
        return Run(given.pop("backbone", backbone), store=store, folder=tmp_path_factory.mktemp("runs"),
                   device="cpu", **given)  # fmt: skip

    return build


@pytest.fixture(scope="module")
def made(request_of):
    return run(request_of())


def test_a_grid_is_one_run_with_a_metric_and_an_interval_for_each_cell(made):
    record = read_result(made)
    cells = record["grid"]["cells"]
    assert [cell["cell"] for cell in cells] == [f"blocks.{i}:{p}" for p in ("cls", "mean") for i in range(6)]
    assert (cells[7]["row"], cells[7]["column"]) == ("blocks.1", "mean")
    for cell in cells:
        assert set(cell["metrics"]) == {"top1", "auroc", "recall_at_1_fpr"}
        assert all(told["low"] <= told["value"] <= told["high"] for told in cell["metrics"].values())
    chosen = record["grid"]["chosen"]
    best = next(cell for cell in cells if cell["cell"] == chosen["cell"])
    assert best["score"] == max(cell["score"] for cell in cells)
    assert (chosen["on"], chosen["n_cells"]) == (record["selection"]["on"], 12)
    # The run is what the chosen cell predicts.
    assert record["metrics"]["top1"] == best["metrics"]["top1"]
    assert record["labels"]["backbone"].endswith("(cells=12)")
    assert record["extraction"]["reads"]["cells"][7] == "blocks.1:mean"


def test_each_cell_is_what_a_run_of_the_linear_probe_there_finds(made, request_of):
    cells = {cell["cell"]: cell for cell in read_result(made)["grid"]["cells"]}
    for cell in ("blocks.0:mean", "blocks.5:cls"):
        alone = read_result(run(request_of(LinearProbe(Cs=[0.1, 10.0]), reads={"pooled": cell})))
        assert cells[cell]["C"] == alone["selection"]["chosen"]["C"]
        for name in ("top1", "auroc"):
            assert cells[cell]["metrics"][name]["value"] == pytest.approx(alone["metrics"][name]["value"], abs=0.006)


def test_the_head_that_is_kept_predicts_as_the_run_did(made, parts):
    backbone, dataset, store = parts
    head = Head.load(made / "head.safetensors")
    cells = read_result(made)["extraction"]["reads"]["cells"]
    found = store.get(backbone, dataset, "test", cells, device="cpu")
    X = np.stack([found.arrays[cell] for cell in cells], axis=1)
    predictions = read_predictions(made)
    np.testing.assert_array_equal(head.predict(X[predictions["row"]]), predictions["predicted"])
    assert head.names_ == cells


def test_the_heat_map_and_the_table_stand_in_the_folder_and_belong_to_it(made):
    assert (made / "grid.png").read_bytes().startswith(b"\x89PNG")
    with open(made / "grid.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert lines[0]["layer"] == "blocks.0"
    assert float(lines[0]["top1_low"]) <= float(lines[0]["top1"]) <= float(lines[0]["top1_high"])
    assert [line["cell"] for line in lines if line["chosen"] == "True"] == [read_result(made)["grid"]["chosen"]["cell"]]
    assert (made / "grid.tex").read_text().count(r"\textbf{") == 1
    assert find_complete(made) is not None
    assert {"grid.png", "grid.csv"} <= set(read_result(made)["files"])


def test_wrong_labels_of_test_rows_move_no_choice_and_no_fit(made, request_of, parts):
    _, dataset, _ = parts
    poisoned = replace(dataset, partitions={**dataset.partitions, "test": Poisoned(dataset.partitions["test"])})
    other = run(request_of(dataset=poisoned))
    before, after = (read_result(folder)["grid"] for folder in (made, other))
    assert after["chosen"] == before["chosen"]
    assert [c["score"] for c in after["cells"]] == [c["score"] for c in before["cells"]]
    assert after["cells"][0]["metrics"]["top1"]["value"] < before["cells"][0]["metrics"]["top1"]["value"]
    heads = [Head.load(folder / "head.safetensors") for folder in (made, other)]
    np.testing.assert_array_equal(heads[0].cell_coefs_, heads[1].cell_coefs_)


def test_folds_choose_where_a_protocol_has_too_few_rows(request_of):
    record = read_result(run(request_of(protocol=FewShot(3))))
    assert record["grid"]["chosen"]["on"].endswith("folds of the training rows")
    assert all("score" in cell for cell in record["grid"]["cells"])


def test_attention_heads_are_cells_by_layer_and_head(request_of):
    backbone = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=["blocks.*:heads"])
    record = read_result(run(request_of(backbone=backbone)))["grid"]
    assert record["axes"] == ["layer", "attention head"]
    grid = Grid.of(record, "auroc")
    assert grid.value.shape == (6, 2)
    assert grid.columns == ("0", "1")
    assert "head 1" in grid.text()


def test_cells_can_be_listed(request_of):
    record = read_result(run(request_of(reads={"cells": ["blocks.0:mean", "blocks.5:mean", "pooled"]})))["grid"]
    assert [(cell["row"], cell["column"]) for cell in record["cells"]] == [
        ("blocks.0", "mean"), ("blocks.5", "mean"), ("pooled", "mean"),
    ]  # fmt: skip


def test_what_is_no_grid_is_refused_before_anything_is_extracted(request_of):
    plain = TimmBackbone("test_vit", pretrained=False, img_size=32)
    with pytest.raises(DoesNotFit, match=r"backbone timm/test_vit-random taps none: set backbone\.taps"):
        run(request_of(backbone=plain))
    with pytest.raises(DoesNotFit, match=r"head grid compares layers, backbone identity taps none"):
        run(request_of(backbone=IdentityBackbone(), dataset=load("iris")))
    uneven = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=["blocks.0:mean", "blocks.0:neurons"])
    with pytest.raises(DoesNotFit, match=r"of one width, .* has 64 numbers and blocks\.0:neurons"):
        run(request_of(backbone=uneven))
    tokens = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=["blocks.0:tokens"])
    with pytest.raises(DoesNotFit, match=r"reads cells as an array of 2 axes, blocks\.0:tokens of backbone .* has 3"):
        run(request_of(backbone=tokens))


def test_cells_stand_by_layer_and_position_or_by_layer_and_head():
    axes, places = placed(["embed:first", "blocks.0", "pooled"])
    assert axes == ("layer", "position")
    assert places == [("embed", "first"), ("blocks.0", "mean"), ("pooled", "mean")]
    axes, places = placed(["blocks.0:heads:last.0", "blocks.0:heads:first.1"])
    assert axes == ("layer", "attention head")
    assert places == [("blocks.0:heads:last", "0"), ("blocks.0:heads:first", "1")]


def test_a_grid_of_a_language_model_in_three_lines(tmp_path):
    model = save(tmp_path / "model", "bert")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS[9 * (i % 2) : 9 * (i % 2) + 9], 6)) for i in range(90)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{t},{'ab'[i % 2]}\n" for i, t in enumerate(texts)))
    taps = ["embed:first", "blocks.*:first", "embed:mean", "blocks.*:mean"]
    backbone, data = (
        ("huggingface", {"name": str(model), "taps": taps}),
        ("texts", {"path": str(tmp_path / "texts.csv")}),
    )
    result = probe.run(
        backbone, data, "grid", "cross_validation",
        cache=tmp_path / "cache", runs=tmp_path / "runs", quiet=True,
    )  # fmt: skip
    assert result.grid.rows == ("embed", "blocks.0", "blocks.1")
    assert result.grid.columns == ("first", "mean")
    assert result.grid.value[0, 1] > result.grid.value[0, 0]  # the first token is the same of all texts
    assert len(result.grid.frame()) == 6
    assert result.grid.figure().axes
    assert "a choice" in repr(result.grid)
    assert result.metrics["top1"].value > 0.9


def test_attention_heads_of_texts_are_cells_as_those_of_images_are(tmp_path):
    model = save(tmp_path / "model", "gpt2")
    texts = [" ".join(WORDS[9 * (i % 2) + j % 9] for j in range(i, i + 5)) for i in range(40)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{t},{'ab'[i % 2]}\n" for i, t in enumerate(texts)))
    result = probe.run(
        ("huggingface", {"name": str(model), "taps": ["blocks.*:heads"]}),
        ("texts", {"path": str(tmp_path / "texts.csv")}), ("grid", {"Cs": [1.0]}), "holdout",
        cache=tmp_path / "cache", runs=tmp_path / "runs", quiet=True,
    )  # fmt: skip
    assert result.grid.value.shape == (2, 4)
    assert result.grid.columns == ("0", "1", "2", "3")
