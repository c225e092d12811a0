"""Image-text retrieval from images with captions to a run folder and a table, with a random CLIP model."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.command.controls import controlled
from probe.command.describe import describe, render
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.captions import CAPTIONS
from probe.datasets.captions import load
from probe.datasets.shared.caption_rows import CaptionPartition, notes_of_copies
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.sklearn import load as digits
from probe.experiment.request import Run
from probe.experiment.run import run, run_once
from probe.features.store import FeatureStore
from probe.heads.caption_retrieval import CaptionRetrieval
from probe.heads.linear import LinearProbe
from probe.heads.none import NoHead
from probe.leaderboard.index import read_folders
from probe.leaderboard.page import page_data
from probe.leaderboard.table import build_table
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.holdout import Holdout
from probe.protocols.official import Official
from probe.protocols.recorded import Recorded
from probe.results.reader import read_predictions, read_result

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
WORDS = ("cat", "dog", "ship", "truck", "horse")


@pytest.fixture(scope="module", autouse=True)
def small_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    text = json.dumps({"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT})
    (folder / "probe-test-captions.json").write_text(text)
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def backbone():
    return OpenClipBackbone("probe-test-captions", pretrained=None)


def captioned(n=24, seed=0):
    """Images of noise with up to three captions; some captions stand at several images."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    texts = [tuple(f"a {WORDS[(i * k) % 5]} number {i // 2}" for k in range(i % 4)) for i in range(n)]
    rows = ArrayPartition(images, np.zeros(n), [f"{i}" for i in range(n)])
    return make_dataset("photos", (), {"test": CaptionPartition(rows, texts)}, target=CAPTIONS, rows="images")


@pytest.fixture
def request_of(tmp_path, backbone):
    def build(**options):
        settings = {
            "backbone": backbone, "dataset": captioned(), "head": CaptionRetrieval(), "protocol": Official(),
            "device": "cpu",
        }  # fmt: skip
        return Run(store=FeatureStore(tmp_path / "cache"), folder=tmp_path / "runs", **settings | options)

    return build


def test_recalls_of_a_run_are_those_of_the_model_itself(request_of, backbone):
    request = request_of()
    result = read_result(run(request))
    test = request.dataset.partitions["test"]
    texts = [text for of_row in test.captions for text in of_row]
    owners = np.repeat(np.arange(len(test)), test.labels)
    with torch.no_grad():
        seen = backbone._model.encode_image(
            torch.stack([backbone.transform(test[i]) for i in range(len(test))]).float().div(255).sub(
                torch.tensor(backbone._config["mean"])[:, None, None]
            ).div(torch.tensor(backbone._config["std"])[:, None, None]), normalize=True,
        )  # fmt: skip
        read = backbone._model.encode_text(open_clip.get_tokenizer("probe-test-captions")(texts), normalize=True)
    cosines = (seen @ read.T).double().numpy().round(5)  # equal texts are equal
    orders = np.argsort(-cosines, axis=1, kind="stable"), np.argsort(-cosines.T, axis=1, kind="stable")
    for k in (1, 5, 10):
        text = [np.isin(i, owners[orders[0][i, :k]]) for i in range(len(test)) if test.labels[i]]
        image = [owners[t] in orders[1][t, :k] for t in range(len(texts))]
        found = result["metrics"]
        assert found[f"text_retrieval_recall_at_{k}"]["value"] == pytest.approx(np.mean(text))
        assert found[f"image_retrieval_recall_at_{k}"]["value"] == pytest.approx(np.mean(image))


def test_a_run_says_what_it_measured_and_the_table_and_the_page_show_it(request_of, tmp_path):
    folder = run(request_of())
    result, kept = read_result(folder), read_predictions(folder)
    assert (result["dataset"]["target"], result["dataset"]["class_names"]) == ("captions", [])
    assert [result["protocol"][f"n_{part}"] for part in ("train", "validation", "test")] == [0, 0, 24]
    assert set(kept) == {"row", "label", "text_rank", "image_hits"}
    of_rows = captioned().partitions["test"].captions
    shared = sum(
        any(t in other for j, other in enumerate(of_rows) if j != i) for i, row in enumerate(of_rows) for t in row
    )
    assert result["notes"][0].startswith(
        f"{shared} captions of 36 also stand at another row, where each counts as found"
    )
    records = read_folders([str(tmp_path / "runs")])
    assert not records.problems
    table = build_table(records)
    assert (table.metric, table.measure.percent) == ("mean_recall", True)
    assert {shown["fault"] for shown in page_data(table, records.frame)["runs"]} == {""}


def test_texts_and_images_are_extracted_once_and_protocols_agree(request_of, monkeypatch):
    first = read_result(run(request_of()))["metrics"]
    monkeypatch.setattr("probe.backbones.shared.open_clip_text.OpenClipText.extract", None)
    monkeypatch.setattr(OpenClipBackbone, "extract", None)
    folder, is_new = run_once(request_of(protocol=Full(), seed=3))
    assert is_new
    assert read_result(folder)["metrics"] == first


def test_another_caption_makes_another_run(request_of):
    data = captioned()
    test = data.partitions["test"]
    other = [("a bird",), *test.captions[1:]]
    changed = make_dataset("photos", (), {"test": CaptionPartition(test.images, other)}, target=CAPTIONS, rows="images")
    assert run(request_of()).name != run(request_of(dataset=changed)).name
    assert not run_once(request_of())[1]


def test_recorded_rows_are_looked_for_among_themselves(request_of, tmp_path):
    run_folder = run(request_of(save_rows=True))
    rows = json.loads((run_folder / "rows.json").read_text())
    rows["test"]["indices"] = [1, 2, 7, 11]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    kept = read_predictions(run(request_of(protocol=Recorded(str(tmp_path / "rows.json")))))
    assert kept["row"].tolist() == [1, 2, 7, 11]
    assert kept["label"].tolist() == [1, 2, 3, 3]
    assert kept["text_rank"].max() < 9
    assert (kept["image_hits"][:, 1] == kept["label"]).all()  # four images


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"test": []}, "tests on no row, expected one at least: fill its test.indices"),
        ({"test": [1, 1, 2]}, "names test rows twice or out of their order, .*: sort its test.indices"),
        ({"test": [2, 1]}, "names test rows twice or out of their order"),
        ({"train": [5, 6]}, "has 2 rows for train, expected none: nothing is learnt from dataset photos with captions"),
        ({"validation": [5]}, "has 1 row for validation, expected none: .* empty its validation.indices"),
        ({"train_labels": [0] * 24}, "has 24 labels for the rows of train: draw new rows"),
    ],
)
def test_recorded_rows_that_captions_do_not_have_are_refused(changed, text, tmp_path):
    nothing = {"partition": "test", "indices": []}
    rows = {"schema": 1, "dataset": {"name": "photos", "fingerprint": captioned().fingerprint}, "folds": None,
            "train": nothing, "validation": nothing, "test": {**nothing, "indices": [1, 2]}}  # fmt: skip
    indices = {part: {**nothing, "indices": of_part} for part, of_part in changed.items() if part != "train_labels"}
    rows |= {"train_labels": changed.get("train_labels"), **indices}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=text):
        Recorded(str(tmp_path / "rows.json")).split(captioned(), 0)


@pytest.mark.parametrize("kind", ["majority", "raw_input"])
def test_captions_have_no_control_without_features(kind):
    with pytest.raises(DoesNotFit, match=f"photos with captions nothing is learnt, .*: leave control={kind} out"):
        controlled({"control": kind}, {}, captioned())


def test_an_image_that_cannot_be_decoded_goes_with_its_captions(request_of, tmp_path):
    captions = [{"image": f"{i}.png", "caption": [f"a {WORDS[i]}", f"the {WORDS[i]}"]} for i in range(5)]
    for i in range(5):
        Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:40])
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    folder = run(request_of(dataset=load(str(tmp_path / "captions.json")), features={"on_error": "skip"}))
    kept = read_predictions(folder)
    assert kept["row"].tolist() == [0, 1, 3, 4]
    assert kept["text_rank"].max() < 8
    assert (kept["image_hits"][:, 2] == 2).all()
    assert read_result(folder)["skipped_rows"] == {"test": 1}


def test_views_are_averaged_and_have_the_texts_of_their_backbone(request_of, backbone):
    plain, flipped = (read_result(run(request_of(backbone=b))) for b in (backbone, MultiView(backbone, 2, "flips")))
    assert plain["texts"] == flipped["texts"]


def test_describe_counts_captions(backbone):
    lines = render(describe(backbone, captioned()))
    assert "photos, 36 captions, 24 test" in lines
    assert "captions / row 0 to 3, median 1.5; 6 rows without any" in lines
    assert "leakage" not in lines


def test_rows_with_one_image_are_counted_by_a_run_and_by_describe(request_of, backbone):
    rows = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)[[0, 1, 0, 2, 0]]
    images = ArrayPartition(rows, np.zeros(5), list("abcde"))
    parts = {"test": CaptionPartition(images, [(f"a {word}",) for word in WORDS])}
    data = make_dataset("photos", (), parts, target=CAPTIONS, rows="images")
    text = "3 of 5 rows have the content of another row, while a caption counts as found with its own row alone: set"
    assert [note for note in read_result(run(request_of(dataset=data)))["notes"] if text in note]
    assert text in render(describe(backbone, data))
    assert not notes_of_copies(captioned())
    assert not notes_of_copies(digits("digits"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": TinyBackbone(pretrained=False)},
         "head caption_retrieval compares images with texts, backbone tiny-random has no text tower: set "
         "backbone=open_clip, or another that has one"),
        ({"head": LinearProbe()}, "photos has captions, head linear fits .*: choose head=caption_retrieval"),
        ({"head": NoHead()}, "photos has captions, head none fits .*: choose head=caption_retrieval"),
        ({"dataset": digits("digits")}, r"fits captions: set dataset\.caption_columns=\[<column>\] \(of webdataset "
         r"dataset\.caption_key=txt\), or choose one of "),
        ({"protocol": FewShot()}, "protocol few_shot draws training rows: choose one of full, official, recorded"),
        ({"protocol": Holdout()}, "protocol holdout draws training rows: choose one of full, official, recorded"),
        ({"calibrate": True}, "photos has captions, calibrate need one class per row: leave them out"),
        ({"standardize": True}, "standardize=True scales one vector per row, head CaptionRetrieval reads texts"),
        ({"shuffle_labels": True}, "a head that reads texts learns from no label"),
        ({"search": "halving"}, "search=halving does not go with .*a head that reads texts"),
        ({"neural_collapse": True}, "photos has captions: leave it out"),
        ({"ood": {"other": digits("digits")}}, "it has captions: leave ood out"),
        ({"test_on": digits("digits")}, "photos has captions, test_on need one class per row: leave them out"),
        ({"reads": {"pooled": "blocks.0"}}, "reads.*blocks.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_extracted(options, text, request_of, monkeypatch):
    for kind in (OpenClipBackbone, TinyBackbone):
        monkeypatch.setattr(kind, "extract", None)
    with pytest.raises((InputError, DoesNotFit), match=text):
        run(request_of(**options))
