"""Killed at any moment and run again, the stages up to evaluation write the bytes of an undisturbed run.

As tests/test_kills.py, which has the later stages. Half of the kills come at random moments, and half at
random changes of files, where a kill does most harm; and one comes at each named point of a stage.
"""

import json
import shutil
import signal
from pathlib import Path

import pytest

from preferences.reward import RewardHead, head_config, save_head
from preferences.reward_config import load_reward_config
from tests.faults.form import count
from tests.killing import RUN_FACTS, SIGNALS, KillServer, StoppedPhases
from tests.test_train_sft import config_text
from training.logged import is_timing
from utils.completions import gold_completion, render_completion
from utils.finished import check_outputs
from utils.jsonl import read_json, read_jsonl, write_jsonl

BUILD = "--sample --data-dir data --limit 12 --max-chunks 3 --max-chunk-words 20 --split 0.6,0.2,0.2"
TEST = "--test-data data/processed/test.jsonl"
MODEL = f"--model-path sft/checkpoint-best {TEST} --batch-size 3"
EVALUATION = f"{MODEL} --base-model tiny --limit 14 --compare-baseline --max-new-tokens 24 --output ev.json"
ROBUSTNESS = f"{MODEL} --limit 5 --suite noise,distractors --max-new-tokens 16 --output ro.json"
# Phase -> (script, arguments).
PHASES = {
    "build": ("build_data.py", BUILD.split()),
    "build again": ("build_data.py", [*BUILD.split(), "--seed", "7", "--overwrite"]),
    "sft": ("train_sft.py", ["-c", "{home}/sft.yaml"]),
    "evaluation": ("evaluate_sft_fast_robust.py", EVALUATION.split()),
    "evaluation again": ("evaluate_sft_fast_robust.py", [*EVALUATION.split(), "--seed", "7", "--overwrite"]),
    "scoring": (
        "evaluate_sft_fast_robust.py",
        ["--predictions", "p.jsonl", *TEST.split(), "--limit", "20", "--output", "ev.json"],
    ),
    "robustness": ("robustness.py", ROBUSTNESS.split()),
    "robustness again": ("robustness.py", [*ROBUSTNESS.split(), "--seed", "7", "--overwrite"]),
    "rewards": ("train_rm.py", ["-c", "{home}/rm.yaml", "--score", "rows.jsonl"]),
}
# Phase -> texts in the paths of its outputs: one kill comes right before the first of them is touched.
POINTS = {
    "build": ["processed/run.json", "audit.json", ".train.jsonl", ".test.jsonl", "processed/.README"],
    "build again": ["processed.new/run.json", "processed.new/.test.jsonl", "processed.old", "report.html"],
    "sft": ["checkpoint-best.partial", "sft/checkpoint-best", "checkpoint-4/", "checkpoint-final"]
    + ["calibration.json", "training_history", "loss_curve", "sft/README"],
    "evaluation": ["partial-0", ".ev_predictions.jsonl", "ev_calibration", ".ev.json", "report.html"],
    "evaluation again": ["partial-0", "report.html", ".ev_predictions.jsonl", "ev_calibration", ".ev.json"],
    "scoring": ["ev_calibration", ".ev.json", "report.html"],
    "robustness": ["partial-0", ".ro_predictions.jsonl", "ro.png", ".ro.json", "report.html"],
    "robustness again": ["partial-0", "report.html", ".ro_predictions.jsonl", "ro.png", ".ro.json"],
    "rewards": ["rm/features", "rows_scores"],
}
CONFIG = {"base_model": "tiny", "output_dir": "rm", "eval_batch_size": 2, "max_seq_length": 900}
# Of the files that depend on nothing but the settings; cards, logs and Trainer's states have times.
COMPARED = (".safetensors", ".jsonl", ".txt", ".png")
N_KILLS = count(2, 20)
N_STOPS = count(1, 4)
# More of those: how long it took, and how much of it was left to do.
OF_THIS_RUN = {"seconds", "train_seconds", "n_generated", "packages"}


@pytest.fixture(scope="module")
def server():
    found = KillServer()
    yield found
    found.process.communicate()


def write_completions(home: Path) -> None:
    """Completions of the test samples to be scored, one each, and to be rewarded, two each."""
    samples = [row for _, row in read_jsonl(home / "data/processed/test.jsonl")]
    predictions = []
    rows = []
    for place, sample in enumerate(samples):
        shown = list(range(len(sample["evidence_chunks"])))
        for n, text in enumerate([gold_completion(sample, shown), render_completion("no", [0], 0.5)]):
            if n == place % 2:
                predictions.append({"id": sample["id"], "model": "mine", "completion": text})
            facts = {key: sample[key] for key in ("question", "evidence_chunks")}
            rows.append({"id": f"{sample['id']}:{n}", **facts, "completion": text})
    write_jsonl(home / "p.jsonl", predictions)
    write_jsonl(home / "rows.jsonl", rows[:30])


@pytest.fixture(scope="module")
def prepared(server, data_home, tiny_gemma_dir, tmp_path_factory):
    """Phase -> the home that it starts in."""
    folder = tmp_path_factory.mktemp("stages")
    home = folder / "start"
    shutil.copytree(tiny_gemma_dir, home / "tiny")
    found = dict.fromkeys(PHASES, home)
    found["build"] = folder / "empty"
    found["build"].mkdir()
    found["build again"] = folder / "built"
    shutil.copytree(found["build"], found["build again"])
    server.run(PHASES["build"], found["build again"])
    shutil.copytree(data_home / "data", home / "data")
    write_completions(home)
    settings = json.loads(config_text("tiny", max_steps=6, eval_steps=2, save_total_limit=3))
    (home / "sft.yaml").write_text(json.dumps({**settings, "bf16": False}))
    (home / "rm.yaml").write_text(json.dumps(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        config = load_reward_config(str(home / "rm.yaml"), [])
        head = RewardHead(32)
        head.linear.weight.data.normal_()
        save_head(home / "rm/best", head, head_config(config, {"mean": 0.0, "std": 1.0}, {}))
    found["evaluation"] = found["robustness"] = folder / "trained"
    shutil.copytree(home, folder / "trained")
    server.run(PHASES["sft"], folder / "trained")
    found["evaluation again"] = folder / "evaluated"
    shutil.copytree(folder / "trained", folder / "evaluated")
    server.run(PHASES["evaluation"], folder / "evaluated")
    found["robustness again"] = folder / "perturbed"
    shutil.copytree(folder / "trained", folder / "perturbed")
    server.run(PHASES["robustness"], folder / "perturbed")
    return found


def without_times(value):
    """A JSON value without the facts of a run that are none of its results."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in RUN_FACTS | OF_THIS_RUN}
        return {key: without_times(one) for key, one in kept.items() if not is_timing(key)}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def results_in(home: Path) -> dict[str, object]:
    """Every file that a phase left, hidden ones too: its content, or None where that depends on the time."""
    found: dict[str, object] = {}
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        found[str(path.relative_to(home))] = path.read_bytes() if path.suffix in COMPARED else None
    for name in ("data/processed/run.json", "data/processed/audit.json", "ev.json", "ro.json"):
        if name in found:
            found[name] = without_times(read_json(home / name))
    for name in ("calibration.json", "training_history.json"):
        if f"sft/{name}" in found:
            found[f"sft/{name}"] = without_times(read_json(home / "sft" / name))
    # The curves have the speed of the steps.
    found.pop("sft/loss_curve.png", None)
    return found


@pytest.fixture(scope="module")
def phases(server, prepared, tmp_path_factory):
    return StoppedPhases(server, PHASES, prepared, results_in, tmp_path_factory.mktemp("undisturbed"))


def check_rerun(phase: str, home: Path, phases: StoppedPhases, *, was_stopped: bool = False) -> None:
    if (home / "ev.json").exists() and "evaluation" in phase:
        # Results that are there have their own predictions beside them.
        check_outputs(home, read_json(home / "ev.json")["run"], "ev.json")
    phases.check_rerun(phase, home, was_stopped=was_stopped)


@pytest.mark.parametrize("number", range(N_KILLS))
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_stage_writes_the_bytes_of_an_undisturbed_one(phase, number, phases, tmp_path):
    home = phases.home(phase, tmp_path / "home")
    phases.stop(phase, home, signal.SIGKILL, **phases.moment(phase, number, N_KILLS))
    check_rerun(phase, home, phases)


@pytest.mark.parametrize("number", range(N_STOPS))
@pytest.mark.parametrize("phase", PHASES)
def test_a_stopped_stage_says_so_and_is_continued(phase, number, phases, tmp_path):
    home = phases.home(phase, tmp_path / "home")
    phases.stop(phase, home, SIGNALS[number % 2], **phases.moment(phase, number, N_STOPS))
    check_rerun(phase, home, phases, was_stopped=True)


# In the short form one point of each stage, the last that leaves most behind.
@pytest.mark.parametrize("phase", PHASES)
def test_a_stage_killed_at_a_named_point_writes_the_bytes_of_an_undisturbed_one(phase, phases, tmp_path):
    points = POINTS[phase]
    for point in points[-count(1, len(points)) :]:
        home = phases.home(phase, tmp_path / "home")
        assert phases.stop(phase, home, signal.SIGKILL, at=point), f"{point}: the run does not come there"
        check_rerun(phase, home, phases)
        shutil.rmtree(home)
