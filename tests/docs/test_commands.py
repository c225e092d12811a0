"""Every `probe` command that the README, the documents and the experiments print is one that can be given."""

import argparse
import importlib.util
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from pages import PAGES, Block, blocks, calls, name
from places import CONF

from probe.command import config as building
from probe.command import scoped
from probe.command.cli import SUBCOMMANDS
from probe.command.values import sets_of_rows

COMMANDS = [(page, command) for page in PAGES for block in blocks(page) for command in block.commands]
OPTIONS_WITH_A_VALUE = {"--config-dir", "--sheet", "--batch-size", "--cache"}
LAUNCHERS = {"joblib": "hydra_joblib_launcher", "ray": "hydra_ray_launcher", "slurm": "hydra_submitit_launcher"}


@pytest.fixture(scope="module")
def own_files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """For every page a folder with the files that it shows."""
    folders = {}
    for page in PAGES:
        folders[page] = tmp_path_factory.mktemp("page")
        for block in blocks(page):
            write(block, folders[page])
    return folders


def write(block: Block, folder: Path) -> None:
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text + "\n")


def test_the_documents_print_commands() -> None:
    assert len(COMMANDS) > 60
    assert any(page.name == "README.md" for page, _ in COMMANDS)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{name(p)}: {c[:60]}" for p, c in COMMANDS])
def test_a_printed_command_can_be_given(
    page: Path, command: str, own_files: dict[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_files[page])
    for words in calls(command):
        if words and words[0] in SUBCOMMANDS and words[0] not in ("describe", "check", "extract"):
            parsed(words[0], words[1:])
        else:
            composed(words[1:] if words and words[0] in SUBCOMMANDS else words)


def parsed(word: str, words: list[str]) -> None:
    """Parses the options of a subcommand that reads no configuration."""
    if word == "reproduce":
        assert all(not w.startswith("-") or w in ("--trust", "--cache") for w in words)
        return
    from probe.command import ensembles
    from probe.features import command as cache
    from probe.leaderboard import command as leaderboard

    parser: argparse.ArgumentParser = {
        "leaderboard": leaderboard, "cache": cache, "ensemble": ensembles,
    }[word].parser()  # fmt: skip
    parser.parse_args([w.replace("…", "x") for w in words])


def composed(words: list[str]) -> None:
    """Composes the first job of a run or sweep; what a `…` stands for is left to the defaults."""
    folder, overrides = None, []
    for before, word in zip([None, *words], words, strict=False):
        if before == "--config-dir":
            folder = word
        if "=" in word and before not in OPTIONS_WITH_A_VALUE and "…" not in word:
            overrides.append(word)
        assert "=" in word or word.startswith(("-", "…")) or before in OPTIONS_WITH_A_VALUE, f"{word} is no override"
    overrides = [one for word in overrides for one in sets_of_rows(word)]
    overrides = [word for word in overrides if launcher_is_here(word, overrides)]
    overrides, settings = scoped.split(overrides, [CONF])
    scoped.check(overrides, settings)
    for one in settings:  # each is a setting of the choice that it names
        building.check(building.compose([f"{one.group}={one.choice}", one.values()[0]]))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        parts = parser.parse_overrides(overrides)
        firsts = [first(part) for part in parts]
    if folder:
        firsts.append(f"hydra.searchpath=[{Path(folder).absolute().as_uri()}]")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", firsts, return_hydra_config=True)
    if config.get("head") is not None and not any("experiment=" in word for word in overrides):
        plain = building.compose([word for word in firsts if "hydra" not in word.split("=")[0]], folder)
        building.check(plain)


def first(override: Override) -> str:
    """An override with the first of the values that it sweeps over."""
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def launcher_is_here(word: str, words: list[str]) -> bool:
    """Whether an override can be composed: those of a launcher need its package, which only its extra brings."""
    if "hydra/launcher" not in word and not word.lstrip("+").startswith("hydra.launcher"):
        return True
    chosen = next((w.partition("=")[2] for w in words if w.startswith("hydra/launcher=")), "")
    package = next(
        (p for key, p in LAUNCHERS.items() if chosen.startswith((key, "submitit" if key == "slurm" else key))), ""
    )
    return bool(package) and importlib.util.find_spec(f"hydra_plugins.{package}") is not None
