import os
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

import probe
from probe.backbones.module import ModuleBackbone
from probe.backbones.shared import compiled, image_network, programs
from probe.backbones.shared.compiled import Compiled
from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError


class Little(ImageNetwork):
    """A convolution, a batch norm and a mean."""

    def __init__(self, **given):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU())
        super().__init__(network, name="little", image_size=(8, 8), **given)

    def transform(self, row):
        return torch.as_tensor(row)

    def _features(self, batch):
        return {"pooled": self.network(batch).mean((2, 3))}

    def _architecture(self):
        return {"family": "little"}

    def _preprocessing(self):
        return {}


def pair(**given):
    """The same backbone, eager and compiled."""
    return tuple(Little(taps=["0"], compile=flag, **given) for flag in (False, True))


@pytest.fixture
def both(monkeypatch):
    """Eager and as compiled, four rows at a time, where nothing is compiled: that takes seconds."""
    monkeypatch.setattr(compiled, "ahead_of_time", lambda function, network, rows, folder: function)
    monkeypatch.setattr(compiled, "share_artefacts", lambda: None)
    monkeypatch.setattr(image_network, "check_compiler", lambda name: None)
    monkeypatch.setattr(compiled, "N_ROWS", {"cpu": 4})
    return pair()


def images(n):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_rows", [0, 1, 4, 11])
@torch.inference_mode()
def test_compiled_features_are_those_of_the_eager_loop_for_any_number_of_rows(both, n_rows):
    expected, found = (backbone.extract(images(n_rows), ["pooled"])["pooled"] for backbone in both)
    assert found.shape == (n_rows, 4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def test_a_row_has_the_same_bits_alone_and_in_company(both):
    _, fast = both
    together = fast.extract(images(11), ["pooled"])["pooled"]
    alone = fast.extract(images(11)[9:10], ["pooled"])["pooled"]
    assert torch.equal(together[9:10], alone)


@torch.inference_mode()
def test_taps_are_what_they_are_without_compilation(both):
    expected, found = (backbone.extract(images(5), ["0", "pooled"]) for backbone in both)
    assert torch.equal(found["0"], expected["0"])
    assert list(found) == ["0", "pooled"]


def test_a_copy_for_another_process_makes_its_own_program(both):
    _, fast = both
    with torch.inference_mode():
        fast.extract(images(2), ["pooled"])
    assert fast._program._program is not None
    assert fast._program.__getstate__()["_program"] is None


@pytest.mark.slow
@torch.inference_mode()
def test_a_program_is_near_the_eager_loop_and_lies_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    monkeypatch.setenv(compiled.FOLDER, "")
    del os.environ[compiled.FOLDER]
    eager, fast = pair()
    for n_rows in (1, 40):
        expected, found = (backbone.extract(images(n_rows), ["pooled"])["pooled"] for backbone in (eager, fast))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    alone = fast.extract(images(40)[9:10], ["pooled"])["pooled"]
    assert torch.equal(found[9:10], alone)
    assert os.environ[compiled.FOLDER] == str(tmp_path / "compiled")
    assert len(list((tmp_path / "compiled").glob("*.pt2"))) == 1
    written = [path for path in (tmp_path / "compiled").rglob("*") if path.suffix == ".cpp"]
    # Of the compiler's trials of the processor alone: what it wrote on the way is as large as the program.
    assert not [path for path in written if "kernel" in path.name or "wrapper" in path.name]

    def make(traced, path):
        raise AssertionError("it is there already")

    monkeypatch.setattr(programs, "_make", make)
    again = pair()[1].extract(images(40), ["pooled"])["pooled"]
    assert torch.equal(again, found)


@pytest.mark.slow
@torch.inference_mode()
def test_a_program_of_bfloat16_computes_in_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path / "own"))
    eager, fast = pair(precision="bfloat16")
    wide = pair()[0].extract(images(32), ["pooled"])["pooled"]
    expected, found = (backbone.extract(images(32), ["pooled"])["pooled"] for backbone in (eager, fast))
    assert not torch.allclose(found, wide, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-2)


@pytest.mark.slow
@torch.inference_mode()
def test_what_runs_on_a_gpu_has_its_weights_frozen(monkeypatch):
    def reached(*_, **__):
        raise NotImplementedError("weights are being frozen")  # what follows is the compiler's

    monkeypatch.setattr("torch._inductor.freezing.freeze", reached)
    run = compiled.frozen(Little()._features)
    with pytest.raises(Exception, match="weights are being frozen"):
        run(images(4))


def names_of_programs(backbone, folder, monkeypatch):
    """What a backbone's program would be called; it is not made."""
    monkeypatch.setattr(programs, "_make", lambda traced, path: path.touch())
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: backbone._features)
    backbone.extract(images(32), ["pooled"])
    return {path.name for path in folder.glob("*.pt2")}


@torch.inference_mode()
def test_programs_are_named_after_all_they_were_made_of(programs_folder, monkeypatch):
    def add(**given):
        return len(names_of_programs(Little(compile=True, **given), programs_folder, monkeypatch))

    assert [add(), add()] == [1, 1]
    assert add(precision="bfloat16") == 2
    assert add(memory_format=torch.channels_last) == 3
    other = Little(compile=True)
    other.network[0].bias.data += 1
    assert len(names_of_programs(other, programs_folder, monkeypatch)) == 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert add() == 5


@torch.inference_mode()
def test_where_torch_does_not_tell_the_instructions_a_program_is_of_this_machine_alone(programs_folder, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for node in ("here", "there"):
        monkeypatch.setattr(programs.platform, "node", lambda node=node: node)
        found = names_of_programs(Little(compile=True), programs_folder, monkeypatch)
    assert len(found) == 2


@torch.inference_mode()
def test_where_files_cannot_be_locked_a_program_is_made_all_the_same(programs_folder, monkeypatch):
    def no_locks(path):
        raise NotImplementedError

    monkeypatch.setattr(programs, "FileLock", no_locks)
    assert len(names_of_programs(Little(compile=True), programs_folder, monkeypatch)) == 1


@torch.inference_mode()
def test_a_program_that_cannot_be_loaded_is_made_once_more(programs_folder, monkeypatch):
    made, fast = [], Little(compile=True)

    def load(path):
        if len(made) < 2:
            raise RuntimeError("not a program")
        return fast._features

    monkeypatch.setattr(programs, "_make", lambda traced, path: made.append(path) or path.touch())
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    assert fast.extract(images(3), ["pooled"])["pooled"].shape == (3, 4)
    assert len(made) == 2


def test_what_makes_a_program_leaves_nothing_half_done(tmp_path, monkeypatch):
    def broken(traced, *, package_path, inductor_configs):
        with open(package_path, "wb") as file:
            file.write(b"half of a program")
        raise RuntimeError("the compiler was killed")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", broken)
    with pytest.raises(RuntimeError, match="was killed"):
        programs._make(None, tmp_path / "program.pt2")
    assert not list(tmp_path.iterdir())


def test_the_processor_is_tried_with_the_options_of_the_program(tmp_path, monkeypatch):
    from torch._inductor import config

    compiled.keep_no_headers()

    def written(traced, *, package_path, inductor_configs):
        Path(package_path).touch()
        return package_path

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", written)
    seen = []
    monkeypatch.setattr(
        "torch._inductor.cpu_vec_isa.pick_vec_isa",
        lambda: seen.append((config.aot_inductor.output_path, config.aot_inductor.precompile_headers)),
    )
    programs._make(None, tmp_path / "program.pt2")
    ((output_path, headers),) = seen
    assert output_path.endswith(programs.SCRATCH)
    assert not headers


@torch.inference_mode()
def test_what_killed_compilations_left_is_removed_and_nothing_that_is_being_made(programs_folder, monkeypatch):
    compiled.share_artefacts()
    names = ["dead", "young", "made_elsewhere"]
    dead, young, alive = (programs_folder / f"{name}.x{programs.SCRATCH}" for name in names)
    for folder in (dead, young, alive):
        folder.mkdir()
        (folder / "half.cpp").touch()
    for folder in (dead, alive):
        os.utime(folder, (0, 0))
    with FileLock(programs_folder / "made_elsewhere.lock"):
        own = names_of_programs(Little(compile=True), programs_folder, monkeypatch)
    assert [folder.exists() for folder in (dead, young, alive)] == [False, True, True]
    left = programs_folder / f"{own.pop().removesuffix('.pt2')}.x{programs.SCRATCH}"
    left.mkdir()
    os.utime(left, (0, 0))
    names_of_programs(Little(compile=True), programs_folder, monkeypatch)
    assert not left.exists()


def test_compilation_is_part_of_the_identity_and_its_absence_changes_none(both):
    eager, fast = both
    assert fast.identity() == {**eager.identity(), "compiled": "frozen"}
    assert "compiled" not in eager.identity()


@pytest.mark.parametrize(("side", "word"), [(32, "frozen"), (112, "frozen"), (128, "frozen, in parts")])
def test_programs_whose_calls_take_as_many_rows_as_ever_keep_their_name(side, word, monkeypatch):
    monkeypatch.setattr(image_network, "check_compiler", lambda name: None)
    backbone = TinyBackbone(compile=True)
    backbone.image_size = (side, side)
    assert backbone.identity()["compiled"] == word
    backbone.device = "cuda"  # no device is part of a name
    assert backbone.identity()["compiled"] == word


def test_a_machine_without_a_compiler_is_told_of_the_way_out_which_works(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    message = r"^backbone tiny is to be compiled and there is no C\+\+ compiler here .*, or set backbone.compile=false$"
    with pytest.raises(InputError, match=message):
        TinyBackbone(compile=True)
    assert TinyBackbone(compile=False).kinds


def test_a_network_that_cannot_be_compiled_is_told_of_the_way_out():
    class Broken(Compiled):
        def _make(self, rows):
            raise NotImplementedError("no such operator")

    program = Broken(lambda batch: {}, nn.Identity(), "odd", torch.channels_last)
    message = r"^backbone odd cannot be compiled on this machine \(no such operator\): set backbone.compile=false$"
    with pytest.raises(InputError, match=message):
        program(images(2))


@pytest.fixture
def programs_folder(tmp_path, monkeypatch):
    """Where programs would lie; folders above it are as the test makes them."""
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(compiled.FOLDER, raising=False)
    return tmp_path / "cache" / "compiled"


def test_programs_lie_in_a_folder_of_their_user_alone(programs_folder):
    compiled.share_artefacts()
    config = torch._inductor.config  # else torch keeps headers of programs in the temporary folder
    assert not getattr(config, "cpp_cache_precompile_headers", False)
    assert not getattr(config.aot_inductor, "precompile_headers", False)
    assert os.environ[compiled.FOLDER] == str(programs_folder)
    assert programs_folder.stat().st_mode & 0o777 == 0o700
    (programs_folder / "made").mkdir()
    (programs_folder / "made").chmod(0o777)  # nobody else gets there
    compiled.share_artefacts()


@pytest.mark.parametrize("opened", [".", "..", "inside"])
def test_programs_that_others_could_have_written_are_refused_and_the_way_out_works(programs_folder, tmp_path, opened):
    compiled.share_artefacts()
    (programs_folder / "inside").mkdir()
    programs_folder.chmod(0o755)
    os.chmod(programs_folder / opened, 0o777)
    message = f"can be written by other users: set {compiled.FOLDER} to a folder that is yours alone"
    with pytest.raises(InputError, match=message):
        TinyBackbone(compile=True)
    assert TinyBackbone(compile=False).kinds
    os.environ[compiled.FOLDER] = str(tmp_path / "own")
    assert TinyBackbone(compile=True).program_rows


def test_programs_of_another_user_are_refused(programs_folder, monkeypatch):
    compiled.share_artefacts()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.raises(InputError, match="can be written by other users"):
        compiled.share_artefacts()


def test_a_folder_in_which_nobody_moves_what_is_not_his_may_be_above_it(programs_folder):
    compiled.share_artefacts()
    programs_folder.parent.chmod(0o1777)
    compiled.share_artefacts()


def mean_of_pixels():
    """A network of one's own, as backbone.target names it."""
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU())


def test_networks_of_ones_own_are_compiled_too(both):
    target = f"{__name__}:mean_of_pixels"
    eager, fast = (ModuleBackbone(target, size=16, compile=flag) for flag in (False, True))
    found = [
        backbone.extract(torch.zeros(5, 3, 16, 16, dtype=torch.uint8), ["pooled", "map"]) for backbone in (eager, fast)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)
    assert fast.identity() == {**eager.identity(), "compiled": "frozen"}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of tracing
def test_a_saved_program_is_not_compiled_and_runs_as_it_is(tmp_path):
    path = tmp_path / "saved.ts"
    torch.jit.trace(mean_of_pixels().eval(), torch.zeros(1, 3, 16, 16)).save(path)
    given = {"size": 16, "trust": True}
    with pytest.raises(InputError, match=r"cannot be compiled anew: set backbone.compile=false"):
        ModuleBackbone(str(path), compile=True, **given)
    assert ModuleBackbone(str(path), compile=False, **given).kinds


@pytest.mark.slow
def test_probes_of_compiled_features_score_as_those_of_eager_ones(tmp_path):
    given = {"dataset": "digits", "head": ("linear", {"Cs": [1.0]}), "runs": tmp_path, "cache": tmp_path / "cache"}
    eager, fast = (probe.run(backbone=("tiny", {"compile": flag}), **given) for flag in (False, True))
    assert abs(eager.metrics["top1"].value - fast.metrics["top1"].value) <= 0.002
    assert not np.array_equal(eager.record["features"], fast.record["features"])
