"""Writes `examples/features_to_heads.ipynb` and executes it, outputs kept: `python docs/notebook.py`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "features_to_heads.ipynb"
CELLS = [
    "# From features to the best calibrated head\n\nFeatures in an array, four heads, and how far their probabilities "
    "can be believed.",
    "from sklearn.datasets import load_digits\n\nX, y = load_digits(return_X_y=True)\nX = X.astype('float32')\n"
    "train, validation, test = slice(0, 600), slice(600, 900), slice(900, None)\nX[train].shape, X[test].shape",
    "Every head has `fit(X, y, validation=…)`: what is chosen is chosen on the validation rows.",
    "from probe.heads.lda import LinearDiscriminant\nfrom probe.heads.linear import LinearProbe\n"
    "from probe.heads.naive_bayes import NaiveBayes\nfrom probe.heads.ncm import NearestClassMean\n\n"
    "heads = [NearestClassMean(), NaiveBayes(), LinearDiscriminant(), LinearProbe()]\n"
    "for head in heads:\n    head.fit(X[train], y[train], validation=(X[validation], y[validation]))\n"
    "heads[-1].C_",
    "Metrics come with 95 % intervals for new test rows.",
    "from probe.metrics.evaluate import evaluate\n\nscores = {type(h).__name__: evaluate(h.logits(X[test]), y[test]) "
    "for h in heads}\nfor name, metrics in scores.items():\n"
    "    print(f'{name:18s}', *(f'{m} {metrics[m].value:.3f} [{metrics[m].low:.3f}, {metrics[m].high:.3f}]'\n"
    "                           for m in ('top1', 'log_loss')))",
    "best = min(scores, key=lambda name: scores[name]['log_loss'].value)\nbest",
    "A head is a small file without pickle.",
    "from probe.estimator import Head\n\nheads[-1].save('head.safetensors')\n"
    "again = Head.load('head.safetensors')\nbool((again.predict(X[test]) == heads[-1].predict(X[test])).all())",
]


def write() -> None:
    """Makes the notebook anew."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for i, text in enumerate(CELLS):
        is_text = text.startswith("#") or text.endswith((".", ".`"))
        cell = nbformat.v4.new_markdown_cell(text) if is_text else nbformat.v4.new_code_cell(text)
        cell.id = f"cell-{i}"
        notebook.cells.append(cell)
    with TemporaryDirectory() as scratch:
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": scratch}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each ran
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    write()
    print(f"wrote {NOTEBOOK}")
