"""Heads on a network while it trains: `probe.Watch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.command import config as building
from probe.command.callbacks import PREFIX, named, of_lightning, of_transformers
from probe.command.calls import quietly, several, teller
from probe.command.live import Part, network_and_options, network_backbone
from probe.command.parts import configured, part_of
from probe.core.errors import InputError
from probe.core.first_rank import FirstRank, is_first
from probe.core.surroundings import undisturbed
from probe.core.terminal import silent

if TYPE_CHECKING:
    import pandas as pd

    from probe.core.base import Backbone
    from probe.experiment.request import Drawn, Run
    from probe.experiment.watching import Found

Heads = dict[str, "Drawn"]


class Watch:
    """Measures a network while it trains, by heads on labelled data that it does not train on.

    The rows of each dataset are drawn once. An epoch costs one pass over them in eval mode, from which every head is
    fitted anew to its optimum: no head lags behind the network. The numbers are those of `probe.run` on the same
    network. The network stays as it is to the bit, with its modes, gradients and buffers, and so do the random states
    of Python, NumPy, torch and CUDA: training goes on as without. Where several processes train together the first one
    measures and the others wait; all of them have to call.

    Call it at the end of each epoch, or give `watch.lightning()` or `watch.transformers()` to the trainer.

    Args:
        backbone: The network and how an image becomes its input: `(network, transform)`, or `(network, {"size": 64,
            "mean": [0.5] * 3, "std": [0.5] * 3})`, where further options of `backbone=module` may stand; a language
            model of transformers with its tokenizer, `(model, tokenizer)`. Weights are read where they lie, they are
            not copied.
        datasets: One, or a list; see `run`. Of one without test rows, `holdout` draws them.
        heads: One, or a list; see `run`.
        protocol: See `run`.
        seed: Of the draw of rows and of the heads.
        every: Measures at epoch 0 and at each that this divides.
        metrics: Names of those wanted; by default what tables show, such as `top1`.
        limit: At most so many rows of each partition.
        keep: Keep the features of every epoch in the cache, where `probe.run` finds them; else they are forgotten.
        cache: Where, see `run`.
        reads: Kind that a head reads -> layer that stands in for it, one of the option `taps`.
        features: `batch_size`, `n_workers`, `on_error`, `dtypes`.
        quiet: Show no progress.

    Attributes:
        history: A row for each epoch, dataset, head and metric: `epoch`, `dataset`, `head`, `metric`, `value`, `low`,
            `high`, `fit_seconds`, `extract_seconds` (of the pass that all heads of a dataset read).

    Raises:
        ProbeError: The parts do not fit each other; said before training starts.

    Example:
        >>> import probe, torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32))
        >>> pixels = {"size": 8, "mean": [0.5], "std": [0.5]}
        >>> watch = probe.Watch((network, pixels), datasets="digits", heads=["ncm", "lda"], limit=200, quiet=True)
        >>> for epoch in range(2):
        ...     scores = watch(epoch)  # after a pass over your own data
        >>> sorted(scores)
        ['digits(limit=200)/lda/top1', 'digits(limit=200)/ncm/top1']
    """

    def __init__(
        self,
        backbone: Any,
        datasets: Any,
        heads: Any = "linear",
        protocol: Any = None,
        seed: int = 0,
        *,
        every: int = 1,
        metrics: str | Sequence[str] | None = None,
        limit: int | None = None,
        keep: bool = False,
        cache: str | Path | None = None,
        reads: Mapping[str, str] | None = None,
        features: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(
                f"every is {every!r}, expected a whole number of epochs, at least 1: give 1 to measure each"
            )
        self.network, self._options = network_and_options(backbone)
        self.history: list[dict[str, Any]] = []
        self.every, self.keep, self.quiet = every, keep, quiet
        self._given = {"dataset": several("dataset", datasets), "head": several("head", heads)}
        self._protocol = protocol
        self._metrics = [metrics] if isinstance(metrics, str) else metrics
        self._common = {"seed": seed, "limit": limit, "cache": cache}
        self._settings = {name: v for name, v in (("reads", reads), ("features", features)) if v is not None}
        self._in_first_rank = FirstRank()
        self._work: dict[str, Heads] = {}  # by dataset
        self._n_calls = self._n_measured = 0
        if is_first():
            with undisturbed():
                self._prepare()

    def __call__(self, epoch: int | None = None) -> dict[str, float]:
        """Measures at the end of an epoch where it is due, and tells the wandb run that is active, if there is one.

        Args:
            epoch: Counted from 0; None counts the calls.

        Returns:
            `<dataset>/<head>/<metric>` -> value, the same in every process; empty where it is not due.
        """
        epoch = self._n_calls if epoch is None else epoch
        self._n_calls = epoch + 1
        if not self.is_due(epoch):
            return {}
        found = self.measure(epoch)
        from probe.trackers.wandb import log_epoch

        with undisturbed():
            log_epoch(named(found), epoch, f"{PREFIX}epoch")
        return found

    def is_due(self, epoch: int) -> bool:
        """Whether an epoch is one of those to measure."""
        return epoch % self.every == 0

    def measure(self, epoch: int) -> dict[str, float]:
        """Measures now, whether it is due or not; adds to `history`, and returns what a call does."""
        with undisturbed():
            measured = self._in_first_rank(self._measure)
        values = {}
        for dataset, heads in measured.items():
            for head, found in heads.items():
                seconds = {"fit_seconds": found.fit_seconds, "extract_seconds": found.extract_seconds}
                for metric, interval in found.metrics.items():
                    row = {"epoch": epoch, "dataset": dataset, "head": head, "metric": metric}
                    self.history.append({**row, **vars(interval), **seconds})
                    values[f"{dataset}/{head}/{metric}"] = interval.value
        return values

    @property
    def frame(self) -> pd.DataFrame:
        """The history as a table."""
        import pandas as pd

        return pd.DataFrame(self.history)

    def lightning(self) -> Any:
        """A callback for the Trainer of Lightning, which measures at the end of training epochs.

        Values are logged as `probe/<dataset>/<head>/<metric>`, which other callbacks can monitor.
        """
        return of_lightning(self)

    def transformers(self) -> Any:
        """A callback for the Trainer of transformers, which measures at the end of training epochs.

        Values go to the trainer's `state.log_history`, and to wandb where it is active.
        """
        return of_transformers(self)

    def _prepare(self) -> None:
        """Draws the rows of all datasets and refuses what does not fit."""
        from probe.experiment.watching import metrics_of, prepare

        building.forget()
        backbone = self._backbone()
        for dataset in self._given["dataset"]:
            heads: Heads = {}
            for request in self._requests(dataset, backbone):
                drawn = prepare(request)
                heads[_name_beside(heads, drawn)] = drawn
            (name,) = {drawn.checked.asked.dataset.name for drawn in heads.values()}
            metrics_of(drawn.checked.asked.dataset.target, self._metrics)
            if name in self._work:
                raise InputError(
                    f'two datasets are called {name}: give one a name of its own, as in ((X, y), {{"name": "other"}})'
                )
            self._work[name] = heads
        told = getattr(backbone, "notes", {})
        for note in {told[kind] for kind in {k for d in heads.values() for k in d.checked.head.consumes} & set(told)}:
            teller(self.quiet)(note)

    def _requests(self, dataset: Any, backbone: Backbone) -> list[Run]:
        tell = teller(self.quiet)
        shown = f"<network {backbone.name}>"
        parts = {
            "backbone": Part(shown, node={"live": shown}, live=backbone),
            "dataset": part_of("dataset", dataset, tell),
            "protocol": part_of("protocol", self._protocol, tell),
        }
        requests = []
        for head in self._given["head"]:
            given = {**parts, "head": part_of("head", head, tell)}
            config, live = configured(given, self._common, self._settings, tell)
            request = quietly(building.build(config, "probe.Watch(…)", live), self.quiet)
            if self._protocol is None and "test" not in request.dataset.partitions:
                request = replace(
                    request, protocol=building.instantiate(building.compose(["protocol=holdout"])["protocol"])
                )
            requests.append(request)
        return requests

    def _backbone(self) -> Backbone:
        """The network as it is now."""
        from probe.backbones.shared.borrowed import Borrowed

        made: Backbone = network_backbone(self.network, dict(self._options), Borrowed(self.network, named=self.keep))
        return made

    def _measure(self) -> dict[str, dict[str, Found]]:
        from probe.experiment.watching import metrics_of, watch_heads

        if not self._work:
            self._prepare()
        backbone, device = self._backbone(), self._device()
        found = {}
        for name, heads in self._work.items():
            asked = next(iter(heads.values())).checked.asked
            metrics = metrics_of(asked.dataset.target, self._metrics)
            store = asked.store if self.keep else None
            with silent(self.quiet):
                found[name] = watch_heads(heads, backbone, metrics, device, store, guarded=self._n_measured > 0)
        self._n_measured += 1
        return found

    def _device(self) -> str:
        """Where the network is; the CPU for what no head computes on."""
        weight = next(
            (tensor for group in (self.network.parameters(), self.network.buffers()) for tensor in group), None
        )
        return str(weight.device) if weight is not None and weight.device.type == "cuda" else "cpu"


def _name_beside(heads: Heads, drawn: Drawn) -> str:
    """What tables call a head; one that is there already is refused."""
    from probe.experiment.identity import head_name, head_parameters
    from probe.experiment.labels import bases_of, label

    head = drawn.checked.asked.head
    plain = head_name(head)
    name = label(plain, head_parameters(head), *bases_of(plain, type(head), head_parameters))
    if name in heads:
        raise InputError(f"head {name} is given twice: leave one out")
    return name
