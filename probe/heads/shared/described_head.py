"""What heads share whose classes are described: by attributes in a file, or by texts where the backbone reads them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.heads.shared.descriptions import described, read_attributes
from probe.heads.shared.text_head import TextHead


class DescribedHead(TextHead):
    """Base class: a run fills in `class_features` where there are no `attributes`.

    Attributes:
        attributes: (K, A) a row per class of the dataset, or a file of such (see `read_attributes`); None: texts.
    """

    without_texts: ClassVar[str] = "give head.attributes=<file> with a row for each class"
    attributes: str | ArrayLike | None

    @property
    def reads_texts(self) -> bool:  # type: ignore[override]
        """Whether a run gives it texts: where there are no attributes."""
        return self.attributes is None

    def named_files(self) -> list[str]:
        return [self.attributes] if isinstance(self.attributes, str) else []

    def check_parameters(self) -> None:
        super().check_parameters()
        if isinstance(self.attributes, str):
            read_attributes(self.attributes)

    def _check_texts(self) -> None:
        if self.attributes is None:
            super()._check_texts()

    def _features_of_classes(self, width: int | None) -> NDArray[np.float64]:
        if self.attributes is None:
            return super()._features_of_classes(width)
        found: NDArray[np.float64] = described(read_attributes(self.attributes), self.classes_)[self.classes_]
        return found
