"""The house rules that a machine can check: who may import whom, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "probe"
# Each module may import from the lines below its own, never from its own line.
LAYERS = [
    {"__main__", "commands"},
    {"cli"},
    {"building"},
    {"sweep", "slurm", "ray_jobs"},
    {"experiment", "extracting", "leaderboard", "trackers", "describe"},
    {"calibration"},
    {"request", "prompts"},
    {"determinants", "fitting", "tasks", "transfer"},
    {"record", "protocols", "heads", "features", "merging"},
    {"backbones", "datasets", "metrics", "teacher", "views", "distillation"},
    {"moments", "linalg", "second_moment", "minibatch", "frozen", "partitions", "checkpoints", "programs"},
    {"estimator", "images", "pixels", "outputs", "files", "labels", "subsets", "taps"},
    {"targets", "facts", "passes", "gpu", "saving"},
    {"hashing", "finite"},
    {"arrays"},
    {"base", "errors"},
    {"__init__"},
]
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def layer(name: str) -> int:
    for i, names in enumerate(LAYERS):
        if name in names:
            return i
    raise AssertionError(f"probe.{name} stands in no layer: add it to LAYERS")


def imported(path: Path) -> set[str]:
    """Dotted names below `probe.` that a file imports, type-checking imports aside."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    skipped = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return {name.removeprefix("probe.") for name in names if name.startswith("probe.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    for name in imported(path):
        other = name.split(".")[0]
        if other.startswith("__version__") or (other == own and (path.parent != PACKAGE)):
            continue
        assert layer(other) > layer(own), f"{path.relative_to(ROOT)} imports probe.{name}"


@pytest.mark.parametrize("group", ["heads", "backbones", "datasets", "protocols", "trackers"])
def test_plugins_do_not_import_each_other(group: str) -> None:
    plugins = {p.stem for p in (ROOT / "conf" / group.rstrip("s")).glob("*.yaml")}
    for path in (PACKAGE / group).glob("*.py"):
        siblings = {name.split(".")[1] for name in imported(path) if name.startswith(f"{group}.")} & plugins
        siblings -= {"full"}  # protocols that change the rows of another one change those of `full` unless told
        assert not siblings or path.stem not in plugins, f"{path.name} imports {siblings}"


def test_only_the_command_and_what_builds_its_objects_import_hydra() -> None:
    for path in MODULES:
        if path.name not in ("cli.py", "building.py"):
            assert "import hydra" not in path.read_text(), path
            assert "from hydra" not in path.read_text(), path


def test_importing_probe_imports_nothing_heavy() -> None:
    code = "import sys, probe; print([m for m in ('torch', 'numpy', 'sklearn', 'timm', 'hydra') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_command_line_reads_without_torch() -> None:
    code = "import sys, probe.cli; print([m for m in ('torch', 'sklearn', 'timm', 'wandb') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
