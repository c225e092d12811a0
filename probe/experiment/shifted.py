"""Several shifted test sets beside a run: one fit, and for each set the run folder that it would have alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from probe.core.errors import InputError
from probe.experiment.fitting import Fitted, maps_of, predict_run
from probe.experiment.reading import ReadRows
from probe.experiment.request import Named, Run
from probe.protocols.shared.tasks import ComesInTasks


def runs_of(request: Run) -> list[Run]:
    """The run on its own test rows, and one on each shifted set, as `test_on` alone would ask for it.

    Raises:
        InputError: Two of them would share a column of the leaderboard.
    """
    if not request.shifted:
        return [request]
    names: dict[str, str] = {}
    for place, dataset in request.shifted.items():
        if (other := names.get(dataset.name)) is not None:
            raise InputError(
                f"test_on has {other} and {place}, which are both called {dataset.name}, expected a name for each "
                f"column: set test_on.{place}.name=<name>"
            )
        names[dataset.name] = place
    nodes = request.config.get("test_on")
    alone = replace(request, shifted={}, config=_config(request.config, None))
    told = nodes if isinstance(nodes, Mapping) else {}
    return [
        alone,
        *(
            replace(alone, test_on=dataset, config=_config(request.config, told.get(place)))
            for place, dataset in request.shifted.items()
        ),
    ]


def _config(config: Mapping[str, Any], node: Any) -> dict[str, Any]:
    """What a single run would have been asked with."""
    rest = {name: value for name, value in config.items() if name != "test_on"}
    return rest if node is None else {**rest, "test_on": node}


def fits_once(named: Named) -> bool:
    """Whether one fit serves all test rows: not where the rows of each task are asked for after it."""
    return not isinstance(named.drawn.checked.asked.protocol, ComesInTasks)


def kept(fitted: Fitted) -> Fitted:
    """The fit of a run, for others that come from it, which do not write into its head."""
    return replace(fitted, head=copy.copy(fitted.head))


def tested_on(fitted: Fitted, named: Named, rows: ReadRows) -> Fitted:
    """The same fit, and what its head says of other test rows."""
    started = time.perf_counter()
    fitted = kept(fitted)
    logits, scores = predict_run(fitted.head, named.drawn, rows)
    seconds = {**fitted.seconds, "predict": time.perf_counter() - started}
    return replace(fitted, logits=logits, scores=scores, seconds=seconds, maps=maps_of(fitted.head, rows))
