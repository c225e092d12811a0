"""The `probe` command: `probe a=b …` runs, `probe -m a=b,c …` sweeps, `probe <word> …` is a subcommand."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from probe.command import added, help, scoped, sweep
from probe.command.config import CONF, instantiate
from probe.command.explaining import explained
from probe.command.job import carry_out
from probe.command.launchers import missing_launcher
from probe.command.process import begin, process
from probe.command.values import quoted
from probe.core.errors import ProbeError
from probe.core.terminal import last_words, tell
from probe.core.version import __version__
from probe.core.writing import sentence

TRACEBACK = "HYDRA_FULL_ERROR"
# word: function(argv) -> exit code
SUBCOMMANDS = {
    "leaderboard": "probe.command.subcommands:leaderboard",
    "cache": "probe.features.command:main",
    "ensemble": "probe.command.ensembles:main",
    "describe": "probe.command.subcommands:describe",
    "check": "probe.command.subcommands:check",
    "extract": "probe.command.subcommands:extract",
    "reproduce": "probe.command.subcommands:reproduce",
}


COLLECTED = (50_000, 20, 100)
"""Garbage is looked for less often: imports and configurations make many objects, and nearly all of them stay."""


@last_words()
def main() -> None:
    """Entry point of the console script."""
    words = sys.argv[1:]
    if words in (["--version"], ["version"]):
        tell(f"probe {__version__}")
        return
    # Workers and jobs begin with `python -m` or `-c`, which look into the working folder first unless told otherwise.
    os.environ["PYTHONSAFEPATH"] = "1"
    if words and not words[0].startswith("-") and "=" not in words[0]:
        sys.exit(subcommand(words[0], words[1:]))
    if set(words) & set(help.ASKED):
        tell(*help.text(words).splitlines())
        return
    gc.set_threshold(*COLLECTED)
    begin()
    try:
        sys.argv[1:] = own_words(quoted(words))
    except ProbeError as error:
        tell(f"probe: {error}", error=True)
        sys.exit(1)
    wants_traceback = os.environ.get(TRACEBACK) == "1"
    os.environ[TRACEBACK] = "1"  # so that Hydra raises what it would explain otherwise, with remedies that are none
    try:
        hydra_app()
        code = process.exit_code if process.notes is None else end_sweep(process.notes)
    except KeyboardInterrupt:
        code = interrupted()
    except SystemExit as stop:
        if not was_interrupted(stop):
            raise
        code = interrupted()
    except Exception as error:
        if wants_traceback:
            raise
        code = interrupted() if was_interrupted(error) else ended_early(error)
    finally:
        process.end()
        if not wants_traceback:
            del os.environ[TRACEBACK]  # nor for whoever calls this from Python
    sys.exit(code)


def own_words(words: Sequence[str]) -> list[str]:
    """The words that Hydra reads; settings of single choices of a sweep are kept for its jobs."""
    folders = help.config_folders(words)
    added.check(words, folders)
    if not set(words) & {"-m", "--multirun"}:
        return scoped.applied(words, folders)
    plain, process.scoped = scoped.split(words, folders)
    scoped.check(plain, process.scoped)
    return plain


def ended_early(error: Exception) -> int:
    """Tells why there is no run, or why a sweep did not reach its end."""
    if launcher := missing_launcher(error):
        tell("", f"probe: {launcher}", error=True)
    elif isinstance(error, HydraException | OmegaConfBaseException):
        tell(f"probe: {explained(error)}", error=True)
    elif said := sentence(error):
        tell(f"probe: {said}", error=True)
    else:
        tell(*"".join(traceback.format_exception(error)).splitlines(), error=True)
    if became := process.became_of_sweep(error):
        tell("", f"probe: {became}", error=True)
    return 1


def interrupted() -> int:
    tell("", f"probe: interrupted{process.left_behind}; the same command goes on with what is missing", error=True)
    return 130


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: omegaconf, in the middle of a copy, fails on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def subcommand(word: str, argv: Sequence[str]) -> int:
    if word not in (*SUBCOMMANDS, "completion"):
        tell(
            f"probe: '{word}' is no subcommand: use one of {', '.join(SUBCOMMANDS)}, completion, "
            f"or write overrides as group=name (see probe --help)",
            error=True,
        )
        return 2
    try:
        if word == "completion":
            from probe.command import completion

            return completion.main(argv, SUBCOMMANDS)
        module, _, function = SUBCOMMANDS[word].partition(":")
        return int(getattr(importlib.import_module(module), function)(list(argv)))
    except (ProbeError, OSError, HydraException) as error:
        said = explained(error) if isinstance(error, HydraException) else sentence(error)
        if said is None:
            raise
        tell(f"probe {word}: {said}", error=True)
        return 1


def end_sweep(notes: Path) -> int:
    try:
        return sweep.report(notes, instantiate(process.tracker))
    except ProbeError as error:
        tell(f"probe: {error}", error=True)
        return 1


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def hydra_app(config: DictConfig) -> None:
    """One job, composed by Hydra; failures are recorded, never raised, so that a sweep goes on."""
    if multiprocessing.parent_process() is not None:  # Ctrl-C ends the launching process, which ends its workers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    carry_out(config)  # by name alone: this function goes to other processes with all that it refers to
