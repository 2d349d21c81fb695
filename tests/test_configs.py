"""Every config that ships is valid, and a wrong key or value is named with the right one."""

import re
from pathlib import Path

import pytest
import yaml

import train_sft
from preferences.reward_config import DEFAULTS as RM_DEFAULTS
from training.sft_config import OF_OLDER_RUNS
from utils.config import home_path, input_path, load_config, portable_path
from utils.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("configs/**/*.yaml")) + sorted(ROOT.glob("tests/*.yaml")), ids=lambda p: p.name
)
def test_every_yaml_parses(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_demo_encodes_prompts_as_its_published_figures_did():
    assert train_sft.DEFAULTS["data"]["prompt_ids"] == "whole"
    for name in ("sft", "sft_real"):
        config = load_config(ROOT / f"configs/demo/{name}.yaml", train_sft.DEFAULTS, [])
        assert config["data"]["prompt_ids"] == "pieces"


def test_a_run_of_before_the_key_had_its_prompts_in_pieces():
    assert {**OF_OLDER_RUNS, "data": {**OF_OLDER_RUNS["data"], "prompt_ids": "whole"}} == train_sft.DEFAULTS
    assert OF_OLDER_RUNS["data"]["prompt_ids"] == "pieces"


@pytest.mark.parametrize("name", ["sft_gemma2.yaml", "demo/sft.yaml"])
def test_sft_configs_have_known_keys_only(name):
    config = load_config(ROOT / "configs" / name, train_sft.DEFAULTS, [])
    assert isinstance(config["training"]["learning_rate"], float)


@pytest.mark.parametrize("name", ["rm.yaml", "demo/rm.yaml", "demo/rm_real_gemma3.yaml"])
def test_rm_configs_have_known_keys_only(name):
    config = load_config(ROOT / "configs" / name, RM_DEFAULTS, [])
    # PyYAML reads 5e-6 as text.
    assert isinstance(config["learning_rate"], float) and config["learning_rate"] < 1


def test_rm_yaml_shows_every_key_with_its_default():
    lines = (ROOT / "configs/rm.yaml").read_text().splitlines()
    # Keys that the file leaves at their defaults are comments.
    shown = [line.removeprefix("# ") for line in lines if re.match(r"(# )?[a-z_0-9]+: ", line)]
    assert yaml.safe_load("\n".join(shown)) == {**RM_DEFAULTS, "learning_rate": "5e-6"}


def test_a_mistyped_key_is_named_with_the_nearest(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  learning_rat: 1e-4\n")
    with pytest.raises(
        UsageError, match=r"unknown key 'training.learning_rat'; did you mean 'learning_rate'"
    ):
        load_config(path, train_sft.DEFAULTS, [])


@pytest.mark.parametrize(
    "override, word",
    [
        ("training.sed=1", "did you mean 'seed'"),
        ("training", "key=value"),
        ("bf16=3", "expected bool"),
        ("training.seed=x", "expected int"),
        # Only a key whose default is null accepts null.
        ("bf16=null", "expected bool, found None"),
    ],
)
def test_bad_overrides_are_named(override, word):
    with pytest.raises(UsageError, match=word):
        load_config(ROOT / "configs/demo/sft.yaml", train_sft.DEFAULTS, [override])


def test_an_override_changes_one_key_alone():
    plain = load_config(ROOT / "configs/demo/sft.yaml", train_sft.DEFAULTS, [])
    overrides = ["training.learning_rate=5e-6", "data.max_samples=null"]
    changed = load_config(ROOT / "configs/demo/sft.yaml", train_sft.DEFAULTS, overrides)
    assert changed["training"].pop("learning_rate") == 5e-6 and changed["data"].pop("max_samples") is None
    del plain["training"]["learning_rate"], plain["data"]["max_samples"]
    assert changed == plain


def test_inputs_are_looked_for_at_home_first(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    assert home_path("a/b") == tmp_path / "a/b"
    # As a shell does, where there is no such user.
    assert home_path("~nobodyxyz/b") == tmp_path / "~nobodyxyz/b"
    assert portable_path("~nobodyxyz/b") == "~nobodyxyz/b"
    # Not at home, so the one in the working directory is read, as for a config in the repository.
    assert input_path("README.md") == Path("README.md")
    (tmp_path / "README.md").touch()
    assert input_path("README.md") == tmp_path / "README.md"
