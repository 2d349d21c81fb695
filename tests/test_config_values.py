"""Values of a config that no run can use are refused where they are read, by every stage."""

from pathlib import Path

import pytest
import yaml

from preferences.reward_config import DEFAULTS as RM_DEFAULTS
from preferences.reward_config import load_reward_config
from training.policy_config import POLICY_DEFAULTS, check_policy_config
from training.sft_config import DEFAULTS as SFT_DEFAULTS
from training.sft_config import check_config
from utils.config import load_config
from utils.config_values import check_count
from utils.errors import UsageError

STAGES = {"sft": SFT_DEFAULTS, "policy": POLICY_DEFAULTS, "reward": RM_DEFAULTS}


def floats(defaults: dict, prefix: str = "") -> list[str]:
    """The full names of the keys that are numbers with a point."""
    names = []
    for key, value in defaults.items():
        if isinstance(value, dict):
            names += floats(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            names.append(f"{prefix}{key}")
    return names


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    return path


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "inf", "1e999"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_number_of_every_stage_is_finite(stage, value, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("{}")
    names = floats(STAGES[stage])
    assert any(name.endswith("learning_rate") for name in names) and len(names) > 5
    for name in names:
        with pytest.raises(UsageError, match=rf"{name}'?: expected a finite number, found"):
            load_config(path, STAGES[stage], [f"{name}={value}"])


@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("sft", "data.weights={fever: .inf}"),
        ("sft", "data.unanswerable_fraction=.nan"),
        ("policy", "data.kind_weights={pair: .inf}"),
        ("reward", "feature_layers=[.inf]"),
    ],
)
def test_so_are_those_of_lists_and_free_blocks(stage, override, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("{}")
    with pytest.raises(UsageError, match="expected a finite number"):
        load_config(path, STAGES[stage], [override])


@pytest.mark.parametrize("seed", ["-1", "1e20", str(2**32)])
def test_the_seed_of_a_reward_model_has_the_range_of_that_of_sft(seed, config):
    with pytest.raises(UsageError, match=rf"seed: expected a number from 0 to {2**32 - 1}, found"):
        load_reward_config(str(config), [f"seed={seed}"])
    assert load_reward_config(str(config), [f"seed={2**32 - 1}"])["seed"] == 2**32 - 1


@pytest.mark.parametrize(
    ("name", "is_null_offered"),
    [
        *(("training.eval_steps", False), ("training.max_seq_length", False), ("data.max_samples", True)),
        *(("data.max_calibration_samples", False), ("training.tokens_per_pass", True)),
    ],
)
def test_null_is_offered_where_it_is_accepted(name, is_null_offered, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("{}")
    with pytest.raises(UsageError) as caught:
        check_config(load_config(path, SFT_DEFAULTS, [f"{name}=0"]))
    assert f"{name}: expected a whole number from 1 on" in str(caught.value)
    assert ("or null" in str(caught.value)) == is_null_offered
    if is_null_offered:
        check_config(load_config(path, SFT_DEFAULTS, [f"{name}=null"]))
    else:
        with pytest.raises(UsageError, match="found None"):
            load_config(path, SFT_DEFAULTS, [f"{name}=null"])


def test_a_count_says_what_it_takes():
    check_count("n", None)
    with pytest.raises(UsageError, match="n: expected a whole number from 2 on, found None"):
        check_count("n", None, 2, or_null=False)


def test_the_defaults_of_every_stage_pass():
    check_config(SFT_DEFAULTS)
    check_policy_config(POLICY_DEFAULTS)
    for defaults in STAGES.values():
        assert yaml.safe_load(yaml.safe_dump(dict(defaults))) == defaults
