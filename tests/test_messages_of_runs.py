"""What a run says is in its way names the key or flag that this stage has, and the thing that is wrong."""

from types import SimpleNamespace

import pytest
from transformers import TrainerState

import evaluate_sft_fast_robust
import make_prefs
from models.directories import check_adapter_dir, check_model_name, no_base
from preferences.reward_config import DEFAULTS as RM_DEFAULTS
from preferences.reward_config import load_reward_config
from training.checkpoints import RunFiles
from training.inputs import refuse_adapter
from training.policy_config import POLICY_DEFAULTS
from training.progress import StepProgress, seconds_before
from training.sft_config import DEFAULTS, check_config
from training.validation import answer_samples
from utils.config import load_config
from utils.errors import DataError, NotNumbers, StageError, UsageError
from utils.jsonl import write_json


def make_runs(folder, *names: str) -> None:
    for name in names:
        write_json(
            folder / name / "checkpoint-best/adapter_config.json", {"base_model_name_or_path": "/gone"}
        )


# --- paths of models


@pytest.mark.parametrize("check", [check_adapter_dir, check_model_name])
def test_the_folder_above_runs_names_them(check, tmp_path):
    make_runs(tmp_path, "a", "sft/b")
    best = tmp_path / "a/checkpoint-best"
    with pytest.raises(DataError, match=rf"found a folder of runs \(a, sft/b\).* such as {best}"):
        check(str(tmp_path))
    # That of one run is told as before.
    with pytest.raises(DataError, match="found a run of train_sft.py"):
        check(str(tmp_path / "a"))


def test_a_base_that_moved_is_named_with_what_takes_it(tmp_path):
    place = str(tmp_path / "m")
    for flag in ("--set model_name=DIR", "--base-model DIR"):
        with pytest.raises(
            DataError, match=f"{place}: no such .* name the folder where it is now with {flag}"
        ):
            check_model_name(place, flag)


def test_a_checkpoint_as_base_is_refused_wherever_its_own_base_is(tmp_path):
    make_runs(tmp_path, "a")
    with pytest.raises(UsageError, match="is an adapter, which the new one would replace; merge it first"):
        refuse_adapter(str(tmp_path / "a/checkpoint-best"))
    refuse_adapter("google/gemma-2-9b")


def test_a_missing_checkpoint_is_no_model_that_names_no_base(tmp_path):
    missing = tmp_path / "missing/checkpoint-best"
    said = str(no_base(str(missing)))
    assert (
        said.startswith(f"--model-path {missing}: no such checkpoint") and "the model names none" not in said
    )
    assert "the model names none" in str(no_base(str(tmp_path)))
    flags = ["--model-path", str(missing), "--test-data", "x", "--compare-baseline"]
    with pytest.raises(UsageError, match="no such checkpoint"):
        evaluate_sft_fast_robust.read_arguments(flags)


# --- configs and flags


def test_a_length_without_room_for_a_prompt_says_so(tmp_path):
    config = {**DEFAULTS, "training": {**DEFAULTS["training"], "max_seq_length": 10}}
    with pytest.raises(UsageError, match="max_seq_length: 10 leaves no room for a prompt, as 96 tokens"):
        check_config(config)
    path = tmp_path / "rm.yaml"
    path.write_text("max_seq_length: 160\n")
    with pytest.raises(UsageError, match="max_seq_length: 160 leaves no room for a prompt, as 160 tokens"):
        load_reward_config(str(path), [])


STAGES = {
    "train_sft.py": (DEFAULTS, "configs/demo/sft.yaml"),
    "train_dpo.py": (POLICY_DEFAULTS, "configs/demo/loop.yaml"),
    "train_rm.py": (RM_DEFAULTS, "configs/demo/rm.yaml"),
}


@pytest.mark.parametrize("other", STAGES)
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_knows_the_configs_of_the_others(stage, other):
    defaults, _ = STAGES[stage]
    _, path = STAGES[other]
    if stage == other:
        assert load_config(path, defaults, [])
        return
    with pytest.raises(UsageError, match=f"found a config of {other}, expected a config of {stage}"):
        load_config(path, defaults, [])


def test_choices_with_commas_can_be_told_apart(capsys):
    with pytest.raises(UsageError, match="'sft', 'base', 'sft,base', 'policy'"):
        make_prefs.build_parser().parse_args(["--models", "sft,foo"])
    usage = make_prefs.build_parser().format_help()
    assert "--models A,B" in usage and "{sft,base" not in usage


# --- losses and logits that are no numbers


def log_losses(files: RunFiles, losses: list[float]) -> None:
    state = TrainerState(global_step=len(losses))
    state.log_history = [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)]
    files.on_log(SimpleNamespace(fp16=False), state, None, logs={"loss": losses[-1]})


def test_a_first_loss_that_is_no_number_is_not_blamed_on_the_learning_rate(tmp_path):
    files = RunFiles(tmp_path, 2, {})
    with pytest.raises(StageError, match="before anything was learned.*weights of the model") as caught:
        log_losses(files, [float("nan")])
    assert "learning_rate" not in str(caught.value)
    with pytest.raises(StageError, match="at step 2; lower training.learning_rate"):
        log_losses(files, [float("nan")] * 2)
    log_losses(files, [1.0, float("nan")])


def test_a_diverged_model_names_keys_and_no_flag_of_other_stages(monkeypatch):
    def fail(*args):
        raise NotNumbers("the model's logits are not numbers (NaN): ...; try --attn-impl eager")

    monkeypatch.setattr("training.validation.predict", fail)
    with pytest.raises(StageError, match="lower training.learning_rate") as caught:
        answer_samples(None, SimpleNamespace(tokenizer=None), [], "val", 1, 1)
    assert "--attn-impl" not in str(caught.value) and "attn_implementation" in str(caught.value)


# --- the seconds of a run in several legs


def test_a_resumed_run_counts_the_seconds_before_it(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("training.progress.time.monotonic", lambda: now.seconds)
    saved = TrainerState(max_steps=4)
    for leg in (1, 2):
        steps = StepProgress()
        steps.on_train_begin(None, saved, None)
        assert steps.seconds_before == 30 * (leg - 1)
        now.seconds += 30
        saved = TrainerState(max_steps=4, stateful_callbacks={"StepProgress": steps.state()})
    assert seconds_before(saved) == 60


@pytest.mark.parametrize("stored", [None, {}, {"StepProgress": []}, {"StepProgress": {"attributes": {}}}])
def test_checkpoints_of_earlier_versions_have_no_seconds(stored):
    assert seconds_before(SimpleNamespace(stateful_callbacks=stored)) == 0.0
