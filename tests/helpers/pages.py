"""What the README and the pages of `docs/` print: files, Python, commands, links and names of tests."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)$")
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml|csv))$")
MARK = re.compile(r"^<!-- (run|run slowly) -->$")


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    Attributes:
        page: Where.
        line: Of the opening fence.
        language: `sh`, `python`, `yaml`, or another word.
        text: Without the fences.
        mark: `run` or `run slowly` where the line above the fence says so; else empty.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is the content of, as its first line says."""
        found = FILE.match(self.text.splitlines()[0]) if self.language in ("python", "yaml") and self.text else None
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Its lines that call `probe`, without comments; of text those that begin with it, as yamls open."""
        lines = [re.split(r"\s{2,}#|\s# ", line)[0].strip() for line in self.text.splitlines()]
        if self.language == "text":
            return [line for line in lines if line.startswith("probe ")]
        return [line for line in lines if self.language == "sh" and re.search(r"\bprobe(\.features\.extract)? ", line)]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    i = 0
    while i < len(lines):
        if (opening := FENCE.match(lines[i])) is None:
            assert not lines[i].lstrip().startswith("```"), f"{page}:{i + 1}: a fence that no test reads"
            i += 1
            continue
        end = lines.index("```", i + 1)
        above = MARK.match(lines[i - 1]) if i else None
        found.append(Block(page, i + 1, opening[1], "\n".join(lines[i + 1 : end]), above[1] if above else ""))
        i = end + 1
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    lines = page.read_text().splitlines()
    for block in blocks(page):
        for i in range(block.line - 1, block.line + len(block.text.splitlines()) + 1):
            lines[i] = ""
    return "\n".join(lines)


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end in."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in plain}


def calls(command: str) -> list[list[str]]:
    """The arguments of each `probe` in a line of the shell."""
    found = []
    for part in re.split(r" ; | && | \|\| ", command):
        words = shlex.split(part)
        starts = [i for i, word in enumerate(words) if word == "probe"]
        if "probe.features.extract" in words:
            found.append(["extract", *words[words.index("probe.features.extract") + 1 :]])
        elif starts and "mkdir" not in words:
            found.append(words[starts[0] + 1 :])
    return found


def name(page: Path) -> str:
    """A page as test ids show it."""
    return str(page.relative_to(ROOT))
