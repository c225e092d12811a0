"""What a folder of sentence-transformers (Reimers, Gurevych, 2019, arXiv 1908.10084) says of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probe.core.errors import InputError

KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
"""Of a folder of sentence-transformers."""
POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}


def sentence_transformers(folder: Path, pooled_otherwise: bool) -> dict[str, Any]:
    """What a folder of sentence-transformers says: `pooling`, `normalize`, `max_length`; nothing of another folder.

    Args:
        folder: The folder.
        pooled_otherwise: Whether the user says how to pool, so that the modules behind the network have no part.
    """
    if not (folder / "modules.json").is_file():
        return {}
    modules = _json(folder / "modules.json")
    kinds = {str(module["type"]).rpartition(".")[2]: folder / module["path"] for module in modules}
    said: dict[str, Any] = {"normalize": "Normalize" in kinds and not pooled_otherwise}
    for file in ("sentence_bert_config.json", "sentence_roberta_config.json"):
        if (folder / file).is_file():
            said["max_length"] = _json(folder / file).get("max_seq_length")
    if pooled_otherwise:
        return said
    asked = _json(kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    modes = [key for key, value in asked.items() if key.startswith("pooling_mode_") and value is True]
    if unknown := [kind for kind in kinds if kind not in KNOWN_MODULES] or [m for m in modes if m not in POOLINGS]:
        raise InputError(
            f"{folder} pools by {', '.join(unknown)}, expected {', '.join([*KNOWN_MODULES[1:], *POOLINGS])} alone: set "
            "backbone.pooling to read the states of the network itself"
        )
    if len(modes) > 1:
        raise InputError(
            f"{folder} pools in {len(modes)} ways ({', '.join(modes)}), expected one: set backbone.pooling"
        )
    return said | {"pooling": POOLINGS[modes[0]] if modes else None}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}): give the model's folder whole") from error
