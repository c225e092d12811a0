"""Words that speak for the classes of a row, as the page lists them: of any head that says what each word adds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import WORDS, save

import probe
from probe.backbones.huggingface import load
from probe.backbones.raw import RawInput
from probe.command.subcommands import dataset_of
from probe.heads.shared.head import Head
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.results.reader import read_result

CLASSES = ["animals", "colours", "numbers"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two heads of words on texts whose classes share most of their words."""
    root = tmp_path_factory.mktemp("words")
    random = np.random.default_rng(0)
    rows = []
    for i in range(150):
        own = WORDS[6 * (i % 3) : 6 * (i % 3) + 6]
        words = [*random.choice(own, 2), *random.choice(WORDS, random.integers(0, 9))]
        rows.append({"text": " ".join(random.permutation(words)), "label": CLASSES[i % 3]})
    (root / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_CACHE", str(root / "cache"))
        for head in ("ss3", "tfidf_linear"):
            probe.run(
                ("raw", {"rows": "texts"}), ("texts", {"path": str(root / "texts.jsonl")}), head, "holdout",
                runs=root / "runs", quiet=True,
            )  # fmt: skip
        yield root / "runs"


@pytest.fixture(scope="module")
def told(runs: Path) -> dict[str, Any]:
    records = read_folders([runs])
    page = page_data(build_table(records), records.frame, dataset_of)
    return {
        head: next(r for r in page["runs"] if f"-{head}" in r["name"])["detail"] for head in ("ss3", "tfidf_linear")
    }


def texts_of(runs: Path, head: str) -> Any:
    return dataset_of(read_result(next(runs.glob(f"*/*-{head}-*")))).partitions["train"]


@pytest.mark.parametrize("name", ["ss3", "tfidf_linear"])
def test_listed_words_stand_in_the_text_with_what_they_add(runs: Path, told: dict[str, Any], name: str) -> None:
    head, texts = Head.load(next(runs.glob(f"*/*-{name}-*")) / "head.safetensors"), texts_of(runs, name)
    detail = told[name]
    assert len(detail["wrong"]) >= 3
    for (row, label, predicted, _), (by_class, n) in zip(detail["wrong"], detail["evidence"]["words"], strict=True):
        words = re.findall(r"\w+", texts[row])
        assert n == len(words)
        assert name == "tfidf_linear" or by_class[0][0] == predicted  # which has intercepts besides
        assert {code for code, _ in by_class} == {0, 1, 2} >= {label}
        ids = RawInput("texts").collate([RawInput("texts").transform(texts[row])])
        votes = head.explain(RawInput("texts").extract(ids, ["token_ids"])["token_ids"].values.numpy()[None])  # type: ignore[attr-defined]
        for code, listed in by_class:
            sums: Counter[str] = Counter()
            for word, vote in zip(words, votes.values[:, code], strict=True):
                sums[word] += vote
            best = sorted((vote for vote in sums.values() if vote > 0), reverse=True)[:6]
            assert [vote for _, vote in listed] == pytest.approx(best, rel=0.01)
            assert all(sums[word] == pytest.approx(vote, rel=0.01) for word, vote in listed)


def test_what_tfidf_adds_up_to_is_its_logits(runs: Path) -> None:
    head, texts = Head.load(next(runs.glob("*/*-tfidf_linear-*")) / "head.safetensors"), texts_of(runs, "tfidf_linear")
    raw = RawInput("texts")
    ids = raw.extract(raw.collate([raw.transform(texts[0] + " nowhere")]), ["token_ids"])["token_ids"].values.numpy()
    logits = head.logits(ids[None])[0] - head.intercept_  # type: ignore[attr-defined]
    added = head.explain(ids[None]).values.sum(axis=0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(added, logits - logits.mean(), atol=1e-9)


def test_a_row_could_have_been_decided_where_the_page_says(runs: Path, told: dict[str, Any]) -> None:
    head, texts, raw = (
        Head.load(next(runs.glob("*/*-ss3-*")) / "head.safetensors"),
        texts_of(runs, "ss3"),
        RawInput("texts"),
    )
    detail = told["ss3"]

    def ahead(words: list[str], code: int) -> bool:
        ids = raw.extract(raw.collate([raw.transform(" ".join(words))]), ["token_ids"])["token_ids"].values.numpy()
        scores = head.explain(ids[None]).values.sum(axis=0)  # type: ignore[attr-defined]
        return bool(scores[code] > np.delete(scores, code).max())

    for (row, _, predicted, _), n in zip(detail["wrong"], detail["evidence"]["ahead"], strict=True):
        words = re.findall(r"\w+", texts[row])
        assert n is not None
        assert ahead(words[:n], predicted)
        assert not any(ahead(words[:k], predicted) for k in range(1, n))
    assert "ahead" not in told["tfidf_linear"]["evidence"]


def test_tokens_of_a_language_model_are_named_as_they_are_read(tmp_path: Path) -> None:
    backbone = load(str(save(tmp_path, "bert")))
    ids = np.unique(np.array(backbone._tokenizer("the cat \u05de")["input_ids"]))  # type: ignore[union-attr]
    assert sorted(backbone.words_of(ids, [])) == sorted(["[CLS]", "[SEP]", "[UNK]", "the", "cat"])  # type: ignore[union-attr]
