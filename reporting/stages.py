"""The stages of the pipeline as a report shows them: state, facts, warnings and the command of each.

A new stage is one more row of STAGES, with a function that reads its outputs (`stage_facts.py`), its command
(`commands.py`), and the settings that tell its run.json (`outputs.py`). This module knows how a stage is
shown, not what one writes.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from reporting import commands, stage_facts
from reporting.chain import apart, evaluated_policy, holds
from reporting.outputs import Outputs, Run
from reporting.stage_facts import Facts
from utils.errors import DataError
from utils.json_values import is_integer
from utils.jsonl import read_json_object

# What a file with missing or odd fields raises: a report says so, and shows the other stages.
ODD_FILE = (DataError, KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)

_MAX_OTHERS = 4


@dataclass(frozen=True)
class Stage:
    """One row of the table. `next_command`: what runs the stage, given what the other stages have left."""

    name: str
    title: str
    script: str
    facts: Callable[[Outputs, Run], Facts]
    next_command: Callable[[Outputs], str]


STAGES = (
    Stage("data", "Data", "build_data.py", stage_facts.data, commands.build_data),
    Stage("prompts", "Prompts", "prompt_schema.py", stage_facts.prompts, commands.save_prompts),
    Stage("sft", "SFT", "train_sft.py", stage_facts.sft, commands.train_sft),
    Stage(
        "evaluation",
        "Evaluation",
        "evaluate_sft_fast_robust.py",
        stage_facts.evaluation,
        commands.evaluate,
    ),
    Stage("robustness", "Robustness", "robustness.py", stage_facts.robustness, commands.perturb),
    Stage(
        "preferences",
        "Preferences",
        "make_prefs.py",
        stage_facts.preferences,
        commands.make_preferences,
    ),
    Stage("reward", "Reward model", "train_rm.py", stage_facts.reward, commands.train_reward),
    Stage("policy", "Policy", "train_dpo.py", stage_facts.policy, commands.train_policy),
)


@dataclass(frozen=True)
class StageView:
    """A stage as it is shown. `state`: done, stale, unfinished, unreadable or not run."""

    stage: Stage
    state: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    command: str = ""
    when: str = ""
    path: str = ""


def _typed(words: object, script: str) -> str:
    """A command of a manifest as it was typed, but for --resume: where there is nothing yet it is refused."""
    if not isinstance(words, list) or len(words) < 2:
        return ""
    flags = [str(word) for word in words[1:] if word != "--resume"]
    # The name of the script as it is today: in a test or a notebook the first word is another program.
    return shlex.join(["python", script, *flags])


def made_by(run: Run, script: str) -> str:
    """The command that made an output. Empty for a manifest without one."""
    return _typed(run.manifest.get("command"), script)


def _others(outputs: Outputs, stage: Stage) -> list[tuple[str, str]]:
    """The outputs of a stage that are not shown, with those that have not ended marked."""
    names = []
    for run in outputs.runs[stage.name][1:]:
        names.append(outputs.shown(run.path) + ("" if run.is_whole else " (unfinished)"))
    if len(names) > _MAX_OTHERS:
        names[_MAX_OTHERS:] = [f"and {len(names) - _MAX_OTHERS} more"]
    return [("other runs", ", ".join(names))] if names else []


def _next_command(stage: Stage, outputs: Outputs) -> str:
    """What runs a stage; empty where the files of the stages before it are damaged."""
    try:
        return stage.next_command(outputs)
    except ODD_FILE:
        return ""


def view(stage: Stage, outputs: Outputs) -> StageView:
    """One stage of a home."""
    run = outputs.chosen(stage.name)
    if run is None:
        return StageView(stage, "not run", command=_next_command(stage, outputs))
    shown = StageView(
        stage, "done", command=made_by(run, stage.script), when=run.when, path=outputs.shown(run.path)
    )
    try:
        found = stage.facts(outputs, run)
    except ODD_FILE as error:
        problem = f"cannot be read ({type(error).__name__}: {error}); run the stage again"
        return replace(shown, state="unreadable", warnings=[problem])
    state = "stale" if found.stale else "done"
    warnings = [*apart(outputs, stage.name, run), *found.stale, *found.warnings]
    if not run.is_whole:
        state = "unfinished"
        warnings = ["not finished: run the same command again to continue", *warnings]
    return replace(shown, state=state, facts=[*found.facts, *_others(outputs, stage)], warnings=warnings)


def all_views(outputs: Outputs) -> list[StageView]:
    """Every stage, in the order of the pipeline."""
    return [view(stage, outputs) for stage in STAGES]


# --- what made a home


def _uses_fit(outputs: Outputs, trained: Run) -> bool:
    """Whether a shown output has the decisions that were fitted for the shown training."""
    for stage in ("evaluation", "robustness", "preferences"):
        run = outputs.chosen(stage)
        if run is None or run.settings.get("decisions") != "fitted":
            continue
        if holds(outputs.home, trained, run.settings.get("model_path") or run.settings.get("sft_model")):
            return True
    return False


def fitted_by(outputs: Outputs) -> str:
    """The command that fitted the decisions of the shown outputs; empty where these have plain ones."""
    trained = outputs.chosen("sft")
    if trained is None or not _uses_fit(outputs, trained):
        return ""
    path = trained.path / "calibration.json"
    fit = read_json_object(path).get("decisions") if path.is_file() else None
    if not isinstance(fit, dict):
        return ""
    if command := _typed(fit.get("command"), "train_sft.py"):
        return command
    # A fit of an earlier version, which recorded the number of its samples alone.
    counts: list[Any] = [fit.get("n_samples"), fit.get("n_left_out")]
    if not all(map(is_integer, counts)):
        return ""
    n_samples = sum(counts)
    flags = shlex.join(["--set", f"data.max_calibration_samples={n_samples}", "--calibrate"])
    trained_by = made_by(trained, "train_sft.py")
    return f"{trained_by} {flags}" if trained_by else ""


def made_commands(outputs: Outputs, views: list[StageView]) -> list[str]:
    """The commands that made what the report shows, in the order in which they have to be run."""
    commands = []
    if evaluated_policy(outputs):
        # The policy is there before what measures it.
        views = sorted(views, key=lambda shown: shown.stage.name == "evaluation")
    for shown in views:
        if shown.state == "not run":
            continue
        commands.append(shown.command)
        if shown.stage.name == "sft":
            commands.append(fitted_by(outputs))
    return [command for command in commands if command]
