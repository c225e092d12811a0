"""Leaderboards at a fixed seed for the pictures of the documents: synthetic runs of known skill, as folders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
from run_folders import difficulty, draw_predictions, edit, write_run

BACKBONES = {
    "dinov2-base": 1.6, "clip-vit-b-32": 1.3, "efficientnet-lite0": 0.9, "resnet50": 0.8, "resnet18": 0.4, "tiny": 0.0,
}  # fmt: skip
HEADS = {
    "linear": (0.5, 0.4), "attentive": (0.6, 40.0), "lda": (0.45, 0.2), "ridge": (0.4, 0.06), "knn": (0.2, 0.02),
    "moment_probing": (0.62, 160.0), "linear_sgd": (0.4, 12.0), "ncm": (0.0, 0.01), "naive_bayes": (-0.1, 0.015),
    "fixed_moments": (0.3, 3.0),
}  # fmt: skip
"""Skill, and seconds to fit."""


def board(folder: Path, n_backbones: int, n_heads: int, n_datasets: int = 1, n_seeds: int = 2) -> Path:
    """Runs of some backbones and heads below a folder."""
    rng = np.random.default_rng(0)
    for backbone, better in list(BACKBONES.items())[:n_backbones]:
        for head, (skill, seconds) in list(HEADS.items())[:n_heads]:
            for dataset in ("flowers", "birds", "breast_cancer")[:n_datasets]:
                for seed in range(n_seeds):
                    predictions = drawn(better + skill + 0.3, dataset, f"{backbone} {head} {seed}")
                    path = write_run(folder, backbone, head, dataset, seed, predictions=predictions)
                    fit = seconds * (1 + 0.2 * better) * float(rng.uniform(0.8, 1.25))
                    edit(path, seconds={"extract": 2.0, "fit": fit, "predict": 0.05, "total": 2.05 + fit})
    return folder


def drawn(skill: float, dataset: str, key: str, n_test: int = 400) -> dict[str, np.ndarray]:
    """Predictions that are the surer the easier a row is."""
    margin = (
        skill
        - difficulty(dataset, n_test)
        + np.random.default_rng(len(key) * 7919 + sum(map(ord, key))).normal(0, 0.5, n_test)
    )
    predictions = draw_predictions(margin > 0, 10, key)
    odds = np.abs(margin) + np.random.default_rng(1).normal(0, 0.3, n_test)
    sure = 1 / (1 + np.exp(-odds))
    right = np.where(margin > 0, sure, 1 - sure).clip(1e-3, 1)
    told = {"predicted_log_odds": odds, "predicted_probability": sure, "label_probability": right}
    return predictions | {name: values.astype(np.float32) for name, values in told.items()}
