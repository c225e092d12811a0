"""`probe …` in a process of its own for every command, forked from one that has imported what commands import.

What a command is told and tells is that of `python -m probe`; what imports cost, most of its time, is paid once for all
tests of a process. Tests of imports themselves, of signals and of threads start Python.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""After which a command is taken to hang."""
IMPORTED = [
    "matplotlib.pyplot", "pandas", "pyarrow.parquet", "sklearn.datasets", "probe.backbones.identity",
    "probe.backbones.tiny", "probe.command.cli", "probe.command.describe", "probe.command.subcommands",
    "probe.datasets.folder", "probe.datasets.sklearn", "probe.experiment.run", "probe.features.command",
    "probe.features.store", "probe.heads.lda", "probe.heads.linear", "probe.heads.ncm", "probe.heads.ridge",
    "probe.leaderboard.command", "probe.protocols.few_shot", "probe.protocols.full", "probe.protocols.holdout",
]  # fmt: skip


def command(words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What `python -m probe` with these words leaves: its exit code, and what it said."""
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        asked = {"words": list(words), "cwd": str(cwd), "env": dict(env), "files": [str(file) for file in files]}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        said = [file.read_bytes().decode() for file in files]
    return subprocess.CompletedProcess(["probe", *words], code, *said)


@functools.cache
def _server() -> Any:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
    )
    atexit.register(server.communicate)
    return server


def _import() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("hydra.core.plugins").Plugins.instance()
    gc.collect()
    gc.freeze()  # what all share: no child looks through it


def _serve() -> dict[str, Any] | None:
    """What is asked, in the child that is to do it; None at the end of the parent."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return dict(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def _become(asked: dict[str, Any]) -> None:
    """This process as a fresh Python would be that was started so."""
    signal.alarm(SECONDS)
    nothing = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in asked["files"]]
    for number, file in enumerate([nothing, *files]):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    paths = [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.getcwd(), *paths, *(path for path in sys.path[1:] if path not in paths)]
    sys.argv[:] = ["probe", *asked["words"]]


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not the folder of the helpers, which a command does not see
    _import()
    if (asked := _serve()) is not None:
        _become(asked)
        runpy.run_module("probe", run_name="__main__", alter_sys=True)
