"""A metric is a plug-in: a file and a yaml from outside, and nothing else, make it a number of runs and tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from probe.command.cli import subcommand
from probe.command.config import build, compose
from probe.core.errors import InputError
from probe.experiment.run import run_once
from probe.leaderboard.command import main
from probe.metrics.shared.metric import Metric, check_own, known
from probe.results.reader import read_result

CODE = """
from probe.metrics.shared.metric import Metric

def regret(power=1.0):
    return Metric(name="regret", per_row=lambda s: (1 - s.confidence) ** power, better="lower", signed=False)
"""
YAML = "regret:\n  _target_: my_metrics.regret\n  power: 2.0\n"
WORDS = ["backbone=identity", "dataset=iris", "device=cpu"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "metric").mkdir(parents=True)
    (tmp_path / "conf" / "metric" / "regret.yaml").write_text(YAML)
    (tmp_path / "my_metrics.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    sys.modules.pop("my_metrics", None)


def made(own: Path, *words: str) -> Path:
    return run_once(build(compose([*WORDS, *words], str(own / "conf")), "probe"))[0]


def test_a_metric_from_a_config_dir_is_measured_kept_and_ranks(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for head in ("ncm", "lda"):
        folder = made(own, f"head={head}", "metric=regret")
    found = read_result(folder)
    assert 0 < found["metrics"]["regret"]["value"] < 1
    assert found["own_metrics"]["regret"]["better"] == "lower"
    sys.modules.pop("my_metrics")  # whoever reads the runs need not have the code
    assert main(["runs", "--metric", "regret"]) == 0
    told = capsys.readouterr().out
    assert "regret (lower is better)" in told
    assert told.index("lda") < told.index("ncm")


def test_runs_with_it_are_other_runs_and_an_edit_of_its_code_makes_another(own: Path) -> None:
    without, with_it = made(own, "head=ncm"), made(own, "head=ncm", "metric=regret")
    assert without.name != with_it.name
    (own / "conf" / "metric" / "regret.yaml").write_text(YAML.replace("2.0", "3.0"))
    assert made(own, "head=ncm", "metric=regret").name not in (without.name, with_it.name)
    (own / "conf" / "metric" / "regret.yaml").write_text(YAML)
    assert made(own, "head=ncm", "metric=regret").name == with_it.name
    (own / "my_metrics.py").write_text(CODE + "# edited\n")
    assert made(own, "head=ncm", "metric=regret").name != with_it.name


def test_a_run_with_it_is_reproduced_where_its_code_is_trusted(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = made(own, "head=ncm", "metric=regret")
    assert subcommand("reproduce", [str(folder)]) == 1
    assert "metric.regret._target_=my_metrics.regret" in capfd.readouterr().err
    assert subcommand("reproduce", [str(folder), "--trust"]) == 0
    assert "same bits" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("regret", "'regret' is no Metric: let the yaml's _target_ name a function that returns one"),
        (Metric(name="top1", per_row=lambda s: s.confidence), "metric top1 is one of this package: give it another"),
        (Metric(name="a", reads="colour", per_row=lambda s: s), "metric a reads 'colour': choose one of captions, cl"),
        (
            Metric(name="a", interval="jackknife", per_row=lambda s: s),
            "interval 'jackknife': bootstrap and wilson",
        ),
        (Metric(name="a", interval=lambda s, m, seed: None), "gives rows a part or says in `unranked` why not"),
    ],
)
def test_a_metric_that_could_not_be_measured_is_refused(metric: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_own([metric])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"better": "less"}, "metric a: better is 'less', expected one of higher, lower, target: correct its record"),
        ({"better": "target"}, "target is None"),
        ({"target": 0.5}, "target is 0.5"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Metric(name="a", per_row=np.ones, **changes)


def test_what_a_run_says_of_a_metric_is_plain_json() -> None:
    for metric in known().values():
        assert json.loads(json.dumps(metric.facts)) == metric.facts
    nearest = Metric(name="bias", per_row=np.ones, better="target", target=0.0)
    assert nearest.facts["target"] == 0.0
    assert nearest.badness(-0.5) == 0.5
