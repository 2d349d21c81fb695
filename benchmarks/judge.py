"""Judging and candidates against transformers' `generate`: how many times faster this project is.

Reads a sample file, or builds the bundled one; prints a table and writes nothing else. Systems take turns
within a round, so that a busy machine slows both sides; ratios are taken within a round, and the table shows
medians.

- Judging: the judge of `make_prefs.py --judge llm` reads the probability of A and B, in both orders. The
  rival decodes a verdict of 40 tokens as JSON with `generate`, in both orders too. A pair is a gold
  completion and one of the made rejections of a sample.
- Candidates: four per prompt from our engine, sampled, against four calls of `generate`. No token ends a
  completion, so that both sides write as many tokens.

    python benchmarks/judge.py --model embedded
    python benchmarks/judge.py --model embedded --pairs 8 --prompts 4 --rounds 1
"""

import argparse
import copy
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bundled import samples_of
from benchmarks.device import clock, device_name
from benchmarks.generation import kernels
from generation.batches import pad_left
from generation.drafting import Drafter, FreeGuide
from generation.engine import GenerationSettings, generate
from generation.sampling import Sampling
from models.loading import LoadOptions, load_model, load_tokenizer
from preferences.contrasts import contrasts
from preferences.model_judge import JudgeModel, compare_candidates, shown_to_judge
from prompt_schema import JudgePrompts, PromptBuilder, load_template
from utils.completions import gold_completion
from utils.runs import note

VERDICT_TOKENS = 40
N_CANDIDATES = 4
TEMPERATURE = 0.7
# The end of the judge's template, and what asks for a verdict in words instead.
_LABEL_REQUEST = "Which answer is better? Reply with the letter A or B.\nBetter answer:"
_JSON_REQUEST = 'Which answer is better? Reply with JSON: {"better": "A" or "B", "reason": "..."}\nVerdict:'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--model", required=True, help="the judge, which also writes the candidates: hub id, folder, embedded"
    )
    add("--data", help="a sample file (default: the bundled samples)")
    add("--float32", action="store_true", help="float32 weights instead of bfloat16")
    add("--pairs", type=int, default=32, help="pairs that are judged; 0: none")
    add("--prompts", type=int, default=8, help="prompts with four candidates each; 0: none")
    add("--max-new-tokens", type=int, default=48, help="tokens of every candidate")
    add("--batch-size", type=int, default=8, help="rows at once, for all systems")
    add("--rounds", type=int, default=3, help="repetitions; medians are shown")
    return parser


def by_generate(model, rows: list[list[int]], batch_size: int, n_new: int, sampling: dict) -> None:
    """`n_new` tokens behind each row, longest rows first."""
    rows = sorted(rows, key=len, reverse=True)
    for start in range(0, len(rows), batch_size):
        ids, mask = pad_left(rows[start : start + batch_size], 0, model.device)
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=n_new, min_new_tokens=n_new, **sampling
            )


# --- judging


def make_jobs(samples: list[dict], n_pairs: int) -> list[tuple[dict, list[dict]]]:
    """The first answerable samples, each with its gold completion and a made rejection as candidates."""
    jobs = []
    rng = random.Random(0)
    for sample in samples:
        shown = list(range(len(sample["evidence_chunks"])))
        made = contrasts(sample, shown, rng, [])
        if not made or len(jobs) == n_pairs:
            continue
        texts = [gold_completion(sample, shown), made[rng.choice(sorted(made))]]
        jobs.append((sample, [{"completion": text, "shown": shown} for text in texts]))
    if len(jobs) < n_pairs:
        sys.exit(f"--pairs {n_pairs}: the samples make {len(jobs)}; add samples or lower --pairs")
    return jobs


def verdict_prompts(tokenizer, jobs: list) -> list[list[int]]:
    """The judge's prompts of all jobs in both orders, which ask for JSON in place of a letter."""
    template = load_template("judge", "default")
    if _LABEL_REQUEST not in template:
        sys.exit("prompts/judge_default.txt does not end as this benchmark expects")
    builder = JudgePrompts(tokenizer, template.replace(_LABEL_REQUEST, _JSON_REQUEST))
    prompts = []
    for sample, candidates in jobs:
        chunks = sample["evidence_chunks"]
        first, second = (shown_to_judge(candidate, chunks) for candidate in candidates)
        prompts.append(builder.build(chunks, sample["question"], first, second))
        prompts.append(builder.build(chunks, sample["question"], second, first))
    return prompts


def judging(model, tokenizer, samples: list[dict], args: argparse.Namespace) -> dict[str, Callable]:
    """The two ways to judge the same pairs."""
    jobs = make_jobs(samples, args.pairs)
    builder = JudgePrompts(tokenizer, load_template("judge", "default"))
    judge = JudgeModel(model, tokenizer, builder.build, args.batch_size)
    prompts = verdict_prompts(tokenizer, jobs)
    greedy = {"do_sample": False}
    return {
        "generate": lambda: by_generate(model, prompts, args.batch_size, VERDICT_TOKENS, greedy),
        "free": lambda: compare_candidates(judge, jobs),
    }


# --- candidates


def by_engine(model, tokenizer, prompts: list, args: argparse.Namespace) -> None:
    """Four sampled candidates of each prompt by our engine, with its drafts."""
    drafter = Drafter()
    suffixes = [prompt.suffix for prompt in prompts for _ in range(N_CANDIDATES)]
    settings = GenerationSettings(args.batch_size, args.max_new_tokens, Sampling(TEMPERATURE, 1.0, 0))

    def guide(i: int) -> FreeGuide:
        return FreeGuide(drafter, lambda ids: False)

    for batch in generate(model, tokenizer, suffixes, guide, prompts[0].prefix, settings):
        for _, generated in batch:
            assert len(generated.ids) == args.max_new_tokens
            drafter.learn(generated.ids)


def candidates(model, tokenizer, samples: list[dict], args: argparse.Namespace) -> dict[str, Callable]:
    """The two ways to write four candidates per prompt."""
    builder = PromptBuilder(tokenizer, load_template("sft", "default"), 2048)
    prompts = [builder.build(sample) for sample in samples[: args.prompts]]
    rows = [prompt.ids for prompt in prompts]
    # Our engine asks the tokenizer too what ends a completion. A copy: the judge's prompts need it as it is.
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    endless.chat_template = None
    sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0}

    def four_calls() -> None:
        for _ in range(N_CANDIDATES):
            by_generate(model, rows, args.batch_size, args.max_new_tokens, sampling)

    return {"generate": four_calls, "free": lambda: by_engine(model, endless, prompts, args)}


# --- the run


def time_in_turns(model, systems: dict[str, Callable], n_rounds: int) -> dict[str, list[float]]:
    """Seconds of each system, one per round. "free" runs with our attention, as in a stage."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(n_rounds):
        for name, run in systems.items():
            with kernels(model, name):
                started = clock()
                run()
                seconds[name].append(clock() - started)
            note(f"round {number + 1}: {name} {seconds[name][-1]:.1f} s")
    return seconds


def table_row(title: str, n_done: int, seconds: dict[str, list[float]]) -> str:
    """One line of the table: both rates, and the median of the rounds' ratios."""
    ratio = statistics.median(a / b for a, b in zip(seconds["generate"], seconds["free"]))
    rates = [n_done / statistics.median(seconds[name]) for name in ("generate", "free")]
    return f"| {title} | {rates[0]:.2f} | {rates[1]:.2f} | {ratio:.2f} |"


def main(args: argparse.Namespace) -> None:
    samples = samples_of(args.data)
    tokenizer = load_tokenizer(args.model)
    model = load_model(args.model, LoadOptions(bf16=not args.float32))
    # No token ends a completion.
    model.generation_config.eos_token_id = None
    rows = []
    if args.pairs:
        systems = judging(model, tokenizer, samples, args)
        found = time_in_turns(model, systems, args.rounds)
        rows.append(table_row(f"{args.pairs} pairs judged, pairs/s", args.pairs, found))
    if args.prompts:
        systems = candidates(model, tokenizer, samples, args)
        found = time_in_turns(model, systems, args.rounds)
        n_texts = N_CANDIDATES * args.prompts
        rows.append(table_row(f"{n_texts} candidates, candidates/s", n_texts, found))
    print(f"{args.model} in {model.dtype}, batch {args.batch_size}, {device_name()}\n")
    print("| work | `generate` | this project | ratio |")
    print("|---|---|---|---|")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main(build_parser().parse_args())
