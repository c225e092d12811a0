"""The `probe` command from outside: real subprocesses, their files read back."""

import csv
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import command
from pages import blocks, calls
from PIL import Image
from places import ROOT
from safetensors.numpy import load_file
from sklearn.metrics import accuracy_score

from probe.heads.shared.head import Head


def probe(*words: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    answer = command(words, cwd, env)
    assert answer.returncode == expect, answer.stdout + answer.stderr
    return answer


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    cwd = tmp_path_factory.mktemp("a sweep, Ω")
    answer = probe("-m", "name=t", "dataset=digits,breast_cancer", "head=ncm,naive_bayes", "seed=0,1", cwd=cwd)
    return cwd / "runs" / "t", answer.stdout


def run_folders(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob("*/result.json"))


def test_a_sweep_leaves_one_folder_per_run_and_a_ranked_table(sweep: tuple[Path, str]) -> None:
    folder, printed = sweep
    assert len(run_folders(folder)) == 8
    with (folder / "leaderboard.csv").open() as file:
        assert len(list(csv.reader(file))) > 2
    assert "ncm" in (folder / "leaderboard.md").read_text()
    assert "naive_bayes" in printed
    assert "8 done" in printed


def test_reported_accuracy_is_that_of_the_saved_predictions(sweep: tuple[Path, str]) -> None:
    for run in run_folders(sweep[0]):
        result = json.loads((run / "result.json").read_text())
        rows = load_file(run / "predictions.safetensors")
        top1 = result["metrics"]["top1"]
        assert top1["value"] == pytest.approx(accuracy_score(rows["label"], rows["predicted"]))
        assert top1["low"] < top1["value"] <= top1["high"]
        assert ((rows["label_rank"] == 0) == (rows["label"] == rows["predicted"])).all()
        assert (rows["logits"].argmax(axis=1) == rows["predicted"]).all()
        assert len(rows["row"]) == result["protocol"]["n_test"]


def test_every_head_is_tested_on_the_same_rows(sweep: tuple[Path, str]) -> None:
    results = [json.loads((run / "result.json").read_text()) for run in run_folders(sweep[0])]
    for dataset in ("digits", "breast_cancer"):
        of_dataset = [r for r in results if r["labels"]["dataset"] == dataset]
        assert len({r["dataset"]["test_rows"] for r in of_dataset}) == 1
        for seed in (0, 1):
            assert len({r["protocol"]["rows"] for r in of_dataset if r["seed"] == seed}) == 1


def test_a_saved_head_predicts_again(sweep: tuple[Path, str]) -> None:
    run = next(r for r in run_folders(sweep[0]) if "breast_cancer" in r.name)
    head = Head.load(run / "head.safetensors")
    assert head.logits(np.zeros((3, head.n_features_in_), np.float32)).shape == (3, 2)


def test_a_complete_run_is_not_run_again(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    before = {run: (run / "result.json").stat().st_mtime_ns for run in run_folders(folder)}
    # Spelled differently, the same run: defaults written out.
    answer = probe("name=t", "head=ncm", "head.metric=euclidean", "protocol=full", cwd=folder.parent.parent)
    assert "complete already" in answer.stdout
    assert before == {run: (run / "result.json").stat().st_mtime_ns for run in run_folders(folder)}


def test_same_command_same_bits(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    cwd = folder.parent.parent
    probe("name=again", "head=naive_bayes", cwd=cwd)
    (again,) = run_folders(cwd / "runs" / "again")
    first = folder / again.name
    assert (first / "predictions.safetensors").read_bytes() == (again / "predictions.safetensors").read_bytes()


def test_one_failed_job_does_not_stop_a_sweep(sweep: tuple[Path, str]) -> None:
    cwd = sweep[0].parent.parent
    answer = probe("-m", "name=f", "head=ncm", "head.metric=nonsense,cosine", cwd=cwd, expect=1)
    assert len(run_folders(cwd / "runs" / "f")) == 1
    assert "nonsense" in answer.stderr
    assert "1 failed" in answer.stdout
    assert not list((cwd / "runs" / "f").glob("*/error.txt"))  # it was refused, nothing had begun


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dataset=iris", "backbone=tiny"], "backbone=identity"),
        (["head=nonsense"], "linear"),
        (["leaderbord"], "use one of leaderboard"),
        (["head.cs=[1]"], "head has no cs: did you mean Cs?"),
        (["+head.cs=[1]"], "head has no cs, expected one of Cs, "),
        (["head.Cs=many"], "head.Cs is 'many', expected a whole number or a list of numbers"),
        (["+sed=1"], "the configuration has no sed, and nothing would read it: did you mean seed?"),
        (["nam=x"], "the configuration has no nam: did you mean name?"),
        (["name=" + 300 * "x"], "(300 bytes), expected at most 255: give a shorter name"),
        (["-m", "name=" + 300 * "x"], "(300 bytes), expected at most 255: give a shorter name"),
        (["dataset=folder", "dataset.path=nowhere"], "nowhere"),
        (["dataset=iris", f"cache={__file__}"], "test_cli.py is a file, and the cache is to stand there: set cache="),
        (["dataset=iris", "features.batch_size=0"], "features.batch_size is 0: give 1 or more"),
        (["dataset=iris", "dataset@test_on=wine"], "that dataset iris does not know"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    env = os.environ | {"PROBE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    answer = command(words, tmp_path, env)
    assert answer.returncode != 0
    assert sentence in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "runs").exists()


def test_numbers_and_brackets_are_names(tmp_path: Path) -> None:
    write_images(tmp_path / "1e3" / "train", 3, np.random.default_rng(0))
    write_images(tmp_path / "1e3" / "test", 2, np.random.default_rng(1))
    more = ["dataset=folder", "dataset.path=1e3", "dataset.name=true", "head=ncm"]
    probe("name=[1e3]", *more, cwd=tmp_path)
    (run,) = run_folders(tmp_path / "runs" / "[1e3]")
    assert json.loads((run / "result.json").read_text())["labels"]["dataset"] == "true"
    assert "true" in probe("leaderboard", "runs/[1e3]", cwd=tmp_path).stdout


def test_vectors_are_read_as_they_are_where_no_backbone_is_named(tmp_path: Path) -> None:
    rows = [f"{i % 2 + i / 100},{i % 3},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["x,y,label", *rows]))
    answer = probe("dataset=csv", "dataset.path=table.csv", "protocol=holdout", "head=ncm", cwd=tmp_path)
    assert "the rows are vectors, which backbone=identity reads" in answer.stderr
    (run,) = run_folders(tmp_path / "runs" / "default")
    result = json.loads((run / "result.json").read_text())
    assert result["labels"]["backbone"] == "identity"
    assert result["config"]["backbone"] == {"_target_": "probe.backbones.identity.IdentityBackbone"}
    assert "same bits" in probe("reproduce", str(run), cwd=tmp_path).stdout


def test_an_error_is_forgotten_once_the_same_job_succeeds(tmp_path: Path) -> None:
    (tmp_path / "brittle.py").write_text(
        "from pathlib import Path\nfrom probe.heads.ncm import NearestClassMean\n\n\n"
        "class Brittle(NearestClassMean):\n    def fit(self, X, y, *, validation=None):\n"
        "        assert Path('mended').exists()\n        return super().fit(X, y, validation=validation)\n"
    )
    words = ["dataset=iris", "head=ncm", "head._target_=brittle.Brittle"]
    probe(*words, cwd=tmp_path, expect=1)
    (error,) = (tmp_path / "runs" / "default").glob("*/error.txt")
    assert "AssertionError" in error.read_text()
    (tmp_path / "mended").touch()
    probe(*words, cwd=tmp_path)
    assert not error.parent.exists()


def test_the_version_is_told(tmp_path: Path) -> None:
    from probe import __version__

    assert probe("--version", cwd=tmp_path).stdout == f"probe {__version__}\n"


def test_one_dataset_trains_and_another_tests_and_the_record_reproduces_it(tmp_path: Path) -> None:
    probe(
        "dataset=iris", "dataset@test_on=iris", "test_on.test_fraction=0.3", "head=ncm", "calibrate=true", cwd=tmp_path
    )
    (run,) = run_folders(tmp_path / "runs" / "default")
    result = json.loads((run / "result.json").read_text())
    assert result["labels"]["dataset"] == "iris to iris"
    assert result["protocol"]["n_test"] == 45
    assert result["calibration"]["n_held_out"] == 12
    assert "same bits" in probe("reproduce", str(run), cwd=tmp_path).stdout


def test_several_shifted_sets_are_columns_of_their_own_and_the_record_of_each_reproduces_it(tmp_path: Path) -> None:
    for name, shift in {"own": 0.0, "near": 0.5, "far": 1.0}.items():
        rng, y = np.random.default_rng(len(name)), np.arange(90) % 3
        X = (rng.normal(size=(90, 3)) + 2 * np.eye(3)[y] + shift).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x_train=X[:45], y_train=y[:45], x_test=X[45:], y_test=y[45:])
    words = ["dataset=npz", "dataset.path=own.npz", "dataset@test_on=[near:npz,far:npz]", "test_on.near.path=near.npz",
             "test_on.far.path=far.npz", "head=ncm,lda,ridge"]  # fmt: skip
    answer = probe("-m", *words, cwd=tmp_path)
    found = [(json.loads((run / "result.json").read_text())["labels"], run)
             for run in run_folders(tmp_path / "runs" / "default")]  # fmt: skip
    assert sorted({labels["dataset"] for labels, _ in found}) == ["own", "own to far", "own to near"]
    assert len(found) == 9
    assert "own to near" in answer.stdout
    (one,) = (run for labels, run in found if labels["dataset"] == "own to far" and labels["head"] == "lda")
    assert "same bits" in probe("reproduce", str(one), cwd=tmp_path).stdout
    line = probe("leaderboard", "runs/default", "--robustness", cwd=tmp_path).stdout
    assert "Effective robustness, own to near" in line
    assert line.count("lda") == 2


def write_images(folder: Path, n: int, rng: np.random.Generator) -> None:
    for colour, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 120, (20, 24, 3), dtype=np.uint8)
            pixels[..., colour] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_an_image_folder_and_an_undecodable_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_images(tmp_path / "data" / "train", 12, rng)
    write_images(tmp_path / "data" / "test", 6, rng)
    words = ["dataset=folder", "dataset.path=data", "head=ncm"]
    answer = probe(*words, cwd=tmp_path)
    assert re.search(r"top1 .* 1\.0000", answer.stdout)

    (tmp_path / "data" / "train" / "red" / "3.png").write_bytes(b"no image")
    (tmp_path / "data" / "test" / "red" / "copy.png").write_bytes((tmp_path / "data/train/red/5.png").read_bytes())
    answer = probe(*words, "name=broken", cwd=tmp_path, expect=1)
    assert "3.png" in answer.stderr
    answer = probe(*words, "name=broken", "features.on_error=skip", cwd=tmp_path)
    (run,) = run_folders(tmp_path / "runs" / "broken")
    assert json.loads((run / "result.json").read_text())["skipped_rows"] == {"test": 0, "train": 1}
    assert json.loads((run / "result.json").read_text())["leakage"] == {"test": 1}
    assert "leakage: 1 test row of data is a copy of training rows" in answer.stdout
    printed = probe("leaderboard", "runs/broken", cwd=tmp_path).stdout
    assert "Leakage: 1 test row of data is a copy of training rows." in printed


def test_the_readmes_own_head_runs_beside_ours(tmp_path: Path) -> None:
    for block in blocks(ROOT / "README.md"):
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text + "\n")
        (words,) = [calls(c)[0] for c in block.commands if "--config-dir" in c] or [None]
        if words:
            assert "majority" in probe(*words, cwd=tmp_path).stdout
    (run,) = (tmp_path / "runs" / "default").glob("*majority*")
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["top1"]["value"] == pytest.approx(0.1, abs=0.03)
    with pytest.raises(ValueError, match="load a head of your own with its class"):
        Head.load(run / "head.safetensors")


def test_a_limited_run_says_so_and_shares_no_column_with_full_ones(tmp_path: Path) -> None:
    for words in (["limit=30"], []):
        probe("dataset=iris", "head=ncm", *words, cwd=tmp_path)
    (small,) = (tmp_path / "runs/default").glob("*limit=30*")
    (full,) = (f for f in run_folders(tmp_path / "runs/default") if f != small)
    of_small, of_full = (json.loads((f / "result.json").read_text()) for f in (small, full))
    assert of_small["dataset"]["name"] == of_small["labels"]["dataset"] == "iris(limit=30)"
    assert sum(of_small["protocol"][f"n_{part}"] for part in ("train", "validation", "test")) == 60
    assert of_full["protocol"]["n_test"] == 75
    assert set(of_small["features"].values()).isdisjoint(of_full["features"].values())
    header = next(line for line in probe("leaderboard", "runs", cwd=tmp_path).stdout.splitlines() if "rank" in line)
    assert header.split() == ["backbone", "head", "rank", "iris", "iris(limit=30)"]
    assert "same bits" in probe("reproduce", str(small), cwd=tmp_path).stdout
