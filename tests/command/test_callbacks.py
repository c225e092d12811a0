"""Heads on a network that a trainer trains: Lightning's, and that of transformers."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from watch_child import PIXELS, network

import probe
from probe.command import callbacks
from probe.core.errors import InputError

# Of packages that are not this one: what they advise on loaders and say of each other is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore")
NAME = "probe/digits(limit=60)/ncm/top1"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))


def watched(model, every=2):
    return probe.Watch((model, PIXELS), "digits", "ncm", limit=60, every=every, quiet=True)


def trained_by_lightning(with_watch):
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.encoder = network()

        def training_step(self, batch, _):
            return self.encoder(batch[0] + torch.rand(1)).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    rows = TensorDataset(torch.rand(12, 1, 8, 8))
    watch = watched(module.encoder) if with_watch else None
    best = pl.callbacks.ModelCheckpoint(dirpath="kept", monitor=NAME, mode="max") if watch else None
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=watch is not None, callbacks=[watch.lightning(), best] if watch else [],
    )  # fmt: skip
    torch.manual_seed(1)
    trainer.fit(module, DataLoader(rows, batch_size=4, shuffle=True))
    return module, watch, trainer


def test_lightning_logs_what_other_callbacks_monitor_and_trains_as_without():
    (module, watch, trainer), (plain, _, _) = trained_by_lightning(True), trained_by_lightning(False)
    assert [row["epoch"] for row in watch.history] == [0, 2]
    assert trainer.callback_metrics[NAME].item() == pytest.approx(watch.history[-1]["value"])
    assert trainer.checkpoint_callback.best_model_score.item() == pytest.approx(
        max(row["value"] for row in watch.history)
    )
    for name, value in module.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def trained_by_transformers(with_watch):
    from transformers import Trainer, TrainingArguments

    class Learner(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = network()

        def forward(self, pixels, labels):
            return {"loss": nn.functional.cross_entropy(self.encoder(pixels), labels)}

    learner = Learner()
    watch = watched(learner.encoder) if with_watch else None
    rows = [{"pixels": torch.rand(1, 8, 8), "labels": n % 6} for n in range(12)]
    options = TrainingArguments(
        "trained", num_train_epochs=3, per_device_train_batch_size=4, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, logging_strategy="no", seed=1,
    )  # fmt: skip
    trainer = Trainer(learner, options, train_dataset=rows, callbacks=[watch.transformers()] if watch else [])
    trainer.train()
    return learner, watch, trainer


def test_the_trainer_of_transformers_keeps_the_numbers_and_trains_as_without():
    (learner, watch, trainer), (plain, _, _) = trained_by_transformers(True), trained_by_transformers(False)
    assert [row["epoch"] for row in watch.history] == [0, 2]
    logged = [entry for entry in trainer.state.log_history if NAME in entry]
    assert [(entry["epoch"], entry["step"]) for entry in logged] == [(1.0, 3), (3.0, 9)]
    assert [entry[NAME] for entry in logged] == [row["value"] for row in watch.history]
    for name, value in learner.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_trainers_are_imported_only_where_they_are_asked_for():
    code = "import sys, probe; probe.Watch; print([m for m in ('lightning', 'transformers') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_trainer_that_is_not_there_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(callbacks, "LIGHTNING", ("no_such_lightning",))
    watch = watched(network())
    with pytest.raises(InputError, match="needs Lightning, which is not installed: pip install lightning"):
        watch.lightning()
    with pytest.raises(InputError, match="needs transformers: pip install transformers accelerate"):
        watch.transformers()
