"""What `import probe` offers: runs, sweeps, tables, ensembles and features, the same as by the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.command import config as building
from probe.command.calls import Settings, carry_out, quietly, run_all, teller
from probe.command.parts import configured, part_of

if TYPE_CHECKING:
    from typing import Unpack

    from probe.features.store import Features
    from probe.leaderboard.board import Board
    from probe.results.result import Result


def run(
    backbone: Any = None,
    dataset: Any = None,
    head: Any = None,
    protocol: Any = None,
    seed: int = 0,
    *,
    name: str = "default",
    runs: str | Path = "runs",
    cache: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    calibrate: bool = False,
    limit: int | None = None,
    quiet: bool = False,
    **settings: Unpack[Settings],
) -> Result:
    """One run; found where it is complete already. What the command can say too is the same run, in the same folder.

    Each part is a name (`"linear"`), a pair of a name and parameters (`("linear", {"Cs": [0.1, 1]})`), an object, or
    None for what the command takes.

    Args:
        backbone: Also a `torch.nn.Module` with its transform, `(network, transform)`, or with `size`, `mean` and `std`,
            `(network, {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3})`; further options of `backbone=module`, and
            `name`, may stand beside. A language model of transformers comes with its tokenizer, `(model, tokenizer)`,
            and perhaps options, `((model, tokenizer), {"pooling": "last"})`. The network is copied, yours is not
            touched. Or a `Backbone`.
        dataset: Also a path (`pathlib.Path`, or a text that is no dataset's name and holds a separator or exists),
            arrays `(X, y)`, texts `(["…", …], y)`, a torch dataset of (row, label) pairs, a mapping of such by
            partition, as in `{"train": (X, y), "test": (X_test, y_test)}`, or a `Dataset`. Beside arrays may stand
            `{"name": …, "class_names": …}`; where y holds numbers to predict, they say so: `{"target": "number"}`.
        head: Also an estimator of scikit-learn, or a `Head`.
        protocol: Also an instance of one.
        seed: Of the draw of rows and of the head.
        name: The run folder stands in `<runs>/<name>`.
        runs: Where run folders go.
        cache: Where features are kept; None: `$PROBE_CACHE`, else the platform's cache folder.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ….
        force: Run again what is complete.
        calibrate: Report temperature scaling and conformal sets too.
        limit: At most so many rows of each partition, for a dry run.
        quiet: Print nothing.
        settings: See `Settings`.

    Returns:
        Metrics with intervals, what was selected, the fitted head, predictions, the record.

    Raises:
        ProbeError: for anything you can mend, before anything slow starts.

    Example:
        >>> import probe
        >>> result = probe.run(dataset="iris", head="ncm", quiet=True)
        >>> result.metrics["top1"].value > 0.8
        True
        >>> result.head.predict([[5.1, 3.5, 1.4, 0.2]])
        array([0])
    """
    building.forget()
    tell = teller(quiet)
    given = {"backbone": backbone, "dataset": dataset, "head": head, "protocol": protocol}
    parts = {group: part_of(group, value, tell) for group, value in given.items()}
    common = {
        "seed": seed, "name": name, "runs": runs, "cache": cache, "device": device, "force": force,
        "calibrate": calibrate, "limit": limit,
    }  # fmt: skip
    return carry_out(parts, common, dict(settings), quiet)


def sweep(
    backbones: Any = None,
    datasets: Any = None,
    heads: Any = None,
    protocols: Any = None,
    seeds: int | Sequence[int] = (0, 1, 2),
    *,
    rank_by: str | None = None,
    name: str = "default",
    runs: str | Path = "runs",
    cache: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    calibrate: bool = False,
    limit: int | None = None,
    skip_unfit: bool = False,
    controls: bool = False,
    quiet: bool = False,
    **settings: Unpack[Settings],
) -> Board:
    """Every combination of the parts given, as a ranked table with the refusals and marks of `probe leaderboard`.

    A job that fails is told, and does not stop the others.

    Args:
        backbones: A list of what `run` takes as a backbone, or one of it; as the next three. Only a list is several.
        datasets: See `run`.
        heads: See `run`.
        protocols: See `run`.
        seeds: One or several.
        rank_by: The metric that the table shows and ranks by; by default top1; mAP of several labels, r2 of numbers.
        skip_unfit: Pass over parts that do not fit each other, such as a head of tokens and a backbone without any.
        controls: Add what each run is held against: the most frequent class, the raw input, random weights of the same
            architecture, shuffled labels; rows that are not better than one of their controls are marked.

    The other arguments are those of `run`.

    Returns:
        The table, as text and as HTML in a notebook; `frame`, `notes`, `failures`, `compare("a", "b")`.

    Raises:
        ProbeError: No job gave a run, or the runs cannot share a table.

    Example:
        >>> import probe
        >>> board = probe.sweep(datasets="iris", heads=["ncm", "lda"], seeds=[0], quiet=True)
        >>> sorted(board.frame["head"])
        ['lda', 'ncm']
    """

    several = {"backbone": backbones, "dataset": datasets, "head": heads, "protocol": protocols}
    common = {
        "name": name, "runs": runs, "cache": cache, "device": device, "force": force, "calibrate": calibrate,
        "limit": limit, "skip_unfit": skip_unfit, "controls": controls,
    }  # fmt: skip
    done = run_all(several, seeds, common, dict(settings), quiet=quiet)
    return replace(table(done.folders, rank_by), failures=done.failures, unfit=done.unfit)


def table(
    folders: Any,
    metric: str | None = None,
    *,
    rows: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    where: str | Sequence[str] = (),
) -> Board:
    """The ranked table of finished runs, as `probe leaderboard` prints it.

    Args:
        folders: A folder that holds runs, at any depth, or a `Result`; or a list of these.
        metric: One that the runs have; by default top1; mAP of several labels, r2 of numbers.
        rows: Fields that make a row; by default backbone and head.
        columns: Fields that make a column; by default the dataset, and what tells protocols on one dataset apart.
        where: Conditions that the runs meet, such as `"head=linear,ncm"` or `"seed!=0"`.

    Returns:
        See `sweep`.

    Raises:
        InputError: Results that cannot be compared would share a column, or a name is unknown.

    Example:
        >>> import probe
        >>> runs = [probe.run(dataset="iris", head=head, quiet=True) for head in ("ncm", "lda")]
        >>> board = probe.table(runs, metric="log_loss")
        >>> len(board.frame)
        2
    """
    from probe.leaderboard.board import read_board

    conditions = [where] if isinstance(where, str) else list(where)
    by_column = None if columns is None else _fields(columns)
    return read_board(_places(folders), metric, None if rows is None else _fields(rows), by_column, conditions)


def ensemble(
    folders: Any,
    kinds: str | Sequence[str] = "mean",
    *,
    where: str | Sequence[str] = (),
    into: str | Path | None = None,
    force: bool = False,
) -> Board:
    """Finished runs on the same rows, combined into run folders like theirs: what `probe ensemble` does.

    Args:
        folders: As for `table`: the members.
        kinds: `mean`, `median`, `vote` or `weighted`, or several; weights are chosen on the validation rows.
        where: Conditions that the members meet, see `table`.
        into: Where the run folders go; None: beside those of their members.
        force: Write again what is complete.

    Returns:
        The table of members and ensembles; its `comparisons` hold each ensemble against the best member.

    Raises:
        InputError: The runs cannot be combined: other rows, classes or labels, or no probabilities and nothing to
            calibrate them by.

    Example:
        >>> import probe
        >>> runs = [probe.run(dataset="iris", head=head, quiet=True) for head in ("linear", "lda")]
        >>> board = probe.ensemble(runs, ["mean", "median"])
        >>> sorted(board.frame["head"])
        ['lda', 'linear', 'mean of 2', 'median of 2']
    """
    from probe.command.ensembles import combine_all

    conditions = [where] if isinstance(where, str) else list(where)
    return combine_all(_places(folders), _fields(kinds), conditions, into, force=force, command="probe.ensemble(…)")


def extract(
    backbone: Any = None,
    dataset: Any = None,
    kinds: Sequence[str] | None = None,
    partitions: Sequence[str] | None = None,
    *,
    cache: str | Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    quiet: bool = False,
    **settings: Unpack[Settings],
) -> dict[str, Features]:
    """Features from the store, extracted where they are missing: those that runs read.

    Args:
        backbone: See `run`.
        dataset: See `run`.
        kinds: Which features, such as `["pooled", "tokens"]` or a tapped layer; None: `pooled`.
        partitions: None: all of the dataset.

    The other arguments are those of `run`.

    Returns:
        By partition: `arrays` by kind (read-only, N rows), `labels` (N,), `ids`, `valid`, `digest`.

    Raises:
        ProbeError: for anything you can mend, before anything slow starts.

    Example:
        >>> import probe
        >>> found = probe.extract(dataset="iris", quiet=True)
        >>> found["train"].arrays["pooled"].shape
        (75, 4)
    """
    from probe.experiment.extracting import Extracting
    from probe.experiment.reading import fetch

    building.forget()
    tell = teller(quiet)
    parts = {"backbone": part_of("backbone", backbone, tell), "dataset": part_of("dataset", dataset, tell)}
    common = {"cache": cache, "device": device, "limit": limit}
    config, live = configured({**parts, "head": None, "protocol": None}, common, dict(settings), tell)
    request = quietly(building.build(config, "probe.extract(…)", live), quiet)
    asked = {**config["extract"], "kinds": None if kinds is None else list(kinds), "partitions": partitions}
    work = Extracting.of(request, asked)
    return {part: fetch(work.request, work.request.backbone, part, work.kinds, {}) for part in work.partitions}


def _places(folders: Any) -> list[Any]:
    """Of runs that are given as folders or results, one or several."""
    given = list(folders) if isinstance(folders, list | tuple) else [folders]
    return [getattr(folder, "folder", folder) for folder in given]


def _fields(names: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in names.split(",")) if isinstance(names, str) else tuple(names)
