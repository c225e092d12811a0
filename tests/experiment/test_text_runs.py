"""Runs on texts: from a table and a folder of a language model to a result, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import WORDS, save
from PIL import Image

import probe
from probe.backbones.huggingface import load
from probe.backbones.tiny import TinyBackbone
from probe.command.describe import describe, render
from probe.core.errors import ProbeError
from probe.core.rows import check_rows
from probe.datasets.folder import load as load_images
from probe.datasets.texts import load as load_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: Any) -> Path:
    """A model, and texts of two classes that differ in half of their words."""
    root = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        own = WORDS[:8] if i % 2 else WORDS[8:]
        words = [*rng.choice(own, 6), *rng.choice(WORDS, 6)]
        rows.append({"text": " ".join(rng.permutation(words)), "label": "ab"[i % 2]})
    (root / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save(root / "bert", "bert")
    return root


def test_a_run_on_texts_finds_the_class_and_its_layers_are_read_from_the_same_files(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    backbone = ("huggingface", {"name": str(files / "bert"), "taps": ["encoder.layer.*:last"]})
    asked: dict[str, Any] = {
        "backbone": backbone, "dataset": ("texts", {"path": str(files / "texts.jsonl")}), "protocol": "holdout",
        "head": "ridge",
    }  # fmt: skip
    result = probe.run(**asked)
    assert result.metrics["top1"].value > 0.8
    by_length = probe.run(**asked, reads={"pooled": "length"})
    assert by_length.metrics["top1"].value < 0.8
    assert "length" in by_length.record["labels"]["backbone"]
    first_layer = probe.run(**asked, reads={"pooled": "encoder.layer.0:last"})
    assert first_layer.folder != result.folder


def test_a_run_tells_how_many_texts_it_cut(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = {"name": str(files / "bert")}
    asked: dict[str, Any] = {"dataset": ("texts", {"path": str(files / "texts.jsonl")}), "head": "ncm"}
    asked |= {"protocol": "holdout", "cache": "cache", "quiet": True}
    result = probe.run(("huggingface", {**backbone, "max_length": 8}), **asked)
    (note,) = result.record["notes"]
    n = min(100, len(load_texts(str(files / "texts.jsonl")).partitions["train"]))
    assert note.startswith(f"{n} of {n} training texts looked at are longer than the 8 tokens that are read of each")
    assert f"note: {note}" in result.remarks()
    assert "notes" not in probe.run(("huggingface", {**backbone, "max_length": 14}), **asked).record


def test_all_tokens_are_read_by_heads_with_their_mask_and_averaged_for_others(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))

    def run(head: Any, protocol: Any = "holdout", **more: Any) -> Any:
        taps = {"name": str(files / "bert"), "taps": ["encoder.layer.0:tokens"]}
        dataset = ("texts", {"path": str(files / "texts.jsonl")})
        return probe.run(("huggingface", taps), dataset, head, protocol, quiet=True, **more)

    small = {"batch_size": 16, "learning_rates": [0.01]}
    assert run(("attentive", {**small, "epochs": 6})).metrics["top1"].value > 0.7
    found = run(("attentive", {**small, "epochs": 2}), reads={"tokens": "encoder.layer.0:tokens"})
    assert "encoder.layer.0:tokens" in found.record["labels"]["backbone"]
    run(("moment_probing", {**small, "epochs": [1], "hidden_width": 32, "n_groups": 2}))
    of_tokens, pooled = run("ridge", reads={"pooled": "tokens:mean"}), run("ridge")
    assert of_tokens.folder != pooled.folder
    np.testing.assert_allclose(of_tokens.predictions["logits"], pooled.predictions["logits"], atol=0.02)
    for head in ("fixed_moments", ("attentive", {"kind": "clip"})):
        with pytest.raises(
            ProbeError, match=r"takes tokens of one length, rows .* differ in theirs: set head=attentive"
        ):
            run(head)
    with pytest.raises(ProbeError, match="reads tokens, of which rows differ in length, and does not stream"):
        run("attentive", ("class_incremental", {"n_tasks": 2}))


def test_rows_and_backbones_that_do_not_fit_are_named_with_what_helps(files: Path, tmp_path: Path) -> None:
    texts, words = load_texts(str(files / "texts.jsonl")), load(str(files / "bert"))
    for part, c in ((part, c) for part in ("train", "test") for c in "ab"):
        (tmp_path / part / c).mkdir(parents=True)
        Image.new("L", (3, 3)).save(tmp_path / part / c / "0.png")
    images = load_images(str(tmp_path))
    with pytest.raises(ProbeError, match=r"tiny-random reads images, the rows .* are texts: set backbone=huggingface"):
        check_rows(TinyBackbone(pretrained=False), texts)
    with pytest.raises(ProbeError, match=r"huggingface/bert reads texts, the rows of .* are images: set backbone=tiny"):
        check_rows(words, images)


def test_describe_tells_lengths_what_is_cut_and_an_example(files: Path) -> None:
    backbone, data = load(str(files / "bert"), max_length=10), load_texts(str(files / "texts.jsonl"))
    facts = describe(backbone, data)
    assert facts["tokens"] == {
        "median": 14.0, "most": 14, "read": 10, "cut": 1.0, "example": data.partitions["train"][0],
    }  # fmt: skip
    framed = load(str(files / "bert"), template="one {text} two")
    assert describe(framed, data)["tokens"]["example"] == f"one {data.partitions['train'][0]} two"
    printed = render(facts)
    assert "median 14 a text, at most 14; 10 are read, 100 % of the texts are cut (of those looked at)" in printed
    assert f"example        {data.partitions['train'][0]}" in printed


ODD = [
    "",
    " \t\n",
    "the cat " * 12_500,
    "🐈‍⬛ 👩🏽‍🚀 🇩🇪",
    "\u05d4\u05d7\u05ea\u05d5\u05dc \u202e\u0627\u0644\u0642\u0637\u202c",
    "a\0cat\0",
    "mat\u200d\ufeff",
    "ﬁ e\u0301",
]


@pytest.mark.parametrize("head", ["ridge", "tfidf_linear", "ss3"])
def test_odd_texts_go_through_a_run_like_any_others(files: Path, tmp_path: Path, head: str) -> None:
    """Nothing, 100,000 characters, emoji, right to left, NUL, marks alone: each gets a prediction of its own."""
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(ODD * 6)]
    rows = [
        {**row, "text": f"{row['text']}{' dog' * (i // 8)}" if row["text"].strip() else row["text"]}
        for i, row in enumerate(rows)
    ]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for backbone in (("huggingface", {"name": str(files / "bert")}), ("raw", {"rows": "texts"})):
        result = probe.run(
            backbone, ("texts", {"path": str(tmp_path / "odd.jsonl")}), head, ("holdout", {"test_fraction": 0.25}),
            cache=tmp_path / "cache", runs=tmp_path / "runs", quiet=True,
        )  # fmt: skip
        assert np.isfinite(result.predictions["logits"]).all()
        assert len(result.predictions["row"]) == 12
        assert result.record["leakage"]["test"] > 0
        assert not any(result.record["skipped_rows"].values())


@pytest.mark.parametrize("head", ["linear", "knn"])
def test_several_labels_per_text(files: Path, tmp_path: Path, head: str) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(120):
        labels = [name for name in ("cat", "dog", "red") if rng.random() < 0.4]
        rows.append(
            {"text": " ".join(rng.permutation([*labels, *rng.choice(["the", "a", "on", "from"], 5)])), "labels": labels}
        )
    (tmp_path / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = probe.run(
        ("raw", {"rows": "texts", "n_words": 64}), ("texts", {"path": str(tmp_path / "several.jsonl")}), head,
        "holdout", cache=tmp_path / "cache", runs=tmp_path / "runs", quiet=True,
    )  # fmt: skip
    assert result.metrics["mAP"].value > 0.8


@pytest.mark.parametrize("column", ["grade", "n_words"])
def test_from_easy_texts_to_hard_ones_by_a_column(tmp_path: Path, column: str) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 80), ("test", 40)):
        rows = []
        for i in range(n):
            grade = int(rng.integers(0, 5))
            own = WORDS[:8] if i % 2 else WORDS[8:]
            words = [*rng.choice(own, 6 - grade), *rng.choice(WORDS, 2 * grade)]
            rows.append({"text": " ".join(words), "label": "ab"[i % 2], "grade": grade, "n_words": len(words)})
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def top1(train: str, test: str) -> float:
        protocol = ("easy_to_hard", {"hardness": None, "train": train, "test": test})
        dataset = ("texts", {"path": str(tmp_path), "hardness_column": column})
        run = probe.run(("raw", {"rows": "texts", "n_words": 64}), dataset, "ridge", protocol,
                        cache=tmp_path / "cache", runs=tmp_path / "runs", quiet=True)  # fmt: skip
        return run.metrics["top1"].value

    assert top1("easy", "easy") > top1("easy", "hard")


def test_pairs_of_texts_are_measured_by_their_similarity_where_they_are_rows_of_their_own(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        one, kept = rng.choice(WORDS, 8), int(rng.integers(0, 9))
        two = [*one[:kept], *rng.choice(WORDS, 8 - kept)]
        rows.append({"sentence1": " ".join(one), "sentence2": " ".join(two), "score": kept})
    (tmp_path / "sts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"text_column": "sentence1", "pair_column": "sentence2", "target_columns": ["score"]}
    asked: dict[str, Any] = {
        "backbone": ("huggingface", {"name": str(files / "bert")}), "protocol": "holdout", "head": "pairs",
    }  # fmt: skip
    joined = ("texts", {"path": str(tmp_path / "sts.jsonl"), **columns})
    with pytest.raises(
        ProbeError, match=r"name none: set dataset\.pair_column and dataset\.pair_as=rows where a row of"
    ):
        probe.run(dataset=joined, **asked)
    assert not (tmp_path / "cache").exists()
    result = probe.run(dataset=("texts", {**joined[1], "pair_as": "rows"}), **asked)
    assert result.metrics["pair_spearman"].value > 0.3
    assert (np.unique(result.predictions["row"] // 2, return_counts=True)[1] == 2).all()
