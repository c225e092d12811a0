"""What a job of a sweep costs beyond Hydra's composition and the head's own fit, with cached features.

    python benchmarks/sweep_overhead.py [--jobs 20] [--head ncm] [--dataset breast_cancer]

Runs `probe -m … seed=range(0,n)`, the same again (all complete by then), and a Hydra app that does nothing over the
same configuration and the same jobs, and notes when each job ends. The time from one end to the next leaves out
imports and start. Prints one table, medians over the jobs; target: at most 50 ms of overhead on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NO_OP = """
import hydra
from probe.command.cli import CONF

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def nothing(config):
    pass

nothing()
"""


class Clock:
    """A Hydra callback that notes wall and processor time at the end of every job."""

    def __init__(self, path: str):
        self.path = path

    def on_job_end(self, **kwargs: Any) -> None:
        with open(self.path, "a") as file:
            print(time.perf_counter(), time.process_time(), file=file)

    def __getattr__(self, name: str) -> Any:
        """Hydra calls every moment of a job; the others are of no interest."""
        if name.startswith("on_"):
            return lambda **kwargs: None
        raise AttributeError(name)


def per_job(command: list[str], name: str, n_jobs: int, words: list[str], cwd: Path) -> np.ndarray:
    """Wall and processor seconds from the end of one job to that of the next, (n_jobs - 1, 2)."""
    clock = [f"+hydra.callbacks.clock={{_target_: sweep_overhead.Clock, path: {cwd / name}}}"]
    here = Path(__file__).resolve()
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": f"{here.parent}:{here.parents[1]}"}
    done = subprocess.run([sys.executable, *command, "-m", *words, f"seed=range(0,{n_jobs})", *clock], cwd=cwd, env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return np.diff(np.loadtxt(cwd / name), axis=0)


def measure(n_jobs: int, words: list[str]) -> dict[str, np.ndarray]:
    """Milliseconds on the wall and of the processor for each of these, (n, 2)."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        (cwd / "no_op.py").write_text(NO_OP)
        found = {
            "a job of probe": per_job(["-m", "probe"], "probe.txt", n_jobs, words, cwd),
            "a job of probe that is complete already": per_job(["-m", "probe"], "again.txt", n_jobs, words, cwd),
            "a job that does nothing, in Hydra": per_job(["no_op.py"], "nothing.txt", n_jobs, words, cwd),
        }
        results = [json.loads(path.read_text()) for path in (cwd / "runs" / "default").glob("[!.]*/result.json")]
    assert len(results) == n_jobs
    heads = [r["seconds"]["fit"] + r["seconds"]["predict"] for r in results]
    return {name: 1000 * values for name, values in found.items()} | {"fit and predict": 1000 * np.c_[heads, heads]}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--jobs", type=int, default=20)
    options.add_argument("--head", default="ncm")
    options.add_argument("--dataset", default="breast_cancer")
    chosen = options.parse_args()
    words = ["backbone=identity", f"dataset={chosen.dataset}", f"head={chosen.head}"]
    found = measure(chosen.jobs, words)
    print(f"{' '.join(words)}, {chosen.jobs} jobs, median (quartiles)\n")
    print("| ms per job | wall | processor |\n|---|---|---|")
    for name, values in found.items():
        cells = ["{1:.1f} ({0:.1f} to {2:.1f})".format(*statistics.quantiles(v, n=4)) for v in values.T]
        print(f"| {name} | {' | '.join(cells)} |")
    middle = {name: np.median(values, axis=0) for name, values in found.items()}
    job, there, nothing, head = middle.values()
    for name, value in (
        ("overhead: the job less Hydra, fit and predict (target: 50)", job - nothing - head),
        ("overhead of a job that is complete already", there - nothing),
    ):
        print(f"| {name} | {' | '.join(f'{v:.1f}' for v in value)} |")


if __name__ == "__main__":
    main()
