"""What runs on a GPU some day runs here at toy size: benchmarks/gpu_check.py and the training comparison."""

import copy
import json
import sys
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments
from transformers.models.gemma2 import modeling_gemma2

import evaluate_sft_fast_robust
import make_prefs
import train_rm
import train_sft
from benchmarks import gpu_check, gpu_generation, gpu_stages, sft
from generation.engine import GenerationSettings
from tests.test_train_sft import config_text
from training.sft_config import DEFAULTS, check_config
from utils.config import load_config
from utils.jsonl import read_json, write_json
from utils.schema import read_samples

# Sections that are no stage commands: those have tests of their own.
SECTIONS = (
    "choices,attention,gradients,train_4bit,train_4bit_packed,generate_eager,plan,reward_features,"
    "precisions,bars"
)


# It makes its own models, but costs as much as tests that are given one.
@pytest.mark.usefixtures("make_model")
def test_the_sections_run_on_a_cpu_at_toy_size(data_home, tmp_path):
    pytest.importorskip("bitsandbytes")
    flags = ["--data", str(data_home / "data/processed/train.jsonl"), "--size", "tiny"]
    args = gpu_check.build_parser().parse_args([*flags, "--only", SECTIONS, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        gpu_check.main(args)
    found = read_json(tmp_path / "gpu_check.json")
    assert end.value.code == 0, found
    assert not [name for name in found if "skipped" in found[name]]
    # Float32 eager is what all are compared with.
    assert found["attention"]["eager torch.float32"] == "0.0e+00"
    for before, after in (found["gradients"][flag] for flag in ("load_in_4bit", "load_in_8bit")):
        assert before == pytest.approx(after, rel=1e-3) and before > 0
    for name in ("train_4bit", "train_4bit_packed"):
        assert found[name]["tokens_per_s"] > 0 and found[name]["peak_gb"] > 0
    # The same rows and first weights.
    alone, packed = (found[name]["first_loss"] for name in ("train_4bit", "train_4bit_packed"))
    assert packed == pytest.approx(alone, rel=1e-3)
    # Of the rows that were trained on, which have more chunks than those of the stage commands.
    assert found["plan"]["train_4bit"]["planned_gb"] > 0
    answers = found["generate_eager"]
    assert answers["drafts samples_per_s"] > 0
    assert float(found["reward_features"]["largest gap"]) < 0.1
    assert {"16 bits", "8 bits", "4 bits"} <= set(found["precisions"])
    # Nothing of TRL's ran, so nothing is said about it; and no model is left behind.
    assert found["bars"]["QLoRA at least 1.3 times TRL"] == {"found": None, "met": None}
    assert [path.name for path in tmp_path.iterdir()] == ["gpu_check.json"]


def test_a_section_that_fails_says_so_and_the_next_one_runs(tmp_path, monkeypatch):
    def fail(check):
        check.so_far["half"] = 1
        raise RuntimeError("CUDA error: no kernel image")

    def lose_the_gpu():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    # After such a fault every call that waits for the GPU fails.
    monkeypatch.setattr(gpu_check, "clock", lose_the_gpu)
    sections = {"make": (0, fail), "late": (10**6, fail), "last": (0, lambda check: {"found": 1})}
    monkeypatch.setattr(gpu_check, "SECTIONS", sections)
    args = gpu_check.build_parser().parse_args(["--data", __file__, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        gpu_check.main(args)
    assert end.value.code == 1
    found = read_json(tmp_path / "gpu_check.json")
    assert found["make"]["failed"] == "RuntimeError: CUDA error: no kernel image"
    assert found["make"]["half"] == 1
    assert "1000000 wanted" in found["late"]["skipped"]
    assert "illegal memory access" in found["last"]["failed"] and "half" not in found["last"]
    # They are written each time: the run may be cut before its end.
    assert found["bars"]["every stage command exits with 0"] == {"found": None, "met": None}


@pytest.mark.parametrize(
    "exits, found, is_met",
    [((0, 0), [], True), ((0, 1), ["b"], False), ((0, None), [], None), ((1, None), ["a"], False)],
)
def test_commands_that_were_left_out_are_not_met(exits, found, is_met):
    commands = {}
    for name, code in zip("ab", exits):
        commands[name] = {"skipped": "no time left"} if code is None else {"exit": code}
    results = {"notebook": {**commands, "seconds": 3.0}}
    check = SimpleNamespace(results=results)
    assert gpu_check.judge(check)["every stage command exits with 0"] == {"found": found, "met": is_met}


def test_the_speed_is_compared_with_the_faster_of_the_others_runs():
    results = {"train_4bit": {"tokens_per_s": 130.0, "first_loss": 1.0, "peak_gb": 3.0}}
    results["train_trl_4bit"] = {"tokens_per_s": 100.0, "first_loss": 1.0, "peak_gb": 4.0}
    name = "QLoRA at least 1.3 times TRL"
    assert gpu_check.judge(SimpleNamespace(results=results))[name] == {"found": 1.3, "met": True}
    results["train_trl_4bit_liger"] = {"tokens_per_s": 125.0, "first_loss": 1.0, "peak_gb": 2.0}
    bars = gpu_check.judge(SimpleNamespace(results=results))
    assert bars[name] == {"found": 1.04, "met": False}
    assert bars["memory not above TRL's"] == {"found": 1.5, "met": False}


def test_layers_that_liger_replaces_are_transformers_own_in_the_next_section(tmp_path, monkeypatch):
    own = modeling_gemma2.Gemma2MLP

    def train_with_liger(check):
        modeling_gemma2.Gemma2MLP = modeling_gemma2.Gemma2RMSNorm
        raise RuntimeError("or not")

    monkeypatch.setattr(gpu_check, "SECTIONS", {"make": (0, train_with_liger)})
    check = gpu_check.Check(SimpleNamespace(budget=1000), tmp_path)
    assert gpu_check.run_section(check, "make")["failed"]
    assert modeling_gemma2.Gemma2MLP is own


@pytest.mark.parametrize("gradients", [{"load_in_4bit": [1.0, 1.0]}, {"failed": "no library for this CUDA"}])
def test_the_stages_run_without_bits_where_bits_fail(gradients, tmp_path, monkeypatch):
    ran: dict = {}
    monkeypatch.setattr(gpu_check, "is_installed", lambda name: True)
    monkeypatch.setattr(gpu_check, "run_commands", lambda commands, *args: ran.update(commands) or {})
    args = SimpleNamespace(budget=1000, stage_timeout=60)
    check = gpu_check.Check(args, tmp_path, results={"gradients": gradients})
    gpu_check.run_notebook(check)
    assert ("load_in_4bit=true" in ran["train"]) == ("failed" not in gradients)


def test_what_was_found_before_a_system_fails_is_kept(monkeypatch):
    def fail(*args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_generation, "by_generate", lambda model, prompts, *args: [[1]] * len(prompts))
    monkeypatch.setattr(gpu_generation, "by_ours", fail)
    found: dict = {}
    settings = GenerationSettings(2, 4)
    prompts = [SimpleNamespace(ids=[1, 2])]
    with pytest.raises(RuntimeError):
        gpu_generation.compare_generation((None, None, prompts), settings, lambda: 100.0, found, None)
    assert found["generate samples_per_s"] > 0


def test_a_failed_command_says_where_its_error_comes_from():
    trace = [f'  File "rows.py", line {n}' for n in range(40)]
    found = gpu_stages.last_lines("\n".join([*trace, "torch.AcceleratorError: CUDA error", ""]))
    assert found == [*trace[-5:], "torch.AcceleratorError: CUDA error"]
    assert gpu_stages.last_lines("") == ["no message"]


def test_data_that_is_not_there_ends_the_check_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    args = gpu_check.build_parser().parse_args(["--data", "data/none.jsonl", "--out", str(tmp_path / "gpu")])
    with pytest.raises(SystemExit, match="data/none.jsonl: no such file"):
        gpu_check.main(args)
    assert not (tmp_path / "gpu").exists()

    # Relative paths start where the stages write.
    (tmp_path / "data").mkdir()
    (tmp_path / "data/none.jsonl").touch()
    monkeypatch.setattr(gpu_check, "SECTIONS", {"make": (0, lambda check: {"data": str(check.args.data)})})
    with pytest.raises(SystemExit):
        gpu_check.main(args)
    assert read_json(tmp_path / "gpu/gpu_check.json")["make"]["data"] == str(tmp_path / "data/none.jsonl")


def result(**figures) -> dict:
    return {"first_loss": 2.0, "tokens_per_s": 1000.0, "peak_gb": 10.0, **figures}


def test_each_wanted_figure_is_met_missed_or_not_measured(tmp_path):
    check = gpu_check.Check(SimpleNamespace(budget=1), tmp_path)
    commands = {"train": {"exit": 0}, "judge": {"exit": 1, "says": "no"}}
    check.results.update(
        train_4bit=result(tokens_per_s=1400.0, first_loss=2.01),
        train_trl_4bit=result(peak_gb=9.0),
        plan={"train_4bit": {"planned_gb": 11.0, "measured_gb": 10.0}, "peak_gb": 1.0},
        notebook={**commands, "fast": {"same": True}, "peak_gb": 1.0},
    )
    found = gpu_check.judge(check)
    assert found["QLoRA at least 1.3 times TRL"] == {"found": 1.4, "met": True}
    assert found["first loss within 1% of TRL's"]["met"]
    assert not found["memory not above TRL's"]["met"]
    assert found["plan within 20% of the peak"]["met"]
    assert found["every stage command exits with 0"] == {"found": ["judge"], "met": False}
    assert found["at least 1.5 times generate"] == {"found": None, "met": None}
    assert found["packed, at least 1.6 times TRL"]["met"] is None
    check.results["train_4bit_packed"] = result(tokens_per_s=1500.0)
    check.results["train_4bit_packed_half"] = result(tokens_per_s=1700.0)
    # The faster of both.
    assert gpu_check.judge(check)["packed, at least 1.6 times TRL"] == {"found": 1.7, "met": True}


PARSERS = {
    "train_sft.py": train_sft,
    "evaluate_sft_fast_robust.py": evaluate_sft_fast_robust,
    "make_prefs.py": make_prefs,
    "train_rm.py": train_rm,
}


@pytest.mark.parametrize("quantized", [True, False])
def test_the_stages_accept_every_command_of_the_check(quantized):
    commands = gpu_stages.notebook_commands("m", quantized) | gpu_stages.further_commands("m", quantized)
    for script, *flags in commands.values():
        args = PARSERS[script].build_parser().parse_args(flags)
        if script == "train_sft.py":
            check_config(load_config(args.config, DEFAULTS, args.set))
    words = {word for command in commands.values() for word in command}
    assert ("--use-4bit" in words) == ("load_in_4bit=true" in words) == quantized


def test_fast_is_compared_by_its_completions_and_its_seconds(tmp_path):
    for name, seconds, texts in (("plain", 4.0, ["a", "b"]), ("fast", 6.0, ["a", "c"])):
        write_json(tmp_path / f"{name}.json", {"run": {"times": {"sft": {"seconds": seconds}}}})
        lines = [json.dumps({"completion": text}) + "\n" for text in texts]
        (tmp_path / f"{name}_predictions.jsonl").write_text("".join(lines))
    found = gpu_stages.compare_fast(tmp_path)
    assert found == {"seconds without": 4.0, "seconds with": 6.0, "same": False}


# --- benchmarks/sft.py


def bench_of(tiny_gemma_dir, data_home, folder, **changes) -> sft.Bench:
    """Six rows in steps of two."""
    config = copy.deepcopy(DEFAULTS) | {"model_name": str(tiny_gemma_dir), **changes}
    config["training"] |= {"gradient_accumulation_steps": 2, "logging_steps": 1}
    samples = read_samples(data_home / "data/processed/train.jsonl")
    bench, _ = sft.make_bench(config, samples, 6, 1500, folder)
    return bench


class FakeTrainer:
    """In place of TRL's: it takes what it is given."""

    def __init__(self, **given):
        self.given = given
        self.args = given["args"]


def test_trl_gets_the_checkpointing_and_the_bits_of_the_config(
    tiny_gemma_dir, data_home, tmp_path, monkeypatch
):
    loaded = []
    monkeypatch.setattr(sft, "load_model", lambda name, options: loaded.append(options))

    def take_settings(**given):
        # Whatever is not TRL's own is an argument of transformers.
        own = ("completion_only_loss", "max_length")
        known = {name: value for name, value in given.items() if name not in own}
        return SimpleNamespace(**{**vars(TrainingArguments(**known)), **given})

    fake = SimpleNamespace(SFTConfig=take_settings, SFTTrainer=FakeTrainer)
    monkeypatch.setitem(sys.modules, "trl", fake)
    for bits in ("load_in_4bit", "load_in_8bit"):
        bench = bench_of(tiny_gemma_dir, data_home, tmp_path, **{bits: True, "attn_implementation": "sdpa"})
        trainer = sft.SYSTEMS["trl"](bench)
        assert trainer.args.gradient_checkpointing is True
        assert trainer.args.gradient_accumulation_steps == 2
        assert getattr(loaded[-1], bits) and loaded[-1].attention == "sdpa"
        assert trainer.given["peft_config"].r == 16
        bench.config["training"]["gradient_checkpointing"] = False
        assert sft.SYSTEMS["trl_liger"](bench).args.gradient_checkpointing is False


def test_ours_is_the_trainer_of_the_product_and_its_speed_is_of_the_steps_after_the_first(
    tiny_gemma_dir, data_home, tmp_path, monkeypatch
):
    bench = bench_of(tiny_gemma_dir, data_home, tmp_path)
    assert bench.n_steps == 3
    ticks = iter([100.0, 104.0, 108.0])
    monkeypatch.setattr(sft, "clock", lambda: next(ticks))
    monkeypatch.setattr(sft, "peak_memory_gb", lambda: 7.5)
    trainer = sft.SYSTEMS["ours"](bench)
    assert isinstance(trainer, train_sft.SFTTrainer)
    # As in a run: recomputed layers cannot use the cache of a shared prefix.
    assert trainer.share_prefix is False
    found = sft.measure(trainer, bench)
    assert found["tokens_per_s"] == bench.count_tokens(bench.rows[2:]) / 8
    # The memory of the device: that of the process would say nothing about a GPU.
    assert found["peak_gb"] == 7.5
    assert trainer.state.global_step == 3


def test_one_step_is_too_few_to_time(tiny_gemma_dir, data_home, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(config_text(tiny_gemma_dir))
    flags = ["-c", str(path), "--data", str(data_home / "data/processed/train.jsonl"), "--rows", "2"]
    with pytest.raises(SystemExit, match="2 rows are one step"):
        sft.run_one(sft.build_parser().parse_args([*flags, "--one", "ours"]))
