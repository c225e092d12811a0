"""Extraction of texts: the store against a bare loop over the same batches, how much is padded, bfloat16 on a CPU.

OMP_NUM_THREADS=2 python benchmarks/texts.py --model <folder of a language model> [--texts <folder of .txt files>]
    [--rows 1024] [--repeats 3] [--max-length 256]

Prints one line per figure, in seconds of wall clock and of processor, the latter to be read on a busy machine:
    store / bare loop     texts to features on disk, against tokenizer, padding, model and mean      >= 0.95
    padding               share of the tokens that the model runs                                    < 5 %
    bfloat16 / float32    the same batches, where the processor has it (avx512_bf16, amx_bf16)       >= 1.4
Both take turns, and the median of the ratios counts. Without --texts lengths are drawn, log-normal about 200 words.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.backbones.huggingface import load
from probe.core.base import Dataset
from probe.datasets.shared.text_rows import TextPartition
from probe.features.store import FeatureStore

BATCH = 256
HALF = ("avx512_bf16", "amx_bf16")


def read(folder: str | None, n_rows: int) -> list[str]:
    """Texts of a folder in a drawn order, or drawn ones."""
    random = np.random.default_rng(0)
    if folder is not None:
        files = sorted(Path(folder).rglob("*.txt"))
        chosen = random.permutation(len(files))[:n_rows]
        return [files[i].read_text(encoding="latin-1") for i in chosen]
    words = np.array(["the", "market", "of", "a", "game", "and", "minister", "said", "film", "phone", "in", "year"])
    lengths = random.lognormal(np.log(200), 0.6, n_rows).astype(int).clip(2, 2000)
    return [" ".join(random.choice(words, n)) for n in lengths]


def timed(function: Callable[[], Any]) -> np.ndarray:
    """Seconds of wall clock and of processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def batches(texts: list[str]) -> list[list[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def groups(backbone: Any, texts: list[str]) -> Any:
    """What the network is given of a batch, group by group."""
    batch = backbone.collate([backbone.transform(text) for text in texts])
    for rows, n_tokens in backbone._groups(batch["attention_mask"]):
        group = {name: part[rows, :n_tokens] for name, part in batch.items() if part.ndim > 1}
        yield rows, group


def bare(backbone: Any, texts: list[str]) -> list[torch.Tensor]:
    """What someone writes who wants the mean of the last layer alone."""
    found = []
    with torch.inference_mode():
        for part in batches(texts):
            pooled = torch.empty(len(part), backbone.network.config.hidden_size)
            for rows, group in groups(backbone, part):
                states = backbone.network(**group).last_hidden_state
                mask = group["attention_mask"][..., None].float()
                pooled[rows] = (states * mask).sum(1) / mask.sum(1)
            found.append(pooled)
    return found


def stored(backbone: Any, texts: list[str]) -> None:
    ids = [str(i) for i in range(len(texts))]
    rows = TextPartition(texts, np.zeros(len(texts), np.int64), ids)
    data = Dataset("texts", ("a", "b"), {"train": rows}, rows="texts")
    with tempfile.TemporaryDirectory() as root:
        FeatureStore(root).get(backbone, data, "train", ["pooled"], device="cpu", batch_size=BATCH)


def ratios(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> str:
    """The first's seconds over the second's, by wall clock and by processor, medians of turns."""
    first(), second()
    found = []
    for turn in range(repeats):
        pair = (first, second) if turn % 2 else (second, first)
        seconds = [timed(function) for function in pair]
        ours, other = seconds if turn % 2 else reversed(seconds)
        found.append(ours / other)
    wall, processor = (statistics.median(column) for column in np.array(found).T.tolist())
    return f"{wall:.3f} (wall), {processor:.3f} (processor)"


def padding(backbone: Any, texts: list[str]) -> float:
    """Share of the tokens that the network runs that are none."""
    run = real = 0
    for part in batches(texts):
        for _, group in groups(backbone, part):
            run += group["attention_mask"].numel()
            real += int(group["attention_mask"].sum())
    return 1 - real / run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=256)
    given = parser.parse_args()
    texts = read(given.texts, given.rows)
    backbone, near = (
        load(given.model, reads="texts", pooling="mean", max_length=given.max_length, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    print(f"load average {os.getloadavg()[0]:.1f}, {len(texts)} texts", flush=True)
    print(f"padding: {100 * padding(backbone, texts):.1f} % of the tokens that are run", flush=True)
    of_loop = ratios(lambda: bare(backbone, texts), lambda: stored(backbone, texts), given.repeats)
    print(f"store / bare loop: {of_loop} times its speed", flush=True)
    file = Path("/proc/cpuinfo")
    has = [word for word in HALF if file.exists() and word in file.read_text()]
    if not has:
        print("bfloat16 / float32: this processor has no bfloat16")
        return
    read_already = [backbone.collate([backbone.transform(t) for t in part]) for part in batches(texts)]  # type: ignore[arg-type]
    exact, half = (
        lambda network=network: [network.extract(batch, ["pooled"]) for batch in read_already]
        for network in (backbone, near)
    )
    print(f"bfloat16 / float32 ({', '.join(has)}): {ratios(exact, half, given.repeats)} times its speed")


if __name__ == "__main__":
    main()
