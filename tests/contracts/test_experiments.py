"""Every experiment that is shipped: overrides only, opens with its command, composes."""

from pathlib import Path

import hydra
import pytest

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_opens_with_its_command_and_composes(path):
    package, command, *_ = path.read_text().splitlines()
    assert package == "# @package _global_"
    assert command.startswith("# probe ")
    assert f"experiment={path.stem}" in command
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [word for word in command.split() if "=" in word]
        config = hydra.compose("config", overrides, return_hydra_config=True)
        swept = {key: str(values).split(",")[0] for key, values in config.hydra.sweeper.params.items()}
        first = hydra.compose("config", [*overrides, *(f"{key}={value}" for key, value in swept.items())])
    assert config.name == first.name == path.stem


@pytest.mark.parametrize("group", ["backbone", "dataset", "head", "protocol", "tracker"])
def test_every_choice_of_a_group_composes(group):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted((CONF / group).glob("*.yaml")):
            assert hydra.compose("config", [f"{group}={path.stem}"])[group]["_target_"].startswith("probe.")


def test_rows_of_numbers_come_with_the_identity_backbone_unless_told_otherwise():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose("config", ["dataset=wine"]).backbone._target_.endswith("IdentityBackbone")
        assert hydra.compose("config", ["dataset=wine", "backbone=tiny"]).backbone._target_.endswith("TinyBackbone")
        assert hydra.compose("config", ["dataset=digits"]).backbone._target_.endswith("TinyBackbone")
