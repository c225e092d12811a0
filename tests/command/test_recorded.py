"""Run folders of strangers: what their records may have built, and where."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from probe.command import cli, recorded
from probe.command import config as building
from probe.core.errors import InputError, ProbeError
from probe.experiment import run as experiment
from probe.results.schema import dumps

BASE = ["backbone=identity", "dataset=iris", "head=ncm"]
STUDENT = ["backbone=identity", "dataset=iris", "head=dual_head_kd", "head.epochs=[1]"]
HEAD = """
from pathlib import Path
from probe.heads.ncm import NearestClassMean

Path("ran").touch()

class Mine(NearestClassMean):
    pass
"""
CALL = {"_target_": "subprocess.check_output", "args": ["touch", "ran"]}
MODULE = "probe.backbones.module.ModuleBackbone"
SKLEARN = "probe.heads.sklearn.SklearnHead"


def compose(*overrides: str) -> Any:
    with hydra.initialize_config_dir(str(building.CONF), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("made")
    config = compose(*BASE) | {"runs": str(cwd), "cache": str(cwd / "cache")}
    return experiment.run(building.build(config, "probe"))


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here" / "run")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    return Path("run")


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    result = json.loads((folder / "result.json").read_text())
    change(result["config"])
    (folder / "result.json").write_bytes(dumps(result))


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("backbone", {"_target_": MODULE, "target": "subprocess:check_output", "kwargs": CALL}, "backbone.target=subproc"),
    ("backbone", {"_target_": MODULE, "target": "net.pt", "trust": True}, "backbone.trust=True"),
    ("backbone", {"_target_": MODULE, "target": "torch.hub:load", "trust": True}, "backbone.target=torch.hub:load"),
    ("backbone", {"_target_": MODULE, "target": "timm:create_model"}, "backbone.target=timm:create_model"),
    ("backbone", CALL, "backbone._target_=subprocess.check_output"),
    ("backbone", {"_target_": "hydra.utils.call", "config": CALL}, "backbone._target_=hydra.utils.call"),
    ("backbone", {"_target_": "probe.backbones.module.import_path", "path": "os:system"}, "backbone._target_=probe.ba"),
    ("backbone", {"_target_": ["os.system"]}, "backbone._target_=['os.system']"),
    (
        "backbone",
        {"_target_": "probe.backbones.tiny.TinyBackbone", "checkpoint": CALL},
        "backbone.checkpoint._target_=",
    ),
    ("backbone", {"_target_": "probe.backbones.tiny.TinyBackbone", "taps": [[CALL]]}, "backbone.taps.0.0._target_="),
    (
        "backbone",
        {"_target_": "probe.backbones.timm.TimmBackbone", "model_kwargs": {"checkpoint_path": "a.pth"}},
        "backbone.model_kwargs.checkpoint_path=a.pth",
    ),
    ("head", {"_target_": "probe.heads.ncm.NearestClassMean", "_args_": [CALL]}, "head._args_="),
    ("head", {"_target_": "probe.heads.ncm.NearestClassMean", "_partial_": True}, "head._partial_=True"),
    ("head", {"_target_": "probe.heads.ncm.NearestClassMean", "metric": CALL}, "head.metric._target_=subprocess"),
    ("head", {"_target_": SKLEARN, "estimator": "os.system"}, "head.estimator=os.system"),
    ("head", {"_target_": SKLEARN, "params": {"memory": "pickles"}}, "head.params.memory"),
    ("head", {"_target_": SKLEARN, "params": {"C": CALL}}, "head.params.C._target_=subprocess"),
    ("head", {"_target_": "my_heads.Mine"}, "head._target_=my_heads.Mine"),
    ("head", {"_target_": "probe.trackers.wandb.WandbTracker"}, "head._target_=probe.trackers"),
    ("dataset", CALL, "dataset._target_=subprocess"),
    ("dataset", {"_target_": "probe.datasets.sklearn.load", "name": CALL}, "dataset.name._target_=subprocess"),
    ("protocol", {"_target_": "probe.protocols.long_tail.LongTail", "protocol": CALL}, "protocol.protocol._target_="),
    ("test_on", CALL, "test_on._target_=subprocess"),
    ("metric", {"f1": CALL}, "metric.f1._target_=subprocess"),
    ("metric", {"f1": {"_target_": "my_heads.Mine"}}, "metric.f1._target_=my_heads.Mine"),
    (
        "head",
        {"_target_": "probe.heads.dual_head_kd.DualHeadKD", "teacher": {"backbone": CALL, "head": CALL}},
        "head.teacher.backbone._target_=subprocess",
    ),
]


@pytest.mark.parametrize(("part", "node", "shown"), HOSTILE, ids=[shown for _, _, shown in HOSTILE])
def test_code_that_a_record_names_is_shown_and_not_run(
    run: Path, part: str, node: dict[str, Any], shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("my_heads.py").write_text(HEAD)
    edit(run, lambda config: config.update({part: node}))
    assert cli.subcommand("reproduce", [str(run)]) == 1
    told = capfd.readouterr().err
    assert f"the record in {run} wants code to be run that is not this package's: " in told
    assert shown in told
    assert "if you trust whoever made the folder, say so: probe reproduce --trust, or trust=true where it" in told
    if part in ("backbone", "head"):
        with pytest.raises(InputError, match="wants code to be run"):
            building.build(compose(*STUDENT, f"head.teacher={run}"), "probe")
    assert not Path("ran").exists()


def test_of_the_packages_own_choices_none_but_module_asks_for_trust(run: Path) -> None:
    asking = set()
    for group in ("backbone", "dataset", "protocol", "head"):
        for yaml in sorted((building.CONF / group).glob("*.yaml")):
            config = compose(*BASE, f"{group}={yaml.stem}")
            try:
                recorded.check(config, run, building.CONF, trust=False)
            except InputError:
                asking.add(yaml.stem)
    assert asking == {"module"}


@pytest.mark.parametrize("experiment_name", sorted(p.stem for p in (building.CONF / "experiment").glob("*.yaml")))
def test_the_runs_of_the_packages_own_experiments_are_reproduced_without_trust(run: Path, experiment_name: str) -> None:
    config = compose(f"experiment={experiment_name}")
    recorded.check(config, run, building.CONF, trust=False)


def test_pipelines_of_the_experiments_are_reproduced_without_trust(run: Path) -> None:
    paths = ["sklearn.preprocessing.MinMaxScaler", "probe.heads.ncm.NearestClassMean"]
    edit(run, lambda config: config.update(head={"_target_": SKLEARN, "estimator": paths, "params": None}))
    assert cli.subcommand("reproduce", [str(run)]) == 1  # another head, so another result


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a${seed}", "${oc.create:{a: 1}}", "\\${x}"])
@pytest.mark.parametrize("place", ["metric", "device"])
def test_interpolations_of_a_record_are_never_resolved(run: Path, text: str, place: str) -> None:
    edit(run, lambda config: config["head"].update({place: text}))
    for trust in ([], ["--trust"]):
        with pytest.raises(InputError, match=r"holds .*\$\{.*, and a run records what such a text stood for"):
            cli_reproduce(run, *trust)
    with pytest.raises(InputError, match="and a run records what such a text stood for"):
        building.build(compose(*STUDENT, f"head.teacher={run}"), "probe")


def cli_reproduce(*words: object) -> int:
    from probe.command.subcommands import reproduce

    return reproduce([str(word) for word in words])


def test_places_of_a_record_are_ignored(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    places = {name: str(outside / name) for name in ("name", "runs", "cache")}
    edit(run, lambda config: config.update(places, force=False, save_rows=True, tracker=CALL, hydra={"run": CALL}))
    before = {path for path in Path().rglob("*")}
    assert cli_reproduce(run) == 0
    assert not outside.exists()
    assert {path for path in Path().rglob("*")} == before
    assert (tmp_path / "cache" / "features").exists()


def test_the_cache_is_that_of_the_command(run: Path, tmp_path: Path) -> None:
    assert cli_reproduce(run, "--cache", tmp_path / "mine") == 0
    assert (tmp_path / "mine" / "features").exists()
    assert not (tmp_path / "cache").exists()


def test_nothing_is_downloaded_to_where_a_record_says(run: Path, tmp_path: Path) -> None:
    node = {
        "_target_": "probe.datasets.torchvision.load",
        "name": "mnist",
        "root": str(tmp_path / "out"),
        "download": True,
    }
    edit(run, lambda config: config.update(dataset=node))
    with pytest.raises(ProbeError, match="torchvision found no whole MNIST"):
        cli_reproduce(run)
    assert not (tmp_path / "out").exists()


def test_a_head_of_ones_own_is_reproduced_with_trust(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("my_trusted_heads.py").write_text(HEAD)
    config = compose(*BASE) | {"runs": "runs", "name": "own", "head": {"_target_": "my_trusted_heads.Mine"}}
    own = experiment.run(building.build(config, "probe"))
    assert cli.subcommand("reproduce", [str(own)]) == 1
    assert "head._target_=my_trusted_heads.Mine; if you trust" in capfd.readouterr().err
    assert cli_reproduce(own, "--trust") == 0
    teacher = [*STUDENT, f"head.teacher='{own}'"]
    with pytest.raises(InputError, match=r"head\._target_=my_trusted_heads\.Mine; if you trust .* trust=true where"):
        building.build(compose(*teacher), "probe")
    assert building.build(compose(*teacher, "trust=true"), "probe").teacher is not None


def test_a_teacher_of_this_package_needs_no_trust(run: Path) -> None:
    request = building.build(compose(*STUDENT, f"head.teacher={run}"), "probe")
    assert request.teacher is not None
    assert type(request.teacher.head).__name__ == "NearestClassMean"


@pytest.mark.parametrize("node", [None, {}, {"name": "x"}, ["a"], "text"])
def test_a_record_without_a_target_gets_one_sentence(run: Path, node: Any) -> None:
    edit(run, lambda config: config.update(backbone=node if node is not None else {}))
    with pytest.raises(InputError, match="says not what its backbone is: give a complete run"):
        cli_reproduce(run)
