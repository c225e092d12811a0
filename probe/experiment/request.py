"""What is asked of a run, and what each of its steps makes of it: data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.core.base import Backbone, Dataset, IntArray, Split, SplitProtocol

if TYPE_CHECKING:
    from probe.core.files import Stamp
    from probe.experiment.captions import CaptionTexts
    from probe.experiment.judgements import Judgements
    from probe.experiment.prompts import Prompts
    from probe.experiment.transfer import Transfer
    from probe.features.store import FeatureStore
    from probe.heads.shared.base import AnyHead
    from probe.metrics.shared.metric import Metric


@dataclass(frozen=True)
class ManyLayers:
    """Layers that stand in for the pooled features together.

    Attributes:
        pattern: As it was asked for, such as `blocks.*:best`.
        how: `best`, one of them is chosen; `mix`, they are summed with weights.
        names: Those that the pattern names, in the order of the network.
    """

    pattern: str
    how: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class TeacherRun:
    """A finished run that teaches.

    Attributes:
        folder: Its run folder.
        digest: Its digest, one of the facts that determine a student's run.
        config: Its resolved configuration; `backbone` and `head` say how to build the teacher again.
        rows: Digest of the rows of its split.
    """

    folder: Path
    digest: str
    config: Mapping[str, Any]
    rows: str


@dataclass(frozen=True)
class Teacher:
    """Who gives logits to a head that learns from them: a backbone and a head, of a finished run or not.

    Attributes:
        reads: As in `Run`, of the teacher's own head and backbone.
    """

    backbone: Backbone
    head: AnyHead
    run: TeacherRun | None = None
    reads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that determines a run, and how it is to be carried out.

    Attributes:
        folder: Where the run folder will stand, such as `runs/quickstart`.
        reads: Kind that the head consumes -> kind of the backbone that stands in for it, such as a tapped layer; of
            `cells` a list of these, or None for all tapped layers; of `pooled` also a pattern of layers with `:best` or
            `:mix` behind it, which a checked request has as `ManyLayers`.
        features: Keyword arguments of `FeatureStore.get` (batch_size, n_workers, on_error, dtypes).
        config: What the user wrote, resolved; kept in the record only.
        save_rows: Leave the rows of the split in the run folder, as `rows.json`.
        test_on: Another dataset, whose test rows take the place of the own ones.
        shifted: Other datasets by name, on whose test rows the same fit is measured too, each in a run of its own.
        ood: Sets of unknown classes by the name that metrics give them, whose test rows are told from the own ones.
        neural_collapse: Record how near features and head are to neural collapse.
        standardize: Bring features to mean 0 and variance 1 over the training rows ahead of the head: True, or
            `vectors`, where the rows are numbers as they are.
        search: `halving`, in the place of the head's own search, or None.
        calibrate: Fit a second time without a fifth of the training rows, and report temperature scaling and
            conformal sets, or intervals of numbers, from these.
        conformal_level: Wanted chance that a conformal set holds the true class, an interval the true number.
        patches: How places of a map become rows of a head, on images with masks; parameters of
            `probe.heads.shared.patch_head.PatchHead`.
        metrics: Beside those of the package.
        shuffle_labels: Permute the labels of the rows that train, and of those that validate.
        control: What it is as a control, for the record: its `kind`, empty for none, and the `architecture` that
            random weights share with those that were read.
    """

    backbone: Backbone
    dataset: Dataset
    protocol: SplitProtocol
    head: AnyHead
    store: FeatureStore
    folder: Path
    seed: int = 0
    device: str = "auto"
    force: bool = False
    save_logits: bool | None = None
    save_rows: bool = False
    reads: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    teacher: Teacher | None = None
    test_on: Dataset | None = None
    shifted: Mapping[str, Dataset] = field(default_factory=dict)
    ood: Mapping[str, Dataset] = field(default_factory=dict)
    neural_collapse: bool = False
    standardize: bool | str = False
    search: str | None = None
    calibrate: bool = False
    conformal_level: float = 0.9
    patches: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    shuffle_labels: bool = False
    control: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """A request whose parts fit each other.

    Attributes:
        asked: The request, without a teacher that its head does not listen to.
        head: Unfitted, with the parameters that follow from the run.
        strata: The dataset as protocols draw from it.
        prompts: The texts of the classes, or the captions of the test rows, of a head that reads texts; judgements.
    """

    asked: Run
    head: AnyHead
    strata: Dataset
    prompts: Prompts | CaptionTexts | Judgements | None


@dataclass(frozen=True)
class Drawn:
    """A checked request and its rows.

    Attributes:
        elsewhere: The test rows of another dataset, where they take the place of the own ones.
        held_out: Training rows that calibrate, kept from a second fit.
    """

    checked: Checked
    split: Split
    elsewhere: Transfer | None
    held_out: IntArray | None


@dataclass(frozen=True)
class Named:
    """A drawn request, all that can change its numbers, and the folder that is named by this.

    Attributes:
        found: The result that stood there when it was asked for, None for none.
        beside: The same fit on shifted test rows, where these were asked for.
    """

    drawn: Drawn
    determinants: Mapping[str, Any]
    folder: Path
    found: Stamp | None = None
    beside: tuple[Named, ...] = ()
