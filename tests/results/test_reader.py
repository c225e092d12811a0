"""What a damaged, foreign or edited run folder says of itself."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import edit, write_run

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError, ProbeError
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run, run_once
from probe.experiment.teacher import fitted_logits, read_teacher
from probe.features.store import FeatureStore
from probe.heads.linear import LinearProbe
from probe.heads.shared.head import Head
from probe.leaderboard.index import read_folders
from probe.protocols.full import Full
from probe.protocols.shared.hardness import read_hardness
from probe.results.reader import find_complete, read_file, read_predictions, read_result, read_validation
from probe.results.schema import dumps


@pytest.fixture(scope="module")
def wine() -> Any:
    return load(name="wine")


@pytest.fixture(scope="module")
def made(wine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file that a run may have."""
    root = tmp_path_factory.mktemp("made")
    return run(request(wine, root, save_rows=True, calibrate=True))


def request(data: Any, root: Path, **changes: Any) -> Run:
    head, store = LinearProbe(Cs=[0.1, 1.0]), FeatureStore(root / "cache")
    config = {"head": {"_target_": "probe.heads.linear.LinearProbe"}}  # of which a teacher is built
    return Run(IdentityBackbone(), data, Full(), head, store, root / "runs", device="cpu", config=config, **changes)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs" / made.name)
    return tmp_path / "runs" / made.name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"result.json cannot be read \(No such file or directory\): give the folder of a complete run"),
        ("", "result.json is not JSON: half-written or edited; run it again with force=true"),
        ("{", "result.json is not JSON"),
        ("[]", "was not written by probe: it has no schema number"),
        ('"text"', "was not written by probe"),
        ('{"schema": 0}', "schema 0 is older, this version reads 2: run it again"),
        ('{"schema": 1, "run": {}}', "schema 1 is older"),
        ('{"schema": 3}', "schema 3 is unknown"),
        ('{"schema": 2}', "is not as the run wrote it: damaged or edited by hand; run it again with force=true"),
    ],
)
def test_foreign_results_are_no_runs(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        read_result(tmp_path)
    assert find_complete(tmp_path) is None


def test_the_empty_path_is_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path)
    monkeypatch.chdir(folder)
    assert read_result("") == read_result(folder)
    assert set(read_predictions("")) == set(read_predictions(folder))


def test_every_flipped_bit_of_a_record_is_told(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "result.json"
    whole = path.read_bytes()
    read_result(path.parent)
    for place in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_result(path.parent)


def test_determinants_that_are_not_those_of_the_digest_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    edit(folder, seed=7, run=read_result(folder)["run"])
    with pytest.raises(InputError, match=r"has the digest '[0-9a-f]{32}', which its config, .*seed.* do not give"):
        read_result(folder)


def test_a_file_of_the_same_size_is_read_only_where_it_is_the_same(copy: Path) -> None:
    for name in read_result(copy)["files"]:
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert find_complete(copy) is not None  # the size alone is looked at, which is cheap
        with pytest.raises(InputError, match=f"{name} is half-written or damaged: run it again with force=true"):
            read_file(copy, name)
        path.write_bytes(whole)
        assert read_file(copy, name) == whole


def test_a_file_that_no_run_wrote_is_not_there(copy: Path) -> None:
    with pytest.raises(InputError, match=r"wrote no notes.txt: give the folder of a run that did"):
        read_file(copy, "notes.txt")


def test_a_damaged_head_predicts_nothing(copy: Path) -> None:
    path = copy / "head.safetensors"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(InputError):
            Head.load(path)


def test_a_damaged_run_does_not_tell_how_hard_rows_are(copy: Path, wine: Any) -> None:
    path = copy / "predictions.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cannot tell how hard rows are: predictions.safetensors is half-written"):
        read_hardness(copy.parent, wine)


def test_a_run_without_its_predictions_is_made_again(wine: Any, tmp_path: Path) -> None:
    folder, is_new = run_once(request(wine, tmp_path))
    assert (is_new, run_once(request(wine, tmp_path))[1]) == (True, False)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}
    (folder / "predictions.safetensors").unlink()
    assert run_once(request(wine, tmp_path)) == (folder, True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"} == before


def numbers(folder: Path, data: Any, rows: str) -> list[Any]:
    """All numbers that anybody reads of a run folder; of readers that refuse it, the sentence."""
    found: list[Any] = []
    sentences: list[str] = []

    def reading(read: Any) -> None:
        try:
            found.append(read())
        except ProbeError as error:
            found.append(InputError)
            sentences.append(str(error))

    reading(lambda: read_result(folder)["metrics"])
    reading(lambda: {name: array.tobytes() for name, array in read_predictions(folder).items()})
    reading(lambda: {name: array.tobytes() for name, array in (read_validation(folder) or {}).items()})
    reading(lambda: Head.load(folder / "head.safetensors").logits(np.ones((1, 13))).tobytes())
    reading(lambda: read_file(folder, "rows.json"))
    reading(
        lambda: fitted_logits(
            read_teacher(folder, fingerprint=data.fingerprint, class_names=data.class_names),
            np.ones((3, 13)),
            [0, 1, 2],
            rows=rows,
        ).tobytes()
    )
    assert "\n" not in "".join(sentences)
    # A table passes over what it cannot count, and says so.
    with contextlib.suppress(ProbeError):
        found.append(read_folders([folder]).frame.filter(like="metric.").to_numpy().tolist())
    return found


@pytest.mark.slow
def test_three_hundred_damages_end_in_sentences_and_change_no_number(made: Path, wine: Any, tmp_path: Path) -> None:
    dice, rows = random.Random(0), read_result(made)["protocol"]["rows"]
    expected = numbers(made, wine, rows)
    assert InputError not in expected
    for number in range(300):
        folder = tmp_path / str(number) / made.name
        shutil.copytree(made, folder)
        path = folder / dice.choice(sorted(p.name for p in folder.iterdir()))
        content = bytearray(path.read_bytes())
        place, length = dice.randrange(len(content)), dice.choice([1, 8, 64, 4096])
        match dice.choice(["flip", "cut", "zeros", "noise", "gone", "longer", "insert"]):
            case "flip":
                content[place] ^= 1 << dice.randrange(8)
            case "cut":
                del content[place:]
            case "zeros":
                content[place : place + length] = bytes(len(content[place : place + length]))
            case "noise":
                content[place : place + length] = dice.randbytes(len(content[place : place + length]))
            case "longer":
                content += dice.randbytes(length)
            case "insert":
                content[place:place] = dice.randbytes(length)
            case "gone":
                path.unlink()
                content = bytearray()
        if content:
            path.write_bytes(content)
        for was, found in zip(expected, numbers(folder, wine, rows), strict=False):
            assert found in (was, InputError), path.name
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", [float("nan"), 10**400, [1], None, "0"])
def test_odd_determinants_are_a_sentence(tmp_path: Path, seed: Any) -> None:
    folder = write_run(tmp_path)
    result = read_result(folder)
    for changes in (
        {"config": {"a": seed}},
        {"run": {**result["run"], "determinants": [seed]}},
        {"run": {"name": seed}},
    ):
        (folder / "result.json").write_bytes(dumps(result | changes))
        with pytest.raises(InputError, match="edited by hand"):
            read_result(folder)
