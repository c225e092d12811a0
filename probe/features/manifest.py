"""The manifest of a finished pass: what it holds, in which files, and their checksums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.core.base import digest
from probe.core.errors import StoreError
from probe.features.layout import SCHEMA, entry_digest

MANIFEST = "manifest.json"
DTYPES = ("float16", "float32", "int8", "int32")


def read_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    """The checked manifest of the finished pass in a folder.

    Raises:
        StoreError: It is missing, damaged, of a newer version, or of another folder; followed by the `remedy`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        schema = manifest["schema"]
    except FileNotFoundError:
        raise StoreError(f"{path} is missing, a finished pass has one: {remedy}") from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path} is no manifest of this cache, it was changed or damaged: {remedy}") from None
    if not isinstance(schema, int) or not isinstance(manifest.get("identity"), dict):
        raise StoreError(f"{path} is no manifest of this cache, it was changed or damaged: {remedy}")
    if schema > SCHEMA:
        raise StoreError(
            f"{path} was written by a newer version of probe (schema {schema}, this one reads {SCHEMA}): "
            "update probe, or set PROBE_CACHE to another folder"
        )
    if manifest.get("digest") != digest({k: v for k, v in manifest.items() if k != "digest"}):
        raise StoreError(f"{path} does not match its own digest, it was changed or damaged: {remedy}")
    name = entry_digest(manifest["identity"])
    if name != folder.parent.name:
        raise StoreError(
            f"{folder} holds features of the entry {name}, not of the folder it stands in: move it to "
            f"{folder.parent.parent / name}, or delete it"
        )
    if not well_formed(manifest):
        raise StoreError(f"{path} lacks facts of a finished pass, or holds odd ones: {remedy}")
    return dict(manifest)


def well_formed(manifest: Mapping[str, Any]) -> bool:
    """Whether everything that is read of a manifest is there and of its type: a digest is no proof of good faith."""

    def is_array(facts: Any) -> bool:
        shape = facts["shape"]
        sound = shape[0] == manifest["n_rows"] and all(type(n) is int and n >= 0 for n in shape)
        if "n_tokens" in facts:  # rows differ in length
            told = type(facts["n_tokens"]) is int and facts["n_tokens"] > 0 and facts["offsets"] in manifest["files"]
            sound = sound and told and len(shape) > 1
        return sound and facts["dtype"] in DTYPES and isinstance(facts["requested"], str)

    try:
        texts = [manifest["provenance"][name] for name in ("backbone", "dataset", "created")]
        texts += [text for item in manifest["files"].items() for text in item]
        skipped = [int(row) < manifest["n_rows"] and len(told) == 2 for row, told in manifest["skipped"].items()]
        counts = manifest["n_rows"], manifest["block_rows"]
        arrays = [is_array(facts) for facts in manifest["kinds"].values()]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        return False
    sound = all(skipped) and bool(arrays) and all(arrays) and all(type(n) is int and n > 0 for n in counts)
    return sound and all(isinstance(text, str) for text in texts)
