"""Every experiment that is shipped: overrides only, opens with its command, composes."""

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from places import CONF

EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_opens_with_its_command_and_composes(path):
    package, command, *_ = path.read_text().splitlines()
    assert package == "# @package _global_"
    assert command.startswith("# probe ")
    assert f"experiment={path.stem}" in command
    parser = OverridesParser.create()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [word for word in command.split() if "=" in word]
        config = hydra.compose("config", overrides, return_hydra_config=True)
        params = config.hydra.sweeper.params or {}
        swept = parser.parse_overrides([f"{key}={values}" for key, values in params.items()])
        firsts = [next(o.sweep_string_iterator()) if o.is_sweep_override() else o.get_value_string() for o in swept]
        named = [f"{o.get_key_element()}={value}" for o, value in zip(swept, firsts, strict=True)]
        first = hydra.compose("config", [*overrides, *named])
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
