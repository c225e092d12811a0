"""The house rules that a machine can check: who may import whom, and what an import may cost."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "probe"
# Each room may import from the lines below its own, never from its own line.
LAYERS = [
    {"command"},
    {"experiment", "leaderboard"},
    {"ood"},
    {"trackers", "heads"},
    {"protocols", "features", "backbones", "datasets", "metrics"},
    {"results"},  # a format of files, which knows nothing of what fills it
    {"core"},
]
BESIDE = {"__init__": "command", "__main__": "command", "estimator": "heads"}
"""Modules beside the rooms, and the room whose rights each has."""
PLUGINS = {"heads", "backbones", "datasets", "protocols", "trackers"}
DOORS = {"metrics": {"evaluate"}, "ood": set()}
"""Modules at the top of a folder of plug-ins that are none: what its callers call."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def layer(name: str) -> int:
    for i, names in enumerate(LAYERS):
        if BESIDE.get(name, name) in names:
            return i
    raise AssertionError(f"probe.{name} stands in no layer: add it to LAYERS")


def imported(path: Path) -> set[str]:
    """Dotted names below `probe.` that a file imports or names in a string; type-checking imports aside."""
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
        elif isinstance(node, ast.Constant) and re.fullmatch(r"probe(\.\w+)+(:\w+)?", str(node.value)):
            names.add(str(node.value).replace(":", "."))
    return {name.removeprefix("probe.") for name in names if name.startswith("probe.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    for name in imported(path):
        other = name.split(".")[0]
        if other == own or BESIDE.get(own) == other:
            continue
        assert layer(other) > layer(own), f"{path.relative_to(ROOT)} imports probe.{name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_plugins_share_does_not_know_the_plugins(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) < 3 or parts[0] not in PLUGINS | set(DOORS):
        return
    for name in imported(path):
        other = name.split(".")
        if other[0] == parts[0] and name != ".".join(parts):
            assert (PACKAGE / parts[0] / other[1]).is_dir(), f"{path.relative_to(ROOT)} imports probe.{name}"


@pytest.mark.parametrize("group", sorted(PLUGINS))
def test_a_folder_of_plugins_holds_plugins_alone_at_its_top(group: str) -> None:
    yamls = "".join(p.read_text() for p in (ROOT / "conf" / group.rstrip("s")).glob("*.yaml"))
    named = set(re.findall(rf"_target_: probe\.{group}\.(\w+)", yamls))
    unnamed = {p.stem for p in (PACKAGE / group).glob("*.py")} - named - {"__init__"}
    assert not unnamed, f"{sorted(unnamed)} have no yaml: what plug-ins share stands in {group}/shared"


def test_a_family_of_metrics_is_a_file_that_nothing_names() -> None:
    for path in (PACKAGE / "metrics").glob("[!_]*.py"):
        if path.stem not in DOORS["metrics"]:
            assert "\nMETRICS" in path.read_text(), f"{path.name} has no METRICS: what families share stands in shared/"
    listed = [path for path in MODULES if "ranking" in {name.split(".")[-1] for name in imported(path)}]
    assert not listed


def test_no_circle_of_imports_between_modules() -> None:
    graph = {}
    for path in MODULES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = imported(path)
    known = set(graph) - {""}  # every import runs `probe/__init__`, which imports rooms only when a name is asked for
    edges = {
        name: {m for n in names for m in (n, n.rpartition(".")[0]) if m in known and m != name}
        for name, names in graph.items()
    }
    while leaves := {name for name, names in edges.items() if not names & set(edges)}:
        edges = {name: names for name, names in edges.items() if name not in leaves}
    assert not edges, f"modules that import each other: {sorted(edges)}"


def test_whether_labels_are_a_matrix_is_asked_in_the_room_of_targets_alone() -> None:
    asking = [p for p in MODULES if re.search(r"\b(labels|targets|codes|y)\.ndim == 2", p.read_text())]
    assert {p.parent for p in asking} == {PACKAGE / "core" / "targets"}


def test_only_what_asks_nobody_for_abilities_forwards_by_getattr() -> None:
    # From Python 3.12 on `isinstance` of a runtime protocol does not ask `__getattr__`: what is to have an ability has
    # it as an attribute of its own, as the partition with strata has its groups. The others stand for a stream and for
    # a loader of Hydra's.
    known = {"strata.py: _StratifiedPartition", "terminal.py: _Forgiving", "sweeper.py: Composed"}
    found = {
        f"{path.name}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef) and part.name == "__getattr__" for part in node.body)
    }
    assert found == known


def test_nothing_but_texts_and_settings_lies_at_the_top_level() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("no checkout")
    top = {Path(name) for name in listed.stdout.splitlines() if "/" not in name}
    assert not {p.name for p in top if p.suffix not in {".md", ".toml", ".yml", ".cff"}} - {".gitignore", "LICENSE"}


def test_few_modules_stand_beside_the_rooms() -> None:
    assert {p.stem for p in PACKAGE.glob("*.py")} <= set(BESIDE)


@pytest.mark.parametrize("group", ["heads", "backbones", "datasets", "protocols", "trackers"])
def test_plugins_do_not_import_each_other(group: str) -> None:
    plugins = {p.stem for p in (ROOT / "conf" / group.rstrip("s")).glob("*.yaml")}
    for path in (PACKAGE / group).glob("*.py"):
        siblings = {name.split(".")[1] for name in imported(path) if name.startswith(f"{group}.")} & plugins
        siblings -= {"full"}  # protocols that change the rows of another one change those of `full` unless told
        assert not siblings or path.stem not in plugins, f"{path.name} imports {siblings}"


def test_only_the_command_and_what_builds_its_objects_import_hydra() -> None:
    for path in MODULES:
        if room(path) != "command":
            assert "import hydra" not in path.read_text(), path
            assert "from hydra" not in path.read_text(), path


def test_no_module_takes_the_name_of_a_function_of_the_package() -> None:
    modules = ["probe." + ".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in MODULES]
    modules = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    code = (
        f"import importlib, probe\nfor name in {modules}: importlib.import_module(name)\n"
        "print([name for name in probe.__all__ if not callable(getattr(probe, name))], len(probe.__all__))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.stdout.strip() == "[] 6", answer.stderr


def test_importing_probe_imports_nothing_heavy() -> None:
    code = "import sys, probe; print([m for m in ('torch', 'numpy', 'sklearn', 'timm', 'hydra') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_command_line_reads_without_torch() -> None:
    code = (
        "import sys, probe.command.cli; print([m for m in ('torch', 'sklearn', 'timm', 'wandb') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
