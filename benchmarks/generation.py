"""Generation against transformers' `generate` and CTranslate2, on real prompts of an SFT checkpoint: speed, growth, exactness.

Reads a checkpoint of train_sft.py and sample files; writes nothing but a table (and, for CTranslate2, a temporary model).
Systems take turns within a round, and a ratio is taken within its round, so that a busy machine slows both sides; medians are shown.
CTranslate2 is measured where `pip install ctranslate2` was run.

    python benchmarks/generation.py --model checkpoints/sft/demo/checkpoint-best --data data/processed/test.jsonl data/processed/val.jsonl
    python benchmarks/generation.py --exactness --prompts 300 --model checkpoints/sft/demo/checkpoint-best --data data/processed/train.jsonl
"""

import argparse
import contextlib
import copy
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generation.answering import predict
from generation.batches import pad_left
from generation.drafting import Drafter, FreeGuide, json_object_end
from generation.engine import GenerationSettings, generate
from models.cpu_attention import use_grouped_attention
from models.estimate import count_parameters, measured_flops
from models.loading import LoadOptions, load_model, load_tokenizer
from prompt_schema import PromptBuilder, load_template
from utils.completions import parse_completion
from utils.config import input_path
from utils.schema import read_samples

# Two best logits closer than this may change places with the order of float32 additions.
TIE = 1e-4


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="checkpoint directory of train_sft.py, or a model")
    parser.add_argument(
        "--data", nargs="+", required=True, help="sample files; prompts are taken in their order"
    )
    parser.add_argument("--prompts", type=int, default=96, help="number of prompts")
    parser.add_argument("--batch-size", type=int, default=4, help="rows at once, for every system")
    parser.add_argument(
        "--max-new-tokens", type=int, default=256, help="tokens after which a completion is cut"
    )
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are shown")
    parser.add_argument(
        "--systems",
        default="generate,free,constrained",
        help="of " + ", ".join(SYSTEMS) + "; the first is the base of the ratios",
    )
    parser.add_argument(
        "--merge", action="store_true", help="fold the adapter into the weights for every system"
    )
    parser.add_argument("--float32", action="store_true", help="float32 weights instead of bfloat16")
    parser.add_argument(
        "--chunks",
        type=int,
        help="show so many evidence chunks, those of other samples behind a sample's own",
    )
    parser.add_argument(
        "--exactness",
        action="store_true",
        help="compare tokens with plain `generate`, prompt by prompt, instead of timing",
    )
    parser.add_argument(
        "--prefill",
        action="store_true",
        help="time the reading of prompts alone, as a share of the measured matmul peak",
    )
    return parser


def make_prompts(tokenizer, args: argparse.Namespace) -> list:
    samples = [sample for path in args.data for sample in read_samples(input_path(path))][: args.prompts]
    if len(samples) < args.prompts:
        sys.exit(
            f"--data holds {len(samples)} samples, --prompts asks for {args.prompts}; name more files or fewer prompts"
        )
    if args.chunks:
        pool = [chunk for sample in samples for chunk in sample["evidence_chunks"]]
        for i, sample in enumerate(samples):
            chunks = sample["evidence_chunks"] + [pool[(7 * i + k) % len(pool)] for k in range(args.chunks)]
            sample["evidence_chunks"] = chunks[: args.chunks]
    builder = PromptBuilder(tokenizer, load_template("sft", "default"), 8192)
    return [builder.build(sample) for sample in samples]


# --- systems: (model, tokenizer, prompts, args) -> completions


def by_generate(
    model, tokenizer, prompts: list, args: argparse.Namespace, batch_size: int | None = None
) -> list[str]:
    """Left-padded `generate` in the order of the prompts; it stops when every row of the batch has said its EOS."""
    texts = []
    size = batch_size or args.batch_size
    for start in range(0, len(prompts), size):
        ids, mask = pad_left(
            [prompt.ids for prompt in prompts[start : start + size]], tokenizer.pad_token_id, model.device
        )
        with torch.inference_mode():
            said = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=args.max_new_tokens, do_sample=False
            )[:, ids.shape[1] :]
        texts += [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
    return texts


def by_sorted_generate(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    """`generate` at batch 16 over prompts sorted by length."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    texts = by_generate(model, tokenizer, [prompts[i] for i in order], args, 16)
    return [text for _, text in sorted(zip(order, texts))]


def by_ours(
    model, tokenizer, prompts: list, args: argparse.Namespace, constrained: bool = False
) -> list[str]:
    settings = GenerationSettings(args.batch_size, args.max_new_tokens)
    by_place = dict(enumerate(prompts))
    rows = []
    for batch in predict(model, tokenizer, by_place, "benchmark", settings, constrained):
        rows += batch
    return [row["completion"] for row in sorted(rows, key=lambda row: row["id"])]


def by_constrained(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    return by_ours(model, tokenizer, prompts, args, constrained=True)


def without_drafts(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    draft = Drafter.draft
    Drafter.draft = lambda self, ids: []
    try:
        return by_ours(model, tokenizer, prompts, args)
    finally:
        Drafter.draft = draft


SYSTEMS = {
    "generate": by_generate,
    "sorted16": by_sorted_generate,
    "free": by_ours,
    "constrained": by_constrained,
    "no_drafts": without_drafts,
    "no_grouped": by_ours,
    "float32": by_generate,
    "ct2_float32": None,
    "ct2_int8": None,
}


def convert_for_ctranslate2(model, tokenizer, compute_type: str, folder: str):
    """The same weights, adapter merged, as a CTranslate2 generator."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    source = Path(folder) / "merged"
    if not source.is_dir():
        merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        merged.save_pretrained(source)
        tokenizer.save_pretrained(source)
    target = Path(folder) / compute_type
    TransformersConverter(str(source)).convert(str(target), quantization=compute_type)
    return ctranslate2.Generator(
        str(target), compute_type=compute_type, intra_threads=torch.get_num_threads()
    )


def by_ctranslate2(generator, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    """Its own batching (sorted by length), the shared prefix as its cached static prompt."""
    suffixes = [tokenizer.convert_ids_to_tokens(prompt.suffix) for prompt in prompts]
    results = generator.generate_batch(
        suffixes,
        max_batch_size=args.batch_size,
        max_length=args.max_new_tokens,
        sampling_topk=1,
        include_prompt_in_result=False,
        static_prompt=tokenizer.convert_ids_to_tokens(prompts[0].prefix),
        cache_static_prompt=True,
        end_token=tokenizer.eos_token,
    )
    return [tokenizer.decode(result.sequences_ids[0], skip_special_tokens=True).strip() for result in results]


@contextlib.contextmanager
def attention(model, name: str):
    """`generate` keeps the attention that transformers chose; ours takes the grouped one, except in `no_grouped`."""
    before = model.config._attn_implementation
    if name in ("free", "constrained", "no_drafts"):
        use_grouped_attention(model)
    yield
    model.set_attn_implementation(before)


def answers(texts: list[str], prompts: list) -> list[tuple]:
    parsed = [parse_completion(text, len(prompt.shown)) for text, prompt in zip(texts, prompts)]
    return [(p.answer, tuple(p.citations)) for p in parsed]


def time_systems(model, tokenizer, prompts: list, args: argparse.Namespace) -> None:
    names = args.systems.split(",")
    seconds = {}
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {
            name: convert_for_ctranslate2(model, tokenizer, name.removeprefix("ct2_"), folder)
            for name in names
            if name.startswith("ct2_")
        }
        if "float32" in names:
            models["float32"] = copy.deepcopy(model).float()
        for number in range(args.rounds):
            for name in names:
                started = time.perf_counter()
                with attention(model, name):
                    run = SYSTEMS[name] or by_ctranslate2
                    said[name] = run(models.get(name, model), tokenizer, prompts, args)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                print(f"round {number + 1}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    print(
        "| system | samples/s | times the first | same answer as the first | and citations | valid |\n|---|---|---|---|---|---|"
    )
    first = answers(said[names[0]], prompts)
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(seconds[names[0]], seconds[name]))
        found = answers(said[name], prompts)
        same = [sum(a[:n] == b[:n] for a, b in zip(found, first)) / len(prompts) for n in (1, 2)]
        valid = sum(
            parse_completion(t, len(p.shown), strict=True).is_valid for t, p in zip(said[name], prompts)
        ) / len(prompts)
        rate = len(prompts) / statistics.median(seconds[name])
        print(f"| {name} | {rate:.2f} | {ratio:.2f} | {same[0]:.3f} | {same[1]:.3f} | {valid:.3f} |")


# --- exactness


def first_difference(model, prompt, expected: list[int], found: list[int]) -> float | None:
    """None for equal tokens; else the distance of the two best logits where they part (in float32, one row, no cache)."""
    if expected == found:
        return None
    n = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([prompt.ids + expected[:n]], device=model.device), logits_to_keep=1
        ).logits[0, -1]
    best = logits.topk(2).values
    return float(best[0] - best[1])


def tokens_of(
    model, tokenizer, prompts: list, args: argparse.Namespace, batch_size: int, in_order: bool, share: bool
) -> list[list[int]]:
    """Greedy tokens of every prompt by our generation; `in_order`: batches of neighbours in the input instead of sorted ones."""
    drafter = Drafter()
    stop = json_object_end(tokenizer)
    found = {}
    parts = [
        list(range(start, min(start + batch_size, len(prompts))))
        for start in range(0, len(prompts), batch_size)
    ]
    for part in parts if in_order else [list(range(len(prompts)))]:
        suffixes = [prompts[i].suffix if share else prompts[i].ids for i in part]
        for batch in generate(
            model,
            tokenizer,
            suffixes,
            lambda i: FreeGuide(drafter, stop),
            prompts[0].prefix if share else [],
            GenerationSettings(batch_size, args.max_new_tokens),
        ):
            for i, generated in batch:
                drafter.learn(generated.ids)
                found[part[i]] = generated.ids
    return [found[i] for i in range(len(prompts))]


def check_exactness(model, tokenizer, prompts: list, args: argparse.Namespace) -> bool:
    """Every setting against `generate` at batch 1. True when each difference is a tie."""
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids], device=model.device)
        with torch.inference_mode():
            said = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=args.max_new_tokens,
                do_sample=False,
            )
        expected.append(
            [token for token in said[0, len(prompt.ids) :].tolist() if token != tokenizer.eos_token_id]
        )
    stop = json_object_end(tokenizer)
    exact = True
    # `generate` goes on after the object where the model says no EOS: what is compared ends with the object.
    expected = [next((ids[:n] for n in range(1, len(ids)) if stop(ids[:n])), ids) for ids in expected]
    print(
        "| batch | sorted | prefix shared | attention | equal | ties below 1e-4 | other differences |\n|---|---|---|---|---|---|---|"
    )
    settings = [(1, True, True), (4, True, True), (8, True, True), (4, False, True), (4, True, False)]
    for batch_size, is_sorted, share in settings:
        with attention(model, "free"):
            found = tokens_of(model, tokenizer, prompts, args, batch_size, not is_sorted, share)
        gaps = [
            gap
            for p, e, f in zip(prompts, expected, found)
            if (gap := first_difference(model, p, e, f)) is not None
        ]
        n_other = sum(gap >= TIE for gap in gaps)
        exact = exact and not n_other
        print(
            f"| {batch_size} | {is_sorted} | {share} | grouped | {len(prompts) - len(gaps)} | {len(gaps) - n_other} | {n_other} |",
            flush=True,
        )
    return exact


def time_prefill(model, prompts: list, args: argparse.Namespace) -> None:
    """Share of the matmul peak (768 x 768, this machine's working precision) that reading whole prompts reaches."""
    n_parameters = sum(
        p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name
    )
    rows = sorted((prompt.ids for prompt in prompts), key=len)[-args.batch_size :]
    rates = []
    ids, mask = pad_left(rows, 0, model.device)
    for name in ("generate", "free"):
        with attention(model, name), torch.inference_mode():
            for _ in range(2 * args.rounds + 1):
                started = time.perf_counter()
                model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                    logits_to_keep=1,
                )
                rates.append(2 * n_parameters * ids.numel() / (time.perf_counter() - started))
        peak = measured_flops()
        rate = statistics.median(rates[1:])
        print(
            f"prefill, attention of {name}: {rate / 1e9:.0f} GFLOP/s in weights alone, {rate / peak:.0%} of the matmul peak of {peak / 1e9:.0f}"
        )
        rates.clear()


def main(args: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(args.model)
    model = load_model(args.model, LoadOptions(bf16=not (args.float32 or args.exactness)))
    model = model.merge_and_unload() if args.merge or args.exactness else model
    if "ct2" in args.systems and importlib.util.find_spec("ctranslate2") is None:
        sys.exit(
            "ctranslate2 is not installed here; run pip install ctranslate2, or leave it out of --systems"
        )
    prompts = make_prompts(tokenizer, args)
    mean = statistics.mean(len(prompt.ids) for prompt in prompts)
    print(
        f"{args.model} ({count_parameters(args.model):,} parameters, {next(model.parameters()).dtype}), {len(prompts)} prompts of {mean:.0f} tokens, "
        f"{len(prompts[0].prefix)} of them shared, batch {args.batch_size}, {torch.get_num_threads()} threads\n",
        flush=True,
    )
    if args.exactness:
        sys.exit(not check_exactness(model, tokenizer, prompts, args))
    if args.prefill:
        time_prefill(model, prompts, args)
    else:
        time_systems(model, tokenizer, prompts, args)


if __name__ == "__main__":
    main(build_parser().parse_args())
