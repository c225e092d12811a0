"""`probe --help`: what each choice of each group is, on one line, and all settings with their defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from probe.core.files import CONF
from probe.core.terminal import columns

HEADER = """\
probe: what does this frozen backbone already know?

probe backbone=tiny dataset=digits head=linear      one run
probe -m head=ncm,linear seed=0,1,2                 a sweep, ends with a ranked table
probe -m head=ncm,lda head.lda.shrinkage=0.1        a setting of one head among several
probe leaderboard runs/…                            tables from run folders
probe describe backbone=tiny dataset=digits         what a run would cost, and the layers that can be tapped
probe check backbone=tiny                           whether a backbone keeps its contract, before any run
probe extract backbone=tiny dataset=digits          features ahead of runs, by any number of processes
probe cache ls                                      features on disk
probe ensemble runs/…                               finished runs, combined
probe reproduce runs/…/<run>                        a run again, compared bit by bit
probe completion bash                               completion for bash, zsh or fish
"""
ASKED = ("--help", "-h")
HIDDEN = ("hydra",)
ORDER = ("backbone", "dataset", "head", "protocol", "tracker", "experiment")
DOCSTRING = re.compile(r'^[rf]?"""(.*?)(?:"""|\n)', re.MULTILINE)


def text(words: Sequence[str]) -> str:
    """The whole help; of choices that the words name, their parameters instead of all settings."""
    folders = config_folders(words)
    chosen = [(key, name) for key, _, name in (word.partition("=") for word in words) if (CONF / key).is_dir() and name]
    found = {group: choices(group, folders) for group in groups(folders)}
    width = columns()
    lines = [*HEADER.splitlines(), ""]
    for group, paths in found.items():
        lines += [f"{group}=", *_listed(paths, width), ""]
    parameters = [
        line for group, name in chosen if name in found[group] for line in _parameters(group, found[group][name])
    ]
    return "\n".join([*lines, *(parameters or _settings())])


def config_folders(words: Sequence[str]) -> list[Path]:
    """Where yamls lie: the package's folder, and the one that the words name."""
    found = [CONF]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            found.append(Path(value if equals else words[place + 1] if place + 1 < len(words) else "."))
    return found


def groups(folders: Sequence[Path]) -> list[str]:
    """All groups, the usual ones first."""
    there = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    there -= {name for name in there if name in HIDDEN or name.startswith((".", "_"))}
    return [*(name for name in ORDER if name in there), *sorted(there - set(ORDER))]


def choices(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The yamls of a group by name."""
    return {path.stem: path for folder in folders for path in sorted((folder / group).glob("*.yaml"))}


def first_line(path: Path) -> str:
    """What a yaml's comment says of it, else the module of what it builds."""
    lines = path.read_text("utf-8").splitlines()
    opening = [line.lstrip("# ") for line in lines if line.startswith("#")]
    if said := [line for line in opening if not line.startswith(("@package", "probe "))]:
        return said[0]
    target = next((line.partition(":")[2].strip() for line in lines if line.startswith("_target_:")), "")
    parts = target.split(".")
    for n in range(len(parts) - 1, 0, -1):
        module = CONF.parent.joinpath(*parts[:n]).with_suffix(".py")
        if module.is_file() and (found := DOCSTRING.search(module.read_text("utf-8"))):
            return found[1].strip()
    return target


def _listed(paths: dict[str, Path], width: int) -> Iterator[str]:
    broad = max(map(len, paths), default=0)
    for name, path in paths.items():
        line = f"  {name:{broad}}  {first_line(path)}"
        yield line if len(line) <= width else f"{line[: width - 1]}…"


def _parameters(group: str, path: Path) -> Iterator[str]:
    yield f"{group}={path.stem} (override with {group}.<key>=value)"
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith(("_target_", "defaults:", "  - ")):
            yield f"  {line}"
    yield ""


def _settings() -> list[str]:
    """The configuration as it stands in its file, comments and all, without what is Hydra's."""
    lines = (CONF / "config.yaml").read_text("utf-8").splitlines()
    return ["Settings (override with key=value)", *lines[lines.index("seed: 0") : lines.index("hydra:")]]
