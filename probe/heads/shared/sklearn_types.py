"""Which classes a record may name for head=sklearn, and a saved head may hold: estimators, and what these are made of.

No function is among them. Some of scikit-learn's read and write files, and bound methods of arrays do so too.
"""

from __future__ import annotations

import importlib
from typing import Any

from sklearn.base import BaseEstimator

from probe.heads.shared.base import AnyHead

PARTS = {
    "numpy": "dtype",
    "sklearn.tree._tree": "Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.neighbors._kd_tree": "KDTree",
    "sklearn.neighbors._ball_tree": "BallTree",
    "sklearn.metrics._dist_metrics": "EuclideanDistance64 ManhattanDistance64 ChebyshevDistance64 MinkowskiDistance64",
    "sklearn.calibration": "_CalibratedClassifier",
    "sklearn.gaussian_process.kernels": "ConstantKernel Product RBF",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.utils._bunch": "Bunch",
    "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogitLink LogLink MultinomialLogit",
    "sklearn._loss.loss": "ExponentialLoss HalfBinomialLoss HalfMultinomialLoss AbsoluteError HalfGammaLoss "
    "HalfPoissonLoss HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity PinballLoss",
    "sklearn._loss._loss": "CyExponentialLoss CyHalfBinomialLoss CyHalfMultinomialLoss CyAbsoluteError CyHalfGammaLoss "
    "CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyPinballLoss",
    "probe.heads.shared.moments": "ClassMoments",
}
"""Module: classes that are no estimators and that fitted estimators hold, heads of this package too."""
PART_NAMES = frozenset(f"{module}.{name}" for module, names in PARTS.items() for name in names.split())


def is_part(name: str) -> bool:
    """Whether a type may lie in a saved head: an estimator under the name of the module that defines it, or a part."""
    return name in PART_NAMES or estimator_class(name, by_defining_module=True) is not None


def estimator_class(path: str, *, by_defining_module: bool = False) -> Any:
    """An estimator of scikit-learn or a head of this package, by its import path; None for everything else.

    Args:
        path: Such as `sklearn.svm.SVC`.
        by_defining_module: Whether it has to be spelled as `sklearn.svm._classes.SVC`.
    """
    module, _, name = path.rpartition(".")
    if not module.startswith(("sklearn.", "probe.heads.")) or "tests" in module.split("."):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    if not isinstance(found, type) or not issubclass(found, BaseEstimator):
        return None
    if by_defining_module and found.__module__ != module:
        return None
    # A head of the package that imports what its parameters name is none of these.
    own = issubclass(found, AnyHead) and not hasattr(found, "runs_code")
    return found if own or found.__module__.startswith("sklearn.") else None
