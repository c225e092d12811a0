"""What a sweep has to know of SLURM: whether a cluster answers, ahead of the first job, and what became of a job."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from probe.command import launchers
from probe.core.errors import InputError

SECONDS = 30.0


def check() -> str:
    """Returns a warning, or nothing, where jobs can be submitted from here.

    Raises:
        InputError: No SLURM here, or no controller that answers.
    """
    if missing := [name for name in ("sbatch", "srun") if shutil.which(name) is None]:
        raise InputError(
            f"this machine has no {' and no '.join(missing)}, with which SLURM takes jobs: start the sweep on a login "
            "node of the cluster, or take hydra/launcher=submitit_local"
        )
    code, said = _ask("scontrol", "ping")
    if code is not None and " is UP" not in said:
        raise InputError(
            f"no controller of SLURM answers ({said.partition(chr(10))[0] or 'scontrol ping says nothing'}): see "
            "`scontrol ping` and SLURM_CONF, or take hydra/launcher=submitit_local"
        )
    code, said = _ask("sacct", "--noheader", "--allocations", "--starttime=now")
    if code != 0:
        return (
            "this cluster keeps no account of jobs (sacct does not answer): one that dies without a word is waited for "
            "until you press Ctrl-C; `squeue --me` shows those that live"
        )
    return ""


def _ask(*words: str) -> tuple[int | None, str]:
    """The exit code of a command of SLURM and what it said; None where it is not there or does not end."""
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return answer.returncode, answer.stdout.strip() or answer.stderr.strip()


class Launcher(launchers.Launcher):
    """Jobs through submitit and sbatch."""

    target = "SlurmLauncher"

    def before(self, config: Any) -> str:
        return check()

    def left_behind(self, config: Any) -> str:
        return f", but the jobs stay in SLURM's queue (`scancel --name={config.name}` ends them)"

    def became_of(self, error: BaseException | None) -> str:
        kind, (first, second, *_) = type(error).__name__, [*str(error).splitlines(), "", ""]
        if kind == "FailedJobError" and first.startswith("sbatch: "):
            return f"sbatch took no job ({str(error).splitlines()[-1]}), and hydra.launcher.… has to be changed"
        if kind == "UncompletedJobError" and "(state: " in second:
            job, state = first.partition(" (task")[0], second.partition("(")[2].rstrip(")")
            return f"a job died without a word ({job}, {state}; its log stands above), others may still be at work"
        return super().became_of(error)
