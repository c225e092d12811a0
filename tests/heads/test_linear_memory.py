import numpy as np
import pytest

from probe.core.errors import InputError
from probe.heads.linear import LinearProbe
from probe.heads.shared import training_memory


def test_a_path_that_does_not_fit_is_refused_before_the_first_pass_and_the_remedy_works(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 9)).astype(np.float32), np.arange(60) % 20
    one = 4 * 20 * 10
    monkeypatch.setattr(training_memory, "available_bytes", lambda device: one * (16 + 80 + 3 * 2))
    message = r"^3 values of C for 20 classes of 9 features take .* GB free: set head.Cs to at most 2 values$"
    with pytest.raises(InputError, match=message):
        LinearProbe(Cs=[0.1, 1.0, 10.0]).fit(X, y)
    assert len(LinearProbe(Cs=[0.1, 1.0]).fit(X, y).Cs_) == 2
    monkeypatch.setattr(training_memory, "available_bytes", lambda device: one)
    with pytest.raises(InputError, match="choose head=ncm or fewer features"):
        LinearProbe(Cs=[1.0]).fit(X, y)
