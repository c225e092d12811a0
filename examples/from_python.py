"""Runs from Python: names, arrays, a network and a classifier of your own, and one ranked table.

Takes seconds on one core: `python examples/from_python.py`. Run folders go to `runs/from_python`.
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.svm import SVC

import probe

NAME = "from_python"

# One run: a name, and a pair of a name and its parameters. The same as
# `probe dataset=breast_cancer head=linear head.Cs=[0.01,0.1,1] name=from_python`: one folder, one digest.
result = probe.run(dataset="breast_cancer", head=("linear", {"Cs": [0.01, 0.1, 1]}), name=NAME, quiet=True)
print(result)
print("chosen:", result.selection["chosen"])
print("head:", type(result.head).__name__, "predictions:", sorted(result.predictions))

# Arrays, and a classifier of scikit-learn. Without test rows `holdout` draws them.
X, y = load_breast_cancer(return_X_y=True)
board = probe.sweep(
    datasets=((X, y), {"name": "mine", "class_names": ["malignant", "benign"]}),
    heads=["ncm", "lda", SVC(C=3)],
    protocols="holdout",
    seeds=[0, 1, 2],
    name=NAME,
    quiet=True,
)
print(board)
print(board.compare("ncm", "lda"))
print(board.frame[["head", "value", "low", "high", "rank"]])

# A network of your own, with the size and the scale of its input. It is copied and stays as it is.
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()
)
pixels = {"size": 8, "mean": [0.5], "std": [0.5], "name": "random convolution"}
print(probe.run((network, pixels), "digits", "linear", limit=300, name=NAME, quiet=True))

# Its features, from the store that the run filled.
features = probe.extract((network, pixels), "digits", limit=300, quiet=True)["train"]
print(features.arrays["pooled"].shape, features.labels.shape)
