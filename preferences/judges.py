"""Judges: how candidates are scored, and whose scores decide.

`JUDGES` is the table behind --judge; no other code tests a judge's name. A judge makes judgement rows of
samples with their candidates, and these rows are cached; from a row it then reads the scores that the pair
rule sees. To add a judge, write these two functions and add a line to the table. This module knows nothing
about pairs, margins or prompts.

A judgement row is {"id", "checks": {name: 0 or 1} per candidate, "verifier": a score per candidate, "llm": a
score per candidate or null, "agree": comparisons with the same winner in both orders, "n_compared"}, and
of a model "label_share", the mean probability of its two labels, and "comparisons", [i, j, probability that
i is better as answer A, that j is as answer A] per two candidates. Judges that score each candidate alone
add "scored", a score per candidate. Of a question without gold the checks are empty and the verifier's scores
null.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.base import model_key
from models.choices import attention_settings
from models.distributed import ShardLog, Shards, drop_partials
from preferences.cache import Job
from preferences.label_share import check_judge
from preferences.model_judge import JudgeModel, compare_candidates, win_scores
from preferences.scored import ScoreModel, head_key, score_candidates
from preferences.verifier import VERIFIER_VERSION, verify
from utils.batched import batched
from utils.config import portable_path
from utils.jsonl import read_appended, write_jsonl
from utils.progress import progress

# Samples judged between two writes: an interrupted run loses at most this many.
JOBS_PER_WRITE = 64

# --- judgement rows


def judge_by_checks(jobs: list[Job], judge_model: JudgeModel | None) -> list[dict]:
    """Judgement rows from the verifier alone."""
    rows = []
    for sample, candidates in jobs:
        has_gold = sample["answerable"] is not None
        verified = [verify(one, sample) if has_gold else ({}, None) for one in candidates]
        rows.append(
            {
                "id": sample["id"],
                "checks": [checks for checks, _ in verified],
                "verifier": [score for _, score in verified],
                "llm": None,
                "agree": 0,
                "n_compared": 0,
            }
        )
    return rows


def judge_by_model(jobs: list[Job], judge_model: JudgeModel | None) -> list[dict]:
    """Judgement rows from the verifier and from a model that compares every two candidates in both orders."""
    if judge_model is None:
        raise ValueError("this judge needs a model")
    # The checks cost nothing beside the model, and the preference row shows both.
    rows = judge_by_checks(jobs, None)
    for row, comparisons in zip(rows, compare_candidates(judge_model, jobs)):
        row["llm"] = win_scores(len(row["checks"]), comparisons.p_wins)
        row["agree"] = comparisons.n_agree
        row["n_compared"] = len(comparisons.p_wins)
        row["comparisons"] = comparisons.in_both_orders
        row["label_share"] = sum(comparisons.label_shares) / len(comparisons.label_shares)
    return rows


def judge_by_scores(jobs: list[Job], judge_model: ScoreModel | None) -> list[dict]:
    """Judgement rows from the verifier and from a model that scores each candidate alone."""
    if judge_model is None:
        raise ValueError("this judge needs a model")
    rows = judge_by_checks(jobs, None)
    for row, scores in zip(rows, score_candidates(judge_model, jobs)):
        row["scored"] = scores
    return rows


# --- (the scores that decide, one per candidate in 0..1; whose they are), read from a judgement row


def verifier_decides(judged: dict) -> tuple[list[float], str]:
    return judged["verifier"], "verifier"


def llm_decides(judged: dict) -> tuple[list[float], str]:
    return judged["llm"], "llm"


def llm_breaks_ties(judged: dict) -> tuple[list[float], str]:
    """The verifier decides, except where it gives every candidate the same score."""
    is_tie = len(set(judged["verifier"])) == 1
    return llm_decides(judged) if is_tie else verifier_decides(judged)


def reward_decides(judged: dict) -> tuple[list[float], str]:
    return judged["scored"], "reward"


def citations_decide(judged: dict) -> tuple[list[float], str]:
    return judged["scored"], "citations"


@dataclass(frozen=True)
class Judge:
    """`judge` makes the judgement rows of samples; `decide` reads (scores, whose scores) from one row.

    `model`: what --judge-model names: nothing, a model that "compares" two candidates, a head of train_rm.py
    that "rewards" each, or a model for the "likelihood" of their answers.
    """

    judge: Callable[[list[Job], Any], list[dict]]
    decide: Callable[[dict], tuple[list[float], str]]
    model: str = ""
    needs_gold: bool = False


JUDGES = {
    "llm": Judge(judge_by_model, llm_decides, "compares"),
    "verifier": Judge(judge_by_checks, verifier_decides, needs_gold=True),
    "hybrid": Judge(judge_by_model, llm_breaks_ties, "compares", needs_gold=True),
    "reward": Judge(judge_by_scores, reward_decides, "rewards"),
    "citations": Judge(judge_by_scores, citations_decide, "likelihood"),
}


def default_judge(judge_model: str | None) -> str:
    """The judge when --judge is not given: whoever names a judge model wants it to judge."""
    return "llm" if judge_model else "verifier"


def judge_settings(kind: str, flags: dict, load_template: Callable[[str], str]) -> dict:
    """Everything that changes the judgements, and the place of the judge's model."""
    settings = {
        "judge": kind,
        "checks": VERIFIER_VERSION,
        "model": None,
        # What the model reads of a candidate.
        "shows": None,
        "use_8bit": False,
        "use_4bit": False,
        "template": None,
    }
    # Without a model, its name, precision and template change nothing.
    if not JUDGES[kind].model:
        return settings
    name = flags["judge_model"]
    if JUDGES[kind].model != "compares":
        key = head_key(name) if JUDGES[kind].model == "rewards" else model_key(name)
        reading = {"use_8bit": flags["judge_use_8bit"], **attention_settings(flags.get("attn_impl"))}
        return settings | {"model": portable_path(name), "model_key": key, **reading}
    return settings | {
        "model": portable_path(name),
        "shows": "answer and cited passages",
        "model_key": model_key(name),
        "use_8bit": flags["judge_use_8bit"],
        "use_4bit": flags["judge_use_4bit"],
        "template": load_template(flags["judge_template"]),
        **attention_settings(flags.get("attn_impl")),
    }


def judge_key(settings: dict) -> dict:
    """The part of `judge_settings` that names the results: the model by what it is, wherever it is."""
    # A hub model's key is its id, which stood here before there were keys: its results keep their names.
    named = {name: value for name, value in settings.items() if name != "model_key"}
    return named | {"model": settings.get("model_key")}


def judge_candidates(
    jobs: list[Job],
    judge: Judge,
    open_model: Callable[[], Any],
    path: Path,
    shards: Shards,
    same: Path | None = None,
) -> dict[str, dict]:
    """Judgement rows by sample id, read from `path` where it exists, else judged and written there.

    Samples with fewer than two candidates are not judged. `open_model` is called at most once, and only
    when there is something left to judge. `same`: judgements that these would repeat, which are copied.
    StageError for a model that does not answer with the labels.
    """
    if same and shards.is_main and not path.is_file():
        write_jsonl(path, read_appended(same))
        print(f"judgements of {same.name} are taken: the same judge, and other flags for the pairs")
    shards.wait()
    if shards.share(path.is_file()):
        if shards.is_main:
            drop_partials(path)
        return {row["id"]: row for row in read_appended(path)}
    log = ShardLog(path, {"judgements": path.stem}, shards)
    done = {row["id"] for row in log.rows()}
    todo = []
    for sample, candidates in shards.mine(jobs):
        if sample["id"] not in done and len(candidates) > 1:
            todo.append((sample, candidates))
    judge_model = open_model() if todo and judge.model else None
    compares = judge.model == "compares"
    # Every two candidates are compared in both orders; the checks alone compare nothing and take no time.
    n_of_sample = [len(candidates) * (len(candidates) - 1 if compares else 1) for _, candidates in todo]
    with progress(sum(n_of_sample), "judging", "comparison" if compares else "candidate", delay=1) as bar:
        if judge_model:
            judge_model = dataclasses.replace(judge_model, on_compared=bar.update)
        for portion in batched(todo, JOBS_PER_WRITE):
            rows = judge.judge(portion, judge_model)
            if judge_model and compares:
                check_judge(rows, judge_model.name, judge_model.min_label_share)
            log.add(rows)
    place = {sample["id"]: i for i, (sample, _) in enumerate(jobs)}
    return {row["id"]: row for row in log.finish(lambda row: (place[row["id"]],))}
