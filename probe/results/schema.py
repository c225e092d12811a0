"""What a run folder holds, and how it says of itself that it is whole.

    result.json              what was run, what came out, versions; the sizes and digests of the other files
    predictions.safetensors  one entry per test row, see `ARRAYS`
    validation.safetensors   the same of the validation rows, where the head chose on them: from the fit on the training
                             rows alone, before the refit on both; out of fold where folds of the training rows chose.
                             A head that chooses nothing, or on rows that it holds out itself, leaves none
    head.safetensors         the fitted head; an ensemble has none
    grid.png, .csv, .tex     of head=grid: the heat map, every cell with its metrics, a table for a paper
    overlays.png             of masks and maps: the best, the median and the worst test image, with the prediction
    rows.json                the rows of the split, with save_rows=true
    error.txt                alone: what the run failed with

`result.json` ends in a digest of all bytes before it, its `files` hold size and digest of every other file, and
`run.digest` is that of the fields which `run.determinants` names: whatever is damaged or edited is told by one of them.
The digests (XXH3, 128 bits) are no protection against forgery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from probe.core.base import digest
from probe.core.errors import InputError
from probe.core.hashing import hash_bytes

SCHEMA = 2
"""Raised where an older reader would read something else. 2: the digests, which a reader insists on."""
RESULT, PREDICTIONS, VALIDATION, HEAD = (
    "result.json", "predictions.safetensors", "validation.safetensors", "head.safetensors",
)  # fmt: skip
CALIBRATED = "calibrated.safetensors"
ROWS, ERROR = "rows.json", "error.txt"
OVERLAYS = "overlays.png"
PARTS = (PREDICTIONS, VALIDATION, HEAD, ERROR)
"""Files that make a folder one of a run, beside its result."""
ANY_HEAD = "any"
"""What `control.head` says of a control that all heads share, such as the words of texts."""
UNFINISHED = ".unfinished"
"""Beside the run folders: what is being written, and the locks of whoever writes it."""
ARRAYS = {
    "row": "(N,) number of the row in its partition",
    "label": "(N,) class code; (N, K) zeros and ones where rows have several labels; (N,) or (N, Q) numbers to predict;"
    " (N, K) labelled pixels of each class of masks; (N, 2) mean and count of the labelled pixels of maps;"
    " (N,) numbers of captions;"
    " (N,) of documents and queries: -1, and the number of relevant documents",
    "predicted": "of the same kind and shape",
    "predicted_probability": "(N,) float32, of one class per row",
    "predicted_log_odds": "(N,) float32, the order of these probabilities where they are all 1",
    "label_probability": "(N,) float32, of one class per row",
    "label_rank": "(N,) classes before the label's; of equal logits the lower code is first, one of -inf is last",
    "group": "(N,) number of the row's group, where training and test rows share some",
    "logits": "(N, K) float32, where there are at most 100 classes or save_logits=true",
    "interval_low": "(N,) or (N, Q) float32, lower ends of the intervals of numbers, with calibrate=true",
    "interval_high": "of the same shape, the upper ends",
    "confusion": "(N, C, 3) int32, of masks: class, predicted class and pixels of each cell; cells of 0 pixels fill up",
    "boundary": "(N, 2) of masks: pixels near a change of labels that were predicted right, and all of them",
    "errors": "(N, 11) of maps: means over the labelled pixels, as `probe.metrics.shared.scores.number_map` names them",
    "cluster": "(N, n_draws) int32, of head=clusters: number of the row's cluster in each draw",
    "similarity": "(N,) float64, of head=pairs: of the pair that the row belongs to",
    "text_rank": "(N,) of rows with captions: rank, from 0, of the nearest own one among all; -1 without any",
    "image_hits": "(N, 3) captions of each row that find it among the first 1, 5 and 10 rows",
    "of_query": "(N, 4) float32, of queries: nDCG@10, average precision@100, recall@100 and reciprocal rank@10; NaN"
    " of documents",
    "metric.<name>": "(N,) float32, what each row adds to a metric that does not follow from the arrays above",
}
FIELDS: dict[str, type] = {
    "run": dict, "config": dict, "command": str, "labels": dict, "seed": int, "dataset": dict, "protocol": dict,
    "backbone": dict, "head": dict, "features": dict, "metrics": dict, "seconds": dict, "files": dict,
}  # fmt: skip
"""Fields of `result.json` that every run has."""
AGAIN = "run it again with force=true, or bring back a copy of the folder"


END = b'"\n}\n'


def dumps(result: Mapping[str, Any]) -> bytes:
    """The bytes of `result.json`, which end in the digest of those before."""
    body = json.dumps({key: value for key, value in result.items() if key != "content"}, indent=1)
    head = body.removesuffix("\n}").encode() + b',\n "content": "'
    return head + hash_bytes(head).encode() + END


def loads(raw: bytes) -> dict[str, Any]:
    """Reads the bytes of `result.json`.

    Raises:
        InputError: They are not those that a run of this schema wrote; the sentence begins with what is wrong.
    """
    try:
        result = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{RESULT} is not JSON: half-written or edited; {AGAIN}") from error
    if not isinstance(result, dict) or "schema" not in result:
        raise InputError(f"{RESULT} was not written by probe: it has no schema number")
    if result["schema"] != SCHEMA:
        age = "older" if type(result["schema"]) is int and result["schema"] < SCHEMA else "unknown"
        raise InputError(f"schema {result['schema']!r} is {age}, this version reads {SCHEMA}: run it again")
    end = len(raw) - len(END) - 32
    if raw[end:] != hash_bytes(raw[:end]).encode() + END:
        raise InputError(f"{RESULT} is not as the run wrote it: damaged or edited by hand; {AGAIN}")
    _check(result)
    return result


def _check(result: Mapping[str, Any]) -> None:
    """Refuses a record without the fields that every run has, or whose determinants are not those of its name."""
    for key, kind in FIELDS.items():
        if not isinstance(result.get(key), kind):
            raise InputError(f"{RESULT} has no {key!r} of type {kind.__name__}: edited by hand?")
    run = result["run"]
    named, name, stated = (run.get(key) for key in ("determinants", "name", "digest"))
    known = isinstance(named, list) and all(isinstance(key, str) and key in result for key in named)
    if not known or not isinstance(name, str) or not isinstance(stated, str):
        raise InputError(f"{RESULT} does not say what determines the run: edited by hand?")
    try:
        given = digest({key: result[key] for key in named})
    except ValueError:  # a number that no digest is of
        given = ""
    if stated != given:
        raise InputError(
            f"{RESULT} has the digest {stated!r}, which its {', '.join(named)} do not give: edited by hand?"
        )
    if not name.endswith(stated[:8]):
        raise InputError(f"run name {name!r} does not end in its digest: edited by hand?")


def run_facts(determinants: Mapping[str, Any], name: str, created: str) -> dict[str, Any]:
    """The field `run`: digest, name and time, and which fields the digest is of."""
    return {"digest": digest(determinants), "name": name, "created": created, "determinants": list(determinants)}


def file_facts(content: bytes) -> dict[str, Any]:
    """What `files` says of one file."""
    return {"bytes": len(content), "digest": hash_bytes(content)}
