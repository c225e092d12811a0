"""How long the leaderboard takes: 10,000 run folders to a table, cold and with its index; the bootstrap; the page.

    python benchmarks/leaderboard.py [--runs 10000] [--keep FOLDER] [--parts bootstrap page folders new_run]

`new_run` is the table after new runs, where all before is kept: another seed, cells of a new row, a whole one.

Prints seconds, and ratios: cold reading against `json.load` of the same files alone; the bootstrap of one column
against one matrix product per resample, which is what resampling the rows costs at least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from run_folders import write_run

from probe.leaderboard.index import INDEX, read_folders
from probe.leaderboard.page import page
from probe.leaderboard.ranks import rank
from probe.leaderboard.records import Records
from probe.leaderboard.statistics import scores
from probe.leaderboard.table import build_table

HEADS, DATASETS, SEEDS = 5, 20, 5
N_TEST = 500


def make_runs(root: Path, n_runs: int) -> None:
    n_backbones = n_runs // (HEADS * DATASETS * SEEDS)
    for backbone in range(n_backbones):
        for head in range(HEADS):
            for dataset in range(DATASETS):
                for seed in range(SEEDS):
                    write_run(root, f"backbone{backbone}", f"head{head}", f"data{dataset}", seed, n_test=N_TEST,
                              skill=2 * backbone / n_backbones + 0.05 * head)  # fmt: skip
    time.sleep(3)  # files that were just written are not kept in the index


class Spent(NamedTuple):
    """Seconds that passed, and seconds of processor time."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:6.2f} s ({self.cpu:5.2f} s of processor time)"


def seconds(work: Callable[[], object]) -> Spent:
    """Also of children. Processor time stands beside wall time since other work may share the machine."""
    start, cpu = time.perf_counter(), sum(os.times()[:4])
    work()
    return Spent(time.perf_counter() - start, sum(os.times()[:4]) - cpu)


def bench_folders(root: Path) -> None:
    index = root / INDEX
    index.unlink(missing_ok=True)
    command = [sys.executable, "-c", f"from probe.leaderboard.command import main; main([{str(root)!r}])"]

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    plain = seconds(lambda: [json.loads(path.read_bytes()) for path in root.glob("*/result.json")])
    cold = seconds(lambda: build_table(read_folders([root])))
    warm = seconds(lambda: build_table(read_folders([root])))
    index.unlink()
    cold_command, warm_command = seconds(run), seconds(run)
    print(f"json.loads of all results, no more  {plain}")
    print(f"to a table, cold    (target 5 s)    {cold}  {cold.cpu / plain.cpu:.2f} x")
    print(f"to a table, indexed (target 1 s)    {warm}  {warm.cpu / plain.cpu:.2f} x")
    print(f"whole command, cold                 {cold_command}")
    print(f"whole command, indexed              {warm_command}")


def bench_new_run(root: Path) -> None:
    """The index, and the table, after some new runs: of one cell, and of a row that stands in every column."""
    found = read_folders([root])
    seed, columns = 1 + int(found.frame["seed"].max()), sorted(found.frame["dataset"].unique())
    build_table(found)
    more = [("nothing new", "", [], 0), ("another seed", "backbone3", columns[3:4], seed),
            ("and one more", "backbone4", columns[12:13], seed),
            ("a cell of a new row", f"backbone_{seed}", columns[5:6], 0),
            ("its second cell", f"backbone_{seed}", columns[11:12], 0),
            ("a whole new row", f"new_{seed}", columns, 0)]  # fmt: skip
    for what, backbone, datasets, of_run in more:
        for dataset in datasets:
            write_run(root, backbone, "head1", dataset, of_run, n_test=N_TEST, skill=0.5)
        if datasets:
            time.sleep(3)
        records: list[Records] = []
        read = seconds(lambda found=records: found.append(read_folders([root])))
        table = seconds(lambda found=records: build_table(found[0]))
        print(f"{what:20s} index {read}, table {table}, together {read.cpu + table.cpu:.2f} s of processor time",
              flush=True)  # fmt: skip


def bench_bootstrap(n_systems: int = 20, n_datasets: int = 10, n_rows: int = 10_000, n_seeds: int = 3) -> None:
    rng = np.random.default_rng(0)
    columns = []
    for _ in range(n_datasets):
        values = (rng.uniform(size=(n_systems, n_seeds, n_rows)) < 0.8).astype(float)
        columns.append([scores(list(system), None, range(n_seeds), n_rows) for system in values])
    matrix, counts = np.ones((n_rows, n_systems), np.float32), np.ones((50, n_rows), np.float32)
    least = seconds(lambda: [counts @ matrix for _ in range(n_datasets * 20)])
    ours = seconds(lambda: rank(columns))
    print(f"bootstrap {n_systems} systems x {n_datasets} datasets x {n_rows} rows x {n_seeds} seeds, 1,000 resamples "
          f"(target 30 s) {ours}  {ours.cpu / least.cpu:.1f} x its matrix products")  # fmt: skip


def bench_page(root: Path, n_rows: int = 10_000, n_classes: int = 100) -> None:
    """The page of 60 rows on 4 datasets with 3 seeds: its size, and how long it takes beside the table alone."""
    for row in range(60):
        for dataset in range(4):
            for seed in range(3):
                write_run(root, f"backbone{row // 5}", f"head{row % 5}", f"data{dataset}", seed, n_test=n_rows,
                          n_classes=n_classes, skill=0.02 * row)  # fmt: skip
    records = read_folders([root])
    table = build_table(records)
    written: list[str] = []
    alone = seconds(lambda: build_table(records))
    whole = seconds(lambda: written.append(page(table, records.frame)))
    print(f"page of 60 rows x 4 datasets x 3 seeds (target 7 MB) {len(written[0]) / 1e6:.1f} MB {whole}, table {alone}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--keep", type=Path, help="make the runs here, or use those that are here")
    options.add_argument("--parts", nargs="+", default=["bootstrap", "page", "folders", "new_run"])
    arguments = options.parse_args()
    if "bootstrap" in arguments.parts:
        bench_bootstrap()
    if "page" in arguments.parts:
        with tempfile.TemporaryDirectory() as temporary:
            bench_page(Path(temporary))
    if not {"folders", "new_run"} & set(arguments.parts):
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        if not root.exists() or not any(root.iterdir()):
            make_runs(root, arguments.runs)
        if "folders" in arguments.parts:
            bench_folders(root)
        if "new_run" in arguments.parts:
            bench_new_run(root)


if __name__ == "__main__":
    main()
