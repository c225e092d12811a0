"""Writes `docs/reference/`: every choice of every group with its parameters, from the yamls and docstrings.

Run it after a change of either: `python docs/tables.py`. A test holds the pages and the code equal.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
REFERENCE = Path(__file__).parent / "reference"
GROUPS = {
    "head": "What is fitted on features. [When to use which](../heads.md).",
    "backbone": "What gives features. [How to use your own](../backbones.md).",
    "dataset": "What rows and labels are read from. [How to use your own](../datasets.md).",
    "protocol": "Which rows train, validate and test. [What each is for](../protocols.md).",
    "tracker": "Where finished runs are reported besides their folders.",
}
WRITTEN = "<!-- Written by docs/tables.py from the yamls and docstrings: edit these. -->"
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")


@dataclass
class Described:
    """A docstring, taken apart."""

    text: str
    arguments: dict[str, str] = field(default_factory=dict)


def pages() -> dict[str, str]:
    """File name in `docs/reference/` -> its content."""
    groups = {f"{group}s.md": "\n".join(group_page(group, opening)) for group, opening in GROUPS.items()}
    return groups | {
        "experiments.md": "\n".join(experiments_page()),
        "metrics.md": "\n".join(metrics_page()),
        "configuration.md": "\n".join(configuration_page()),
    }


def group_page(group: str, opening: str) -> Iterator[str]:
    """One table of all choices, then each with its docstring and parameters."""
    choices = {path.stem: path for path in sorted((ROOT / "conf" / group).glob("*.yaml"))}
    yield from (f"# Reference: {group}s", "", WRITTEN, "", opening, "", f"| `{group}=` | what it is |", "|---|---|")
    for name, path in choices.items():
        yield f"| [`{name}`](#{name}) | {cell(first_line(path))} |"
    for name, path in choices.items():
        yield from choice(group, name, path)


def first_line(path: Path) -> str:
    """What the module of a choice says of itself, or what a preset's comment does."""
    if opening := comment(path):
        return opening[0]
    return (ast.get_docstring(ast.parse(module_of(target(path)).read_text())) or "").splitlines()[0]


def choice(group: str, name: str, path: Path) -> Iterator[str]:
    """A section on one yaml."""
    values = load(path)
    defined = target(path)
    module, described = module_of(defined), described_by(defined)
    yield from ("", f"## {name}", "", f"`{module.relative_to(ROOT)}`, `conf/{group}/{name}.yaml`")
    if inherited := [d for d in values.pop("defaults", []) if d != "_self_" and isinstance(d, str)]:
        yield from ("", f"A preset of [`{inherited[0]}`](#{inherited[0]}): {' '.join(comment(path))}")
    else:
        yield from ("", "```text", described.text, "```")
    values.pop("_target_", None)
    if values:
        yield from ("", f"| `{group}.…` | default | |", "|---|---|---|")
    for key, value in values.items():
        yield f"| `{key}` | `{spelled(value)}` | {cell(described.arguments.get(key, ''))} |"


def experiments_page() -> Iterator[str]:
    """Every experiment with its command and what to expect."""
    yield from ("# Reference: experiments", "", WRITTEN, "", "A sweep that is set up already: `probe -m experiment=…`.")
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        lines = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
        yield from ("", f"## {path.stem}", "", "```text", *lines[1:], "```")


def metrics_page() -> Iterator[str]:
    """Every metric by its record, and every family: a file, and what it measures."""
    from probe.metrics.shared.metric import known

    yield from ("# Reference: metrics", "", WRITTEN, "", "Every number comes with a 95 % interval; a run records all")
    yield from ("that suit its rows. [A metric of your own](../plugins/metric.md).", "")
    yield from ("| metric | of | better | unit | interval | ranks |", "|---|---|---|---|---|---|")
    for name, metric in known().items():
        interval = metric.interval if isinstance(metric.interval, str) else "its own"
        better = f"nearest {metric.target}" if metric.better == "target" else metric.better
        ranks = "yes" if metric.can_rank else "no"
        yield f"| `{name}` | {', '.join(metric.targets)} | {better} | {metric.unit} | {interval} | {ranks} |"
    for path in sorted((ROOT / "probe" / "metrics").glob("[!_]*.py")):
        tree = ast.parse(path.read_text())
        yield from ("", f"## {path.stem}", "", f"`probe/metrics/{path.name}`: {ast.get_docstring(tree)}", "")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
                yield f"- `{node.name}`: {cell((ast.get_docstring(node) or '').splitlines()[0])}"


def configuration_page() -> Iterator[str]:
    """The keys of a run that belong to no group."""
    text = (ROOT / "conf" / "config.yaml").read_text()
    text = text[text.index("\nseed:") + 1 : text.index("\nhydra:")].rstrip()
    yield from (
        "# Reference: configuration of a run",
        "",
        WRITTEN,
        "",
        "What is set beside the groups, by `key=value`:",
    )
    yield from ("", "```yaml", text, "```")


def load(path: Path) -> dict[str, Any]:
    """A yaml, in the order of its keys."""
    return dict(yaml.safe_load(path.read_text()))


def comment(path: Path) -> list[str]:
    """The comment that a yaml opens with."""
    lines = path.read_text().splitlines()
    opening = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return [line.removeprefix("#").strip() for line in opening]


def target(path: Path) -> str:
    """The `_target_` of a yaml, its own or that of the one that it builds on."""
    values = load(path)
    if "_target_" in values:
        return str(values["_target_"])
    return target(path.with_name(f"{values['defaults'][0]}.yaml"))


def module_of(defined: str) -> Path:
    """The file of a class or function."""
    return ROOT / (defined.rpartition(".")[0].replace(".", "/") + ".py")


def described_by(defined: str) -> Described:
    """The docstring of a class or function, with its arguments apart."""
    name = defined.rpartition(".")[2]
    for node in ast.parse(module_of(defined).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return taken_apart(ast.get_docstring(node) or "")
    raise LookupError(f"{defined} is not defined in its file")


def taken_apart(docstring: str) -> Described:
    """The running text of a Google-style docstring, and its arguments."""
    found, section, names = Described(""), "", []
    for line in docstring.splitlines():
        if SECTION.match(line):
            section = line[:-1]
        elif line and not line.startswith(" "):
            section = ""
        if not section:
            found.text += line + "\n"
        elif section == "Args" and (entry := re.match(r"^    ([\w, ]+): (.*)", line)):
            names = [name.strip() for name in entry[1].split(",")]
            found.arguments |= dict.fromkeys(names, entry[2])
        elif section == "Args" and line.startswith("     "):
            for name in names:
                found.arguments[name] += " " + line.strip()
    found.text = re.sub(r"\n{3,}", "\n\n", found.text).strip()
    return found


def spelled(value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(spelled(item) for item in value) + "]"
    words: tuple[tuple[Any, str], ...] = ((None, "null"), (True, "true"), (False, "false"))
    return next((word for constant, word in words if value is constant), str(value) or '""')


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").strip()


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, content in pages().items():
        (REFERENCE / name).write_text(content + "\n")
        print(f"wrote {REFERENCE.relative_to(ROOT) / name}")
