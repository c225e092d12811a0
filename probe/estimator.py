"""`from probe.estimator import Head`: where heads of one's own find their base class."""

from probe.heads.shared.head import Head

__all__ = ["Head"]
