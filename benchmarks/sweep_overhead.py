"""What a job of a sweep costs beyond Hydra's composition and the head's own fit, with cached features.

    python benchmarks/sweep_overhead.py [--jobs 60] [--head ncm] [--dataset breast_cancer] [--repeats 3]

Runs `probe -m … seed=range(0,n)` and a Hydra app that does nothing over the same configuration and the same jobs, each
for two numbers of jobs: the difference, per job more, leaves out imports and start. Prints one table, medians of the
repeats; target: at most 50 ms of overhead.
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

import numpy as np

NO_OP = """
import hydra
from probe.cli import CONF

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def nothing(config):
    pass

nothing()
"""
FEW = 5


def seconds(command: list[str], n_jobs: int, words: list[str], cwd: Path) -> np.ndarray:
    """Wall and processor time of a sweep over as many seeds; the latter since other work may share the machine."""
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(Path(__file__).parents[1])}
    start = np.array([time.perf_counter(), sum(os.times()[2:4])])
    subprocess.run([sys.executable, *command, "-m", *words, f"seed=range(0,{n_jobs})"], cwd=cwd, env=env, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return np.array([time.perf_counter(), sum(os.times()[2:4])]) - start


def per_job(command: list[str], n_jobs: int, words: list[str], cwd: Path) -> np.ndarray:
    few = seconds(command, FEW, [*words, "name=few"], cwd)
    return (seconds(command, n_jobs, [*words, "name=many"], cwd) - few) / (n_jobs - FEW)


def measure(n_jobs: int, words: list[str]) -> dict[str, np.ndarray]:
    """Milliseconds per job, by what they were spent on."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        (cwd / "no_op.py").write_text(NO_OP)
        seconds(["-m", "probe"], 1, [*words, "name=warm"], cwd)  # extracts the features
        nothing = per_job(["no_op.py"], n_jobs, words, cwd)
        whole = per_job(["-m", "probe"], n_jobs, words, cwd)
        there = per_job(["-m", "probe"], n_jobs, words, cwd)
        results = [json.loads(path.read_text()) for path in (cwd / "runs" / "many").glob("[!.]*/result.json")]
    assert len(results) == n_jobs
    head = statistics.mean(r["seconds"]["fit"] + r["seconds"]["predict"] for r in results)
    found = {
        "a job that does nothing, in Hydra": nothing,
        "a job of probe": whole,
        "of it, fit and predict (wall)": np.array([head, head]),
        "overhead: the job less Hydra, fit and predict (target: 50)": whole - nothing - head,
        "overhead of a job that is complete already": there - nothing,
    }
    return {name: 1000 * value for name, value in found.items()}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--jobs", type=int, default=60)
    options.add_argument("--head", default="ncm")
    options.add_argument("--dataset", default="breast_cancer")
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args()
    words = ["backbone=identity", f"dataset={chosen.dataset}", f"head={chosen.head}"]
    repeats = [measure(chosen.jobs, words) for _ in range(chosen.repeats)]
    print(f"{' '.join(words)}, {chosen.jobs} jobs, median of {chosen.repeats} (smallest to largest)\n")
    print("| ms per job | wall | processor |\n|---|---|---|")
    for name in repeats[0]:
        values = np.array([repeat[name] for repeat in repeats])
        cells = [f"{np.median(v):.1f} ({v.min():.1f} to {v.max():.1f})" for v in values.T]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
