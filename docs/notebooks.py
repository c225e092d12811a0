"""Writes the notebooks of `examples/` and executes them, outputs kept: `python docs/notebooks.py [name …]`."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
FEATURES_TO_HEADS = [
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
SWEEP = [
    "# A sweep in one call\n\nBackbones, datasets and heads, three seeds of each, as a ranked table.",
    "import probe\n\nboard = probe.sweep(backbones=['tiny'], datasets='digits', "
    "heads=['linear', 'ncm', 'moment_probing_small'],\n                    name='sweep', quiet=True)\nboard",
    "The same as a DataFrame, one line per row and column of the table.",
    "board.frame[['head', 'dataset', 'value', 'low', 'high', 'n_seeds']].round(3)",
    "Two rows are compared on the same test rows and seeds.",
    "print(board.compare('linear', 'ncm'))",
    "A run of the sweep again, with its fitted head: it is found where it is complete.",
    "result = probe.run(backbone='tiny', dataset='digits', head='ncm', name='sweep', quiet=True)\n"
    "result.head.classes_, result.metrics['top1']",
]
NOTEBOOKS = {"features_to_heads": FEATURES_TO_HEADS, "sweep": SWEEP}


def write(name: str) -> None:
    """Makes a notebook anew."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for i, text in enumerate(NOTEBOOKS[name]):
        is_text = text.startswith("#") or text.endswith((".", ".`"))
        cell = nbformat.v4.new_markdown_cell(text) if is_text else nbformat.v4.new_code_cell(text)
        cell.id = f"cell-{i}"
        notebook.cells.append(cell)
    with TemporaryDirectory() as scratch:
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": scratch}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each ran
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, EXAMPLES / f"{name}.ipynb")


if __name__ == "__main__":
    for asked in sys.argv[1:] or NOTEBOOKS:
        write(asked)
        print(f"wrote {EXAMPLES / asked}.ipynb")
