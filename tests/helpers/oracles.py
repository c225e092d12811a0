"""Reference files: those that are shipped, or those of the folder that PROBE_ORACLES names."""

import os
from pathlib import Path

import pytest
from places import TESTS
from safetensors import safe_open

FOLDER = Path(os.environ.get("PROBE_ORACLES") or TESTS / "oracles")
FORMS = {
    "moment_probing": "param.proj.weight",
    "dual_head_kd": "input.teacher_logits",
    "naive_bayes": "input.batch0.x",
    "regression_metrics": "output.crps_gaussian_mean",
    "tadpole_metrics": "output.ADAS13_WES",
    "fourier_head": "output64.c0.density_on_grid",
    "knn": "ref64.gap_at_k.k1",
    "none": "input.gnd_codes_0neg_1easy_2hard_3junk",
    "unlabelled": "output.reptrix.rankme",
    "linear_sgd": "output.taylor_softmax.mean",
    "attentive": "input.tokens",
    "ss3": "input.word_counts",
    "label_words": "input.verbalizer_ids",
    "deep_kernel": "output.one_nn.labels",
    "tip_adapter": "output.tip_f.losses",
    "lp_plus_plus": "output.init_alpha",
    "clap": "output.l2.multipliers",
    "language_guided": "hyper.ridge_lambda",
    "openood": "output.msp.id",
    "fecam": "param.task0_fc_weight",
    "comic": "input.observed_mask",
    "gzsl": "input.pred_ZS__GZSLtest",
    "ranpac": "param.W_rand",
    "collapse": "definition64.c0.nc4_disagreement",
    "subclass": "output.kmeans.subclass",
    "label_sets": "output.p1.forced_prediction",
    "dfr": "input.l2.val.subset_rows",
    "openood_metrics": "input.ties.confidence",
    "taps_vit": "output.vit.z_0",
    "taps_gpt2": "output.gpt2.z_0",
    "taps_llama": "output.llama.z_0",
}
"""A tensor that tells the form of a file, whatever its name."""


def form(path):
    """The head that a file is about; None where no test reads such a file."""
    with safe_open(path, "numpy") as file:
        names = set(file.keys())
    return next((head for head, tensor in FORMS.items() if tensor in names), None)


def files_of(head):
    return [path for path in sorted(FOLDER.glob("*.safetensors")) if form(path) == head] or [
        pytest.param(None, marks=pytest.mark.skip(reason="no file of this form"))
    ]


def assert_relative(found, expected, relative, name):
    """Distance of two tensors relative to the length of the second."""
    error, length = (found - expected).norm(), expected.norm()
    assert error <= relative * length, f"{name}: {error / length:.2g}"
