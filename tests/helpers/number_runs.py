"""Runs on numbers to predict, within the process."""

import json
from pathlib import Path
from typing import Any

from probe.backbones.identity import IdentityBackbone
from probe.datasets import sklearn
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.ridge import RidgeProbe
from probe.protocols.full import Full


def in_process(folder: Path, runs: Path, **changes: Any) -> dict[str, Any]:
    request = {
        "backbone": IdentityBackbone(),
        "dataset": sklearn.load("diabetes"),
        "protocol": Full(),
        "head": RidgeProbe(),
        "store": FeatureStore(folder / "cache"),
        "folder": runs,
        "device": "cpu",
    }
    result: dict[str, Any] = json.loads((run(Run(**(request | changes))) / "result.json").read_text())
    return result
