"""The stages of the pipeline as a report shows them: state, facts, warnings and the command of each.

A new stage is one more row of STAGES, with a function that reads its outputs (`stage_facts.py`), its command
(`commands.py`), and the settings that tell its run.json (`outputs.py`). This module knows how a stage is
shown, not what one writes.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reporting import commands, stage_facts
from reporting.chain import apart
from reporting.outputs import Outputs, Run
from reporting.stage_facts import Facts
from utils.errors import DataError

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


def made_by(run: Run, script: str) -> str:
    """The command that made an output, as it was typed. Empty for a manifest without one."""
    words = run.manifest.get("command")
    if not isinstance(words, list) or len(words) < 2:
        return ""
    # The name of the script as it is today: in a test or a notebook the first word is another program.
    return shlex.join(["python", script, *map(str, words[1:])])


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
