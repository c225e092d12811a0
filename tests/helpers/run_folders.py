"""Makes run folders as a run leaves them, for tests and benchmarks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from probe.core.tensors import to_bytes
from probe.experiment.by_group import by_group
from probe.metrics import evaluate
from probe.metrics.dense import by_class
from probe.metrics.shared.metric import known
from probe.metrics.shared.scores import restored, score
from probe.metrics.shared.scores.mask import ImageTally
from probe.metrics.shared.scores.number import read
from probe.results.schema import OVERLAYS, PREDICTIONS, RESULT, SCHEMA, dumps, file_facts, run_facts

DETERMINANTS = ("config", "labels", "seed", "dataset", "protocol", "backbone", "head", "calibrate", "own_metrics")


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def difficulty(dataset: str, n_test: int) -> np.ndarray:
    """How hard the test rows of a dataset are, the same for all systems."""
    return np.random.default_rng(int(digest(dataset)[:8], 16)).normal(size=n_test)


def draw_correct(dataset: str, n_test: int, skill: float, key: str) -> np.ndarray:
    """Right or wrong per row for a system of this skill; rows that are hard for one are hard for all."""
    noise = np.random.default_rng(int(digest(key)[:8], 16)).normal(size=n_test) * 0.5
    return skill + noise > difficulty(dataset, n_test)


def draw_predictions(correct: np.ndarray, n_classes: int, key: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(int(digest(key, "p")[:8], 16))
    n = len(correct)
    label = np.arange(n) % n_classes
    wrong = (label + 1 + rng.integers(0, n_classes - 1, n)) % n_classes
    confidence = rng.uniform(0.5, 1, n).astype(np.float32)
    return {
        "row": np.arange(n),
        "label": label,
        "predicted": np.where(correct, label, wrong),
        "predicted_probability": confidence,
        "predicted_log_odds": np.log(confidence / (1 - confidence)),
        "label_probability": np.where(correct, confidence, (1 - confidence) / 2).astype(np.float32),
        "label_rank": np.where(correct, 0, rng.integers(1, n_classes, n)),
    }


def make_result(
    backbone: str,
    head: str,
    dataset: str,
    seed: int,
    predictions: dict[str, np.ndarray],
    n_classes: int,
    **changes: Any,
) -> dict[str, Any]:
    head_parameters = changes.get("head_parameters", {"metric": "euclidean"})
    protocol = changes.get("protocol", "full")
    protocol_parameters = changes.get("protocol_parameters", {})
    config = {
        "backbone": {"_target_": f"probe.backbones.{backbone}"},
        "dataset": {"_target_": f"probe.datasets.{dataset}"},
        "head": {"_target_": f"probe.heads.{head}"} | head_parameters,
        "protocol": {"_target_": f"probe.protocols.{protocol}"} | protocol_parameters,
        "tracker": None,
        "seed": seed,
    } | changes.get("config", {})
    read = changes.get("reads", {}).get("pooled")
    label = f"{backbone}(pooled={read})" if read else backbone
    metrics = {}
    for metric in known().values():
        of_classes = "one_class" in metric.targets and (metric.name != "top5" or n_classes >= 5)
        if of_classes and metric.needs and set(metric.needs) <= set(predictions):
            value = float(metric.rows(restored(predictions)).mean())
            metrics[metric.name] = {"value": value, "low": value - 0.01, "high": value + 0.01}
    metrics |= changes.get("metrics", {})
    n_train = changes.get("n_train", 1000)
    result = {
        "schema": SCHEMA,
        "run": {},
        "config": config,
        "command": f"probe backbone={backbone} dataset={dataset} head={head} protocol={protocol} seed={seed}",
        "labels": {"backbone": label, "dataset": dataset, "head": head, "protocol": protocol},
        "seed": seed,
        "dataset": {
            "name": dataset,
            "fingerprint": changes.get("fingerprint", digest(dataset, "rows")),
            "class_names": changes.get("class_names", [f"class {i}" for i in range(n_classes)]),
            "test_rows": digest(predictions["row"].tolist()),
        },
        "protocol": {
            "name": protocol,
            "parameters": protocol_parameters,
            "n_train": n_train,
            "n_validation": changes.get("n_validation", 100),
            "n_test": len(predictions["label"]),
            "rows": digest(dataset, seed, n_train),
        },
        "backbone": {"name": backbone, "identity": digest(backbone), "n_parameters": 1000 + len(backbone)},
        "features": {"train": digest(backbone, dataset, "train"), "test": digest(backbone, dataset, "test")},
        "head": {"name": head, "parameters": head_parameters},
        "metrics": metrics,
        **({"calibrate": {"level": 0.9}} if "coverage" in metrics else {}),
        **({"control": changes["control"]} if "control" in changes else {}),
        **({"layers": changes["layers"]} if "layers" in changes else {}),
        **({"own_metrics": changes["own_metrics"]} if "own_metrics" in changes else {}),
        "selection": changes.get("selection"),
        "seconds": {"extract": 2.0, "fit": 0.1 + 0.1 * len(head), "predict": 0.05, "total": 3.0},
        "skipped_rows": {"train": 0, "test": 0},
        "versions": {"probe": "0.1", "torch": "2"},
        "commit": "0" * 40,
        "device": "cpu",
        "files": {},
    }
    return result | {"run": named(result)}


def named(result: dict[str, Any]) -> dict[str, Any]:
    """The field `run`, by what the run is now."""
    facts = {key: result[key] for key in DETERMINANTS if key in result}
    name = result["run"].get("name", "-".join(map(str, [*result["labels"].values(), f"s{result['seed']}", ""])))
    found = run_facts(facts, "", "2026-01-01T00:00:00+00:00")
    return found | {"name": f"{name.rpartition('-')[0]}-{found['digest'][:8]}"}


def seal(folder: Path, result: dict[str, Any]) -> None:
    """Writes a record that says of itself and of the files beside it that they are whole."""
    others = [path for path in sorted(folder.iterdir()) if path.name != RESULT]
    files = {path.name: file_facts(path.read_bytes()) for path in others}
    (folder / RESULT).write_bytes(dumps(result | {"files": files}))


def edit(folder: Path, **changes: Any) -> None:
    """Changes fields of a record, as somebody would who knows all of its digests."""
    result = json.loads((folder / RESULT).read_text()) | changes
    if "run" not in changes and all(isinstance(result[key], dict) for key in ("labels", "run")):
        result["run"] = named(result)
    seal(folder, result)


def write_record(folder: Path, arrays: dict[str, np.ndarray] | None = None, **fields: Any) -> Path:
    """Writes a record of which only some fields matter, and predictions of which only some arrays do."""
    folder.mkdir(parents=True, exist_ok=True)
    result = make_result("tiny", "ncm", "digits", 0, draw_predictions(np.ones(2, bool), 2, ""), 2) | fields
    if arrays is not None:
        (folder / PREDICTIONS).write_bytes(to_bytes(arrays))
    seal(folder, result | {"run": named(result)})
    return folder


def write_run(
    root: Path,
    backbone: str = "tiny",
    head: str = "ncm",
    dataset: str = "digits",
    seed: int = 0,
    *,
    skill: float = 1.0,
    n_test: int = 200,
    n_classes: int = 10,
    correct: np.ndarray | None = None,
    predictions: dict[str, np.ndarray] | None = None,
    folder: str | None = None,
    **changes: Any,
) -> Path:
    """Writes one complete run below `root` and returns its folder."""
    key = digest(backbone, head, dataset, seed, changes)
    if predictions is None:
        drawn = draw_correct(dataset, n_test, skill, key) if correct is None else correct
        predictions = draw_predictions(drawn, n_classes, key)
    result = make_result(backbone, head, dataset, seed, predictions, n_classes, **changes)
    path = Path(root) / (folder or digest(result["run"]["name"])[:12])
    path.mkdir(parents=True, exist_ok=True)
    (path / PREDICTIONS).write_bytes(to_bytes(predictions))
    (path / "head.safetensors").write_bytes(to_bytes({"weight": np.zeros(1, np.float32)}))
    seal(path, result)
    return path


def write_numbers(root: Path, head: str = "ols", noise: float = 0.1) -> Path:
    """A run on 20 numbers, of which row 7 is predicted worst."""
    true = np.arange(20.0)
    predicted = true + noise * (-1.0) ** np.arange(20)
    predicted[7] += 3
    value = 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    width = np.full(20, 4.0, np.float32)
    ends = {"interval_low": (predicted - 1).astype(np.float32), "interval_high": (predicted + 3).astype(np.float32)}
    predictions = {"row": np.arange(20), "label": true, "predicted": predicted, "metric.interval_width": width, **ends}
    metrics = {"r2": {"value": value, "low": value - 0.1, "high": value + 0.1},
               "interval_width": {"value": 4.0, "low": 4.0, "high": 4.0}}  # fmt: skip
    result = make_result("tiny", head, "heights", 0, predictions, 1, class_names=["height"], metrics=metrics)
    result["dataset"] |= {"target": "number", "units": ["cm"]}
    names = np.array(10 * ["north"] + 9 * ["south"] + ["alone"])
    result["by_group"] = by_group(read(predicted, true), names)
    folder = root / f"numbers-{head}"
    folder.mkdir(parents=True)
    (folder / PREDICTIONS).write_bytes(to_bytes(predictions))
    seal(folder, result | {"run": named(result)})
    return folder


def write_masks(root: Path, head: str = "linear", skill: float = 0.8, *, seed: int = 0, **told: Any) -> Path:
    """A run on 30 masks of three classes, in which a share of the pixels is predicted right; with its overlays."""
    random = np.random.default_rng(3)
    masks = random.choice(3, (30, 6, 7), p=[0.7, 0.25, 0.05]).astype(np.uint8)
    labels = np.stack([np.bincount(mask.ravel(), minlength=3) for mask in masks])
    noise = np.random.default_rng(int(100 * skill) + seed)
    predicted = np.where(noise.random(masks.shape) < skill, masks, noise.integers(0, 3, masks.shape)).astype(int)
    scores = score([ImageTally.of(p, m, 3) for p, m in zip(predicted, masks, strict=True)], labels, "mask")
    metrics = {name: vars(interval) for name, interval in evaluate.measure({"rows": scores}).metrics.items()}
    predictions = {"row": np.arange(30), **scores.arrays()}
    classes = [{"name": name, "train_share": 1 / 3, "test_pixels": int(n), "iou": vars(one["iou"])}
               for name, n, one in zip("abc", labels.sum(axis=0), by_class(scores), strict=True)]  # fmt: skip
    evaluation = {"size": "of the masks", "ignored_codes": [255], "windows": 0, "averaged": ["a", "b", "c"], **told}
    result = make_result("tiny", head, "scenes", seed, predictions, 3, class_names=["a", "b", "c"])
    result |= {"metrics": metrics, "classes": classes, "evaluation": evaluation}
    result["dataset"] |= {"target": "mask"}
    folder = root / f"masks-{head}-{seed}"
    folder.mkdir(parents=True)
    (folder / PREDICTIONS).write_bytes(to_bytes(predictions))
    (folder / "head.safetensors").write_bytes(to_bytes({"weight": np.zeros(1, np.float32)}))
    Image.new("RGB", (40, 30), "green").save(folder / OVERLAYS)
    seal(folder, result | {"run": named(result)})
    return folder
