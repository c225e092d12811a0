"""What lies in the working folder: imported where a configuration asks for it, and never otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ["backbone=identity", "dataset=iris", "head=ncm"]
INSTALLED = [
    "PIL", "hydra", "hydra_plugins", "joblib", "matplotlib", "numpy", "omegaconf", "open_clip",
    "pandas", "pyarrow", "rich", "safetensors", "scipy", "skops", "sklearn",
    "threadpoolctl", "timm", "torch", "torchvision", "tqdm", "transformers", "wandb", "xxhash",
    "yaml",
]  # fmt: skip
STANDARD = [
    "argparse", "csv", "dataclasses", "json", "logging", "multiprocessing", "pickle", "random",
    "shlex", "socket", "tempfile",
]  # fmt: skip
ABSENT = [
    "apex", "cupy", "ipykernel", "triton_nowhere", "usercustomize", "xformers",
]  # fmt: skip
TRAP = "from pathlib import Path\nPath({mark!r}).open('a').write(__name__ + ' ')\n"
OWN = """
from torch import nn
from probe.heads.ncm import NearestClassMean

class Mine(NearestClassMean):
    pass

def build():
    from my_layers import width
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    command(folder, *RUN, "name=t")
    return folder / "runs" / "t"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder in which every module that a command might import is a trap."""
    here = tmp_path / "downloaded"
    here.mkdir()
    trap = TRAP.format(mark=str(tmp_path / "sprung"))
    for name in (*INSTALLED, *STANDARD, *ABSENT):
        (here / f"{name}.py").write_text(trap)
    for package in ("hydra_plugins", "evil"):
        (here / package).mkdir()
        (here / package / "evil.py").write_text(trap)
    (here / "evil-1.dist-info").mkdir()
    (here / "evil-1.dist-info" / "entry_points.txt").write_text("[torch.backends]\nevil = evil.evil:load\n")
    (here / "evil-1.dist-info" / "METADATA").write_text("Name: evil\nVersion: 1\n")
    return here


def command(cwd: Path, *words: str, start: tuple[str, ...] = ("-m", "probe"), expect: int = 0) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env |= {"PROBE_CACHE": str(cwd.parent / "cache"), "PYTHONPATH": path}
    answer = subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, cwd=cwd, env=env)
    assert answer.returncode == expect, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["leaderboard", "{runs}", "--html", "page.html", "--plots", "plots"],
        ["cache", "ls"],
        ["reproduce", "{run}"],
        ["describe", *RUN],
        ["extract", *RUN],
        RUN,
        ["-m", *RUN, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["-m", *RUN, "seed=0,1", "hydra/launcher=submitit_local"],
        ["backbone=tiny", "dataset=digits", "limit=60", "head=ncm", "features.n_workers=2"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_no_command_imports_what_lies_in_the_working_folder(runs: Path, folder: Path, words: list[str]) -> None:
    (run,) = (path.parent for path in runs.glob("*/result.json"))
    command(folder, *(word.format(runs=runs, run=run) for word in words))
    assert not (folder.parent / "sprung").exists(), (folder.parent / "sprung").read_text()


def test_nor_does_the_installed_script(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "probe").write_text("from probe.command.cli import main\nmain()\n")
    command(folder, *RUN, start=(str(tmp_path / "bin" / "probe"),))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("module", ["probe.features.extract", "probe"])
def test_nor_do_the_processes_of_torchrun(folder: Path, module: str) -> None:
    run = ("-P", "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", module)
    command(folder, *(["extract"] if module == "probe" else []), *RUN, start=run)
    assert not (folder.parent / "sprung").exists(), (folder.parent / "sprung").read_text()


@pytest.mark.slow
def test_nor_do_the_tasks_of_ray(folder: Path) -> None:
    pytest.importorskip("ray")
    command(folder, "extract", *RUN, "extract.engine=ray", "extract.address=local", "extract.workers=2")
    assert not (folder.parent / "sprung").exists(), (folder.parent / "sprung").read_text()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "head").mkdir(parents=True)
    (tmp_path / "conf" / "head" / "mine.yaml").write_text("_target_: my_models.Mine\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my_models.py").write_text(OWN)
    (tmp_path / "here" / "my_layers.py").write_text("width = 5\n")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "words",
    [
        ["head=mine", *RUN[:2]],
        ["-m", "head=mine,ncm", *RUN[:2], "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["-m", "head=mine,ncm", *RUN[:2], "hydra/launcher=submitit_local"],
    ],
    ids=["run", "joblib", "submitit"],
)
def test_a_head_beside_the_user_is_found(own: Path, words: list[str]) -> None:
    command(own, "--config-dir", str(own.parent / "conf"), *words)
    assert len(list(own.glob("runs/default/*/result.json"))) == (2 if "-m" in words else 1)


@pytest.mark.parametrize("word", [[], ["extract"], ["describe"]], ids=str)
def test_a_network_beside_the_user_and_what_it_imports_are_found(own: Path, word: list[str]) -> None:
    backbone = ["backbone=module", "backbone.target=my_models:build", "backbone.size=8"]
    command(own, *word, *backbone, "dataset=digits", "limit=60", "head=ncm")


def test_a_network_that_an_installed_module_hides_is_told_of(own: Path) -> None:
    (own / "my_models.py").rename(own / "timm.py")
    told = command(own, "backbone=module", "backbone.target=timm:build", "dataset=digits", "head=ncm", expect=1)
    assert "timm:build cannot be imported" in told
    assert "; timm.py is another one, which the installed timm hides: give it another name" in " ".join(told.split())
