"""`probe ensemble`: from run folders to run folders, and what cannot be combined."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import probe
from probe.command import cli
from probe.core import tensors
from probe.core.errors import InputError
from probe.experiment.ensembles.combining import KINDS
from probe.experiment.ensembles.ensemble import combine
from probe.experiment.ensembles.members import read_member, temperatures
from probe.leaderboard.reading import read_run
from probe.metrics.evaluate import evaluate
from probe.results.reader import checked_head, read_predictions, read_result, read_validation
from probe.results.schema import HEAD, PREDICTIONS, VALIDATION, dumps, file_facts

HEADS = ["linear", "lda", ("ridge", {"alphas": [0.1, 10.0]}), "ncm"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four heads, two seeds, on wine."""
    root = tmp_path_factory.mktemp("made")
    probe.sweep(datasets="wine", heads=HEADS, seeds=[0, 1], runs=root, cache=root / "default/cache", quiet=True)
    return root / "default"


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROBE_CACHE", str(made / "cache"))
    return Path(shutil.copytree(made, tmp_path / "runs"))


def of(root: Path, head: str, seed: int = 0) -> Path:
    (found,) = root.glob(f"*-{head}-s{seed}-*")
    return found


def members_of(root: Path) -> list[Path]:
    return [of(root, head) for head in ("ridge", "ols", "quantile")]


def rewrite(folder: Path, name: str = PREDICTIONS, **changes: np.ndarray) -> None:
    """Changes arrays of a run, as somebody would who knows its digests."""
    arrays = tensors.read(folder / name)[0] | changes
    (folder / name).write_bytes(tensors.to_bytes(arrays))
    result = json.loads((folder / "result.json").read_text())
    result["files"][name] = file_facts((folder / name).read_bytes())
    (folder / "result.json").write_bytes(dumps(result))


def edit(folder: Path, **changes: object) -> None:
    result = json.loads((folder / "result.json").read_text()) | changes
    (folder / "result.json").write_bytes(dumps(result))


def test_an_ensemble_is_a_run_whose_metrics_follow_from_its_predictions(runs: Path) -> None:
    probe.ensemble(runs, ["mean", "median"], where="head=linear,lda")
    for kind in ("mean", "median"):
        folder = of(runs, kind)
        record, arrays, result = read_run(folder), read_predictions(folder), read_result(folder)
        assert record["head"] == f"{kind} of 2"
        assert record["backbone"] == "identity"
        for name, interval in evaluate(arrays["logits"], arrays["label"]).items():
            assert result["metrics"][name]["value"] == pytest.approx(interval.value, abs=1e-12)
        digests = [read_result(of(runs, head))["run"]["digest"] for head in ("lda", "linear")]
        assert result["members"] == sorted(digests)


def test_the_table_reads_ensembles_as_it_reads_runs(runs: Path) -> None:
    board = probe.ensemble(runs, where="head=linear,lda")
    assert sorted(board.frame["head"]) == ["lda", "linear", "mean of 2"]
    assert (board.frame["n_seeds"] == 2).all()
    again = probe.table(runs)
    assert set(again.frame["head"]) > {"mean of 2", "ncm"}
    for kind in ("csv", "md", "json", "tex", "html"):
        assert cli.subcommand("leaderboard", [str(runs), f"--{kind}", str(runs / f"t.{kind}")]) == 0
        assert "mean of 2" in (runs / f"t.{kind}").read_text()


def test_each_ensemble_is_compared_with_its_best_member(runs: Path) -> None:
    board = probe.ensemble(runs, ["mean", "vote"], where="head=linear,lda")
    assert [comparison.a for comparison in board.comparisons] == ["identity mean of 2", "identity vote of 2"]
    assert {comparison.b for comparison in board.comparisons} <= {"identity linear", "identity lda"}
    told = "\n".join(board.notes)
    assert "The best member of identity mean of 2 is identity" in told
    assert "on the test rows, which favours it" in told  # lda chose on no row
    assert "McNemar" in told
    weighted = probe.ensemble(runs, "weighted", where="head=linear,ridge*")
    assert "chosen on the validation rows" in "\n".join(weighted.notes)


@pytest.mark.parametrize("kind", ["mean", "median", "weighted"])
def test_an_ensemble_of_one_run_twice_is_this_run(runs: Path, kind: str) -> None:
    member = read_member(of(runs, "linear"))
    found = combine([member, member], kind)
    log_p = KINDS[kind](found.on_test, *([found.weights] if found.weights is not None else []))
    np.testing.assert_allclose(np.exp(log_p)[np.arange(len(log_p)), member.test["label"]],
                               member.test["label_probability"], atol=1e-6)  # fmt: skip
    np.testing.assert_array_equal(log_p.argmax(axis=1), member.test["predicted"])


@pytest.fixture(scope="module")
def of_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("numbers")
    heads = ["ridge", "ols", ("quantile", {"levels": [0.5]})]
    probe.sweep(datasets="linnerud", heads=heads, runs=root, cache=root / "cache", quiet=True)
    return root / "default"


@pytest.mark.parametrize("kind", ["mean", "median", "weighted"])
def test_numbers_are_combined_as_they_are(of_numbers: Path, kind: str) -> None:
    members = [read_member(of(of_numbers, head)) for head in ("ridge", "ols")]
    if kind == "weighted":
        with pytest.raises(InputError, match="kept no predictions of validation rows"):
            combine([*members], kind)
        return
    board = probe.ensemble(of_numbers, kind)
    folder = of(of_numbers, kind)
    arrays = read_predictions(folder)
    expected = getattr(np, kind)([read_predictions(f)["predicted"] for f in members_of(of_numbers)], axis=0)
    np.testing.assert_allclose(arrays["predicted"], expected)
    assert set(board.frame["head"]) > {f"{kind} of 3"}
    with pytest.raises(InputError, match="has numbers to predict, of which there is no vote: use kind mean or median"):
        probe.ensemble(of_numbers, "vote")


def test_several_labels_are_combined_label_by_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)).astype(np.float32)
    Y = (X[:, :3] + rng.normal(size=(300, 3)) > 0).astype(np.int64)
    heads = ["linear", "majority_class", ("knn", {"ks": [5]})]
    probe.sweep(datasets=((X, Y), {"name": "three"}), heads=heads, protocols="holdout", seeds=[0],
                runs=tmp_path, quiet=True)  # fmt: skip
    board = probe.ensemble(tmp_path, "mean", where="head=linear,knn*")
    arrays = read_predictions(of(tmp_path / "default", "mean"))
    p = [1 / (1 + np.exp(-read_predictions(of(tmp_path / "default", h))["logits"])) for h in ("linear", "knn")]
    np.testing.assert_allclose(1 / (1 + np.exp(-arrays["logits"].astype(float))), np.mean(p, axis=0), rtol=1e-4)
    assert "mean of 2" in set(board.frame["head"])


def test_a_second_call_finds_the_ensemble_and_the_order_of_folders_makes_no_other(runs: Path) -> None:
    folders = [of(runs, "linear"), of(runs, "lda")]
    probe.ensemble(folders)
    before = (of(runs, "mean") / "result.json").read_bytes()
    board = probe.ensemble(folders[::-1])
    assert (of(runs, "mean") / "result.json").read_bytes() == before
    assert any("there already" in note for note in board.notes)


def test_poisoned_test_rows_change_no_weight(runs: Path) -> None:
    folders = [of(runs, "linear"), of(runs, "ridge")]
    before = combine(map(read_member, folders), "weighted").weights
    for folder in folders:
        logits = read_predictions(folder)["logits"]
        rewrite(folder, logits=np.random.default_rng(0).normal(size=logits.shape).astype(np.float32))
    np.testing.assert_array_equal(combine(map(read_member, folders), "weighted").weights, before)


def test_other_validation_rows_change_the_weights(runs: Path) -> None:
    folders = [of(runs, "linear"), of(runs, "ridge")]
    before = combine(map(read_member, folders), "weighted").weights
    arrays = read_validation(folders[0])
    assert arrays is not None
    rewrite(folders[0], VALIDATION, logits=-arrays["logits"])
    assert np.abs(combine(map(read_member, folders), "weighted").weights - before).max() > 0.1


def test_scores_that_are_no_log_probabilities_are_calibrated_on_rows_that_the_fit_did_not_see(runs: Path) -> None:
    members = [read_member(of(runs, head)) for head in ("linear", "ridge")]
    assert members[0].record["log_probabilities"] is True
    assert members[1].record["log_probabilities"] is False
    plain, ridge = temperatures(members)
    assert plain == 1
    assert ridge != 1
    edit(of(runs, "ridge"), calibration={"temperature": 0.25})
    assert temperatures([read_member(of(runs, "ridge"))]) == [0.25]


def test_scores_that_cannot_be_calibrated_are_refused_by_name_and_every_remedy_works(runs: Path) -> None:
    with pytest.raises(InputError, match=r"the logits of identity-wine-full-ncm-s0-\w+ are no log-probabilities, and "
                       r"there are no held-out rows to calibrate them by: run them with calibrate=true, leave them out "
                       r"\(--where 'head!=ncm'\), or take --kind vote"):  # fmt: skip
        probe.ensemble(runs)
    probe.ensemble(runs, where="head!=ncm")
    probe.ensemble(runs, "vote")
    for seed in (0, 1):
        probe.run(dataset="wine", head="ncm", seed=seed, calibrate=True, runs=runs, name="c", quiet=True)
    probe.ensemble([runs / "c", of(runs, "linear"), of(runs, "linear", 1)])


def test_weights_without_validation_predictions_are_refused_by_name(runs: Path) -> None:
    with pytest.raises(InputError, match=r"identity-wine-full-lda-s0-\w+ kept no predictions of validation rows, which "
                       r"weights are chosen on: leave them out \(--where 'head!=lda'\)"):  # fmt: skip
        probe.ensemble(runs, "weighted", where="head=lda,linear")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("row", np.arange(89), "other test rows"), ("label", np.zeros(90, np.int64), "other test labels")],
)
def test_other_rows_or_labels_are_refused_by_name(runs: Path, name: str, value: np.ndarray, told: str) -> None:
    folder = of(runs, "lda")
    n = len(read_predictions(folder)["row"])
    rewrite(folder, **{name: np.resize(value, n) + (name == "row")})
    members = [read_member(of(runs, head)) for head in ("linear", "lda")]
    with pytest.raises(InputError, match=rf"identity-wine-full-l\w+-s0-\w+ has {told} than identity-wine-full-l\w+-s0"):
        combine(members, "mean")


def test_other_datasets_protocols_seeds_and_classes_are_refused_together(runs: Path) -> None:
    other = probe.run(dataset="iris", head="linear", seed=2, runs=runs, quiet=True).folder
    members = [read_member(of(runs, "linear")), read_member(other)]
    with pytest.raises(InputError, match="another dataset and other classes and another seed and other test rows"):
        combine(members, "mean")


def test_a_lone_run_is_refused(runs: Path) -> None:
    with pytest.raises(
        InputError, match="no two of the 2 runs that are no controls have dataset, protocol and seed in common"
    ):
        probe.ensemble([of(runs, "linear"), of(runs, "linear", 1)])
    with pytest.raises(InputError, match="an ensemble takes at least two runs, there is identity-wine"):
        combine([read_member(of(runs, "linear"))], "mean")


def test_ensembles_are_no_members_and_no_teachers_and_have_no_head(runs: Path) -> None:
    probe.ensemble(runs, where="head!=ncm")
    board = probe.ensemble(runs, where="head!=ncm")
    assert sum(board.frame["head"].str.startswith("mean")) == 1
    folder = of(runs, "mean")
    with pytest.raises(InputError, match="is an ensemble itself: give the runs that it is made of"):
        read_member(folder)
    with pytest.raises(InputError, match=f"wrote no {HEAD}: give the folder of a run that did"):
        checked_head(folder)
    with pytest.raises(InputError, match=r"teacher .* is an ensemble, which has no fitted head"):
        probe.run(dataset="wine", head=("dual_head_kd", {"teacher": str(folder)}), runs=runs, quiet=True)


def test_reproduce_says_how_an_ensemble_is_made_again(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    probe.ensemble(runs, where="head=linear,lda")
    assert cli.subcommand("reproduce", [str(of(runs, "mean"))]) == 1
    assert "is an ensemble of 2 runs: reproduce these, and combine them again with probe ensemble" in (
        capfd.readouterr().err
    )


def test_runs_that_kept_no_logits_are_refused_with_the_way_out(runs: Path) -> None:
    kept = probe.run(dataset="wine", head="lda", save_logits=False, runs=runs, name="n", quiet=True)
    with pytest.raises(InputError, match="kept no logits: run it again with save_logits=true and force=true"):
        probe.ensemble([kept, of(runs, "linear")])


def test_several_backbones_are_one_row(runs: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    mine = (network, {"size": 8, "mean": [0.5], "std": [0.5], "name": "mine"})
    made = [probe.run(backbone, "digits", "lda", limit=60, runs=runs, quiet=True) for backbone in ("tiny", mine)]
    board = probe.ensemble(made)
    assert "2 backbones mean of 2" in set(board.table.ranking["row"])
    result = read_result(next(runs.glob("default/2_backbones-*")))
    assert result["backbone"]["n_parameters"] == sum(read_result(m.folder)["backbone"]["n_parameters"] for m in made)


def test_ensembles_of_several_datasets_and_backbones_each_have_a_best_member_of_their_own(runs: Path) -> None:
    for head in ("linear", "lda"):
        probe.run("tiny", "digits", head, limit=60, runs=runs, quiet=True)
    board = probe.ensemble(runs, where="head=linear,lda")
    found = {comparison.a: comparison.b for comparison in board.comparisons}
    assert found.keys() == {"identity mean of 2", "tiny mean of 2"}
    assert all(b.split()[0] == a.split()[0] for a, b in found.items())


def test_the_command_tells_what_it_wrote_and_where(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [str(runs), "--where", "head=linear,lda", "--kind", "mean,median", "--into", str(runs / "more")]
    assert cli.subcommand("ensemble", words) == 0
    told = capfd.readouterr().out
    assert told.count(f"wrote: {runs / 'more'}") == 4
    assert "identity mean of 2 against identity" in told
    assert cli.subcommand("ensemble", [str(runs), "--kind", "geometric"]) == 1
    assert "kind 'geometric' is unknown, expected one of mean, median, vote, weighted" in capfd.readouterr().err
