"""What computes a run is part of it: heads, protocols and teachers of one's own, through the command and in Python."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from commands import command
from places import ROOT

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run_once
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.protocols.full import Full

OWN = """
from probe.heads.ncm import NearestClassMean
{line}
class {name}(NearestClassMean):
    def _logits(self, X):
        return {factor} * super()._logits(X)
"""
PROTOCOL = """
from probe.protocols.full import Full
from dataclasses import replace

class Own(Full):
    name = "own"
    def split(self, dataset, seed):
        split = super().split(dataset, seed)
        return replace(split, train=replace(split.train, indices=split.train.indices[:{n}]))
"""


def own(name: str = "A", factor: str = "1", line: str = "") -> str:
    return OWN.format(name=name, factor=factor, line=line)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


def probe(*words: str, cwd: Path, expect: int = 0) -> str:
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "COLUMNS": "200", "PYTHONPATH": f"{ROOT}:{cwd}"}
    answer = command(words, cwd, env)
    assert answer.returncode == expect, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


def run(*words: str, cwd: Path) -> str:
    return probe("dataset=wine", "name=t", *words, cwd=cwd)


def results(cwd: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(cwd.glob("runs/t/*/result.json"))]


def scores(cwd: Path) -> set[float]:
    return {result["metrics"]["top1"]["value"] for result in results(cwd)}


def rows_apart(cwd: Path, note: str = "head.class") -> set[str]:
    printed = probe("leaderboard", "runs/t", cwd=cwd)
    assert f"Runs of one name that other code computed are rows of their own, by {note}." in " ".join(printed.split())
    return {f"{note}: {word}" for word in re.findall(r"[\w.]+:(?:KNN|A|B)\b", printed)}


def test_an_edited_head_is_run_again_as_a_row_of_its_own_and_a_head_as_it_was_is_not(here):
    words = ("head=ncm", "head._target_=mine.A")
    (here / "mine.py").write_text(own())
    assert "complete already" not in run(*words, cwd=here)
    assert "complete already" in run(*words, cwd=here)
    (here / "mine.py").write_text(own(factor="-1"))
    assert "complete already" not in run(*words, cwd=here)
    assert len(scores(here)) == 2
    rows_apart(here, "head.code")


def test_heads_of_one_name_in_two_folders_are_two_runs_and_rows_apart(here):
    (here / "conf" / "head").mkdir(parents=True)
    for folder, factor in (("p1", "1"), ("p2", "-1")):
        (here / folder).mkdir()
        (here / folder / "knn.py").write_text(own("KNN", factor))
        (here / "conf" / "head" / f"{folder}.yaml").write_text(f"_target_: {folder}.knn.KNN\n")
        answer = run(f"head={folder}", f"hydra.searchpath=[file://{here}/conf]", cwd=here)
        assert "complete already" not in answer
    assert len(scores(here)) == 2
    assert {result["head"]["class"] for result in results(here)} == {"p1.knn:KNN", "p2.knn:KNN"}
    assert rows_apart(here) == {"head.class: p1.knn:KNN", "head.class: p2.knn:KNN"}


def test_two_heads_of_one_file_are_two_rows_whatever_their_seeds(here):
    (here / "mine.py").write_text(own("A") + own("B", "-1"))
    for name, seeds in (("A", "0,1"), ("B", "2,3")):
        probe("-m", "dataset=wine", "name=t", "head=ncm", f"head._target_=mine.{name}", f"seed={seeds}", cwd=here)
    assert rows_apart(here) == {"head.class: mine:A", "head.class: mine:B"}


def test_protocols_of_one_name_with_other_code_share_no_column(here):
    for n in (60, 70):
        (here / "mine.py").write_text(PROTOCOL.format(n=n))
        run("head=ncm", "protocol._target_=mine.Own", cwd=here)
    assert len({result["protocol"]["code"] for result in results(here)}) == 2
    refused = probe("leaderboard", "runs/t", cwd=here, expect=1)
    assert "would mix 2 versions of a protocol's code (mine:Own " in refused
    way_out = re.search(r"--columns (\S+)", refused)[1]
    assert "mine:Own" in probe("leaderboard", "runs/t", "--columns", way_out, cwd=here)


def test_a_fitted_head_of_ones_own_can_teach(here):
    (here / "mine.py").write_text(own(factor="3"))
    run("head=ncm", "head._target_=mine.A", cwd=here)
    teacher = next(here.glob("runs/t/*/result.json")).parent
    student = ["head=dual_head_kd", "head.epochs=[2]", "head.learning_rates=[0.01]", "head.teacher_folds=null"]
    assert "top1" in run(*student, f"head.teacher={teacher}", "trust=true", cwd=here)


def test_teachers_of_one_name_with_other_code_make_two_students(here):
    teacher = "{backbone:{_target_:probe.backbones.identity.IdentityBackbone},head:{_target_:mine.A}}"
    student = ["head=dual_head_kd", "head.epochs=[2]", "head.learning_rates=[0.01]", f"head.teacher={teacher}"]
    for factor in ("1", "-1"):
        (here / "mine.py").write_text(own(factor=factor))
        assert "complete already" not in run(*student, cwd=here)


def test_a_head_that_nobody_can_read_again_is_run_anew_each_time_and_says_so(tmp_path):
    names = {"__name__": "typed"}
    exec(own(), names)
    request = Run(
        IdentityBackbone(), load("wine"), Full(), names["A"](), FeatureStore(tmp_path / "cache"), tmp_path / "runs",
        device="cpu",
    )  # fmt: skip
    found = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="the source of typed:A cannot be read, .*anew: write it into a file"):
            found.append(run_once(request))
    assert [is_new for _, is_new in found] == [True, True]
    assert found[0] == found[1]
    exec(own(factor="-1"), names)
    with pytest.warns(UserWarning, match="typed:A"):
        folder, _ = run_once(Run(**{**vars(request), "head": names["A"]()}))
    assert folder != found[0][0]


class OnTokens(Head):
    """Nearest class mean of the mean token; `consumes` is set by the tests."""

    consumes = ("tokens",)
    axes = 1

    def fit(self, X, y, *, validation=None):
        (X, codes), *_ = self._check_parts(X, y, validation)
        self.means_ = np.stack([self._pooled(X[np.flatnonzero(codes == k)]).mean(0) for k in range(len(self.classes_))])
        return self

    def _pooled(self, X):
        return np.asarray(X, np.float64).mean(self.axes)

    def _logits(self, X):
        return -((self._pooled(X)[:, None] - self.means_) ** 2).sum(-1)


class OnMap(OnTokens):
    """The same of a map."""

    consumes = ("map",)
    axes = (2, 3)


@pytest.mark.parametrize(("kind", "shape"), [(OnTokens, (5, 8)), (OnMap, (8, 2, 3))])
def test_a_head_that_reads_one_kind_alone_is_fitted_whatever_its_axes(kind, shape, tmp_path):
    rng, y = np.random.default_rng(0), np.arange(40) % 2
    X = (rng.normal(size=(40, *shape)) + y.reshape(-1, *[1] * len(shape))).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    head = kind().fit(X, y, validation=(X[:8], y[:8]))
    assert (head.predict(X) == y).mean() > 0.9
    np.testing.assert_allclose(kind().fit(stored, y).logits(stored), kind().fit(X, y).logits(X), rtol=1e-5)
    with pytest.raises(InputError, match=rf"{kind.consumes[0]} has shape \(40, 8\): give {len(shape) + 1} axes"):
        kind().fit(X.reshape(40, -1)[:, :8], y)
    with pytest.raises(InputError, match="was fitted on"):
        head.logits(rng.normal(size=(3, *(np.array(shape) + 1))))
    X[3] = np.nan
    with pytest.raises(InputError, match=kind.consumes[0]):
        kind().fit(X, y)


def test_a_head_on_tokens_alone_runs_through_the_command(here):
    body = Path(__file__).read_text().split("class OnTokens", 1)[1].split("class OnMap", 1)[0]
    imports = "import numpy as np\nfrom probe.heads.shared.head import Head\n\nclass OnTokens"
    (here / "mine.py").write_text(imports + body)
    (here / "head").mkdir()
    (here / "head" / "on_tokens.yaml").write_text("_target_: mine.OnTokens\n")
    words = ("backbone=tiny", "limit=100", "name=t", "head=on_tokens", f"hydra.searchpath=[file://{here}]")
    assert "top1" in probe("dataset=digits", *words, cwd=here)
    assert results(here)[0]["head"]["class"] == "mine:OnTokens"


def test_a_streaming_head_of_ones_own_is_merged_by_its_class(tmp_path):
    from probe.heads.shared.merging import load_part, merge_heads, save_part

    X, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    for i, rows in enumerate((slice(0, 20), slice(20, 40))):
        save_part(Own().partial_fit(X[rows], y[rows], classes=[0, 1]), tmp_path / str(i))
    merged = merge_heads([load_part(tmp_path / str(i), Own) for i in range(2)])
    assert isinstance(merged, Own)
    np.testing.assert_allclose(merged.logits(X), Own().fit(X, y).logits(X), rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match="load a head of your own with its class"):
        load_part(tmp_path / "0")
    plain = NearestClassMean().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(InputError, match=r"the class is .*Own"):
        merge_heads([plain, load_part(tmp_path / "0", Own)])


class Own(NearestClassMean):
    """A streaming head from outside the package."""
