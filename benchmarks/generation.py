"""Generation against transformers' `generate` and CTranslate2, on real prompts: speed, growth, exactness.

Reads a checkpoint of train_sft.py and sample files; prints a table and writes nothing else (for CTranslate2,
a temporary model). Systems take turns within a round, and ratios are taken within a round, so that a busy
machine slows both sides; medians are shown. CTranslate2 needs `pip install ctranslate2`.

    python benchmarks/generation.py --model checkpoints/sft/demo/checkpoint-best \\
        --data data/processed/test.jsonl data/processed/val.jsonl
    python benchmarks/generation.py --exactness --prompts 300 --model checkpoints/sft/demo/checkpoint-best \\
        --data data/processed/train.jsonl
"""

import argparse
import contextlib
import copy
import importlib.util
import statistics
import sys
import tempfile
import unittest.mock
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.device import clock
from generation.answering import predict
from generation.batches import pad_left
from generation.drafting import Drafter, FreeGuide, json_object_end
from generation.engine import GenerationSettings, generate
from models.estimate import measured_flops
from models.hardware import speed_up_generation
from models.loading import LoadOptions, load_model, load_tokenizer
from prompt_schema import PromptBuilder, load_template
from utils.completions import parse_completion
from utils.config import input_path
from utils.runs import note
from utils.schema import read_samples

# The two best logits may change places with the order of float32 additions if they are closer than this.
TIE = 1e-4


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--data", nargs="+", required=True, help="sample files; prompts are built in their order"
    )

    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, help="checkpoint directory of train_sft.py, or a model")
    model.add_argument(
        "--merge", action="store_true", help="fold the adapter into the weights for all systems"
    )
    model.add_argument("--float32", action="store_true", help="float32 weights instead of bfloat16")
    names = ", ".join(SYSTEMS)
    model.add_argument(
        "--systems",
        default="generate,free,constrained",
        help=f"which of {names} to measure; ratios are to the first",
    )

    limits = parser.add_argument_group("limits")
    limits.add_argument("--prompts", type=int, default=96, help="number of prompts")
    limits.add_argument("--chunks", type=int, help="evidence chunks per prompt, filled up from other samples")
    limits.add_argument("--batch-size", type=int, default=4, help="rows at once, for all systems")
    limits.add_argument(
        "--max-new-tokens", type=int, default=256, help="tokens after which a completion is cut"
    )

    run = parser.add_argument_group("run")
    run.add_argument("--rounds", type=int, default=3, help="repetitions; medians are shown")
    run.add_argument(
        "--exactness", action="store_true", help="compare tokens with plain `generate` instead of timing"
    )
    run.add_argument(
        "--prefill", action="store_true", help="time the reading of prompts, as a share of the matmul peak"
    )
    return parser


# --- prompts


def show_more_chunks(samples: list[dict], n_chunks: int) -> None:
    """Give every sample `n_chunks` evidence chunks: its own first, then chunks of other samples."""
    pool = [chunk for sample in samples for chunk in sample["evidence_chunks"]]
    for i, sample in enumerate(samples):
        # A stride of 7 starts each sample at another sample's chunks.
        others = [pool[(7 * i + k) % len(pool)] for k in range(n_chunks)]
        sample["evidence_chunks"] = (sample["evidence_chunks"] + others)[:n_chunks]


def make_prompts(tokenizer, args: argparse.Namespace) -> list:
    samples = [sample for path in args.data for sample in read_samples(input_path(path))][: args.prompts]
    if len(samples) < args.prompts:
        sys.exit(f"--prompts {args.prompts}: --data has {len(samples)} samples; add files or lower --prompts")
    if args.chunks:
        show_more_chunks(samples, args.chunks)
    # A limit that no prompt reaches: nothing is cut here.
    builder = PromptBuilder(tokenizer, load_template("sft", "default"), 8192)
    return [builder.build(sample) for sample in samples]


def check_positions(model, prompts: list, args: argparse.Namespace) -> None:
    """Exit in one line if a prompt and its completion are longer than the model can be."""
    n_positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(prompt.ids) for prompt in prompts) + args.max_new_tokens
    if n_positions is not None and longest > n_positions:
        sys.exit(
            f"{args.model} has {n_positions} positions, and the longest prompt needs {longest} with its "
            "completion; choose another model, fewer --chunks or a smaller --max-new-tokens"
        )


# --- systems: (model, tokenizer, prompts, args) -> completions


def by_generate(
    model, tokenizer, prompts: list, args: argparse.Namespace, batch_size: int | None = None
) -> list[str]:
    """Left-padded `generate` in the order of the prompts; a batch ends with its last EOS."""
    texts = []
    size = batch_size or args.batch_size
    for start in range(0, len(prompts), size):
        rows = [prompt.ids for prompt in prompts[start : start + size]]
        ids, mask = pad_left(rows, tokenizer.pad_token_id, model.device)
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=args.max_new_tokens, do_sample=False
            )
        generated = output[:, ids.shape[1] :]
        texts += [text.strip() for text in tokenizer.batch_decode(generated, skip_special_tokens=True)]
    return texts


def by_sorted_generate(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    """`generate` at batch 16 over prompts sorted by length."""
    # What sorting and a larger batch are worth, without anything of ours.
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    texts = by_generate(model, tokenizer, [prompts[i] for i in order], args, 16)
    return [text for _, text in sorted(zip(order, texts))]


def by_ours(
    model, tokenizer, prompts: list, args: argparse.Namespace, constrained: bool = False
) -> list[str]:
    """This project's generation, without and with the output schema."""
    settings = GenerationSettings(args.batch_size, args.max_new_tokens)
    by_place = dict(enumerate(prompts))
    rows = []
    for batch in predict(model, tokenizer, by_place, "benchmark", settings, constrained):
        rows += batch
    return [row["completion"] for row in sorted(rows, key=lambda row: row["id"])]


def by_constrained(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    return by_ours(model, tokenizer, prompts, args, constrained=True)


def without_drafts(model, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    """One token per pass, to show what drafts are worth."""
    with unittest.mock.patch.object(Drafter, "draft", lambda self, ids: []):
        return by_ours(model, tokenizer, prompts, args)


# None: CTranslate2, whose model has another type.
SYSTEMS: dict[str, Callable | None] = {
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


def merged_model(model):
    """The model with its adapter in its weights, if it has one."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def convert_for_ctranslate2(model, tokenizer, compute_type: str, folder: str):
    """The same weights, adapter merged, as a CTranslate2 generator."""
    # Not a requirement of this project.
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    source = Path(folder) / "merged"
    if not source.is_dir():
        # A copy: the other systems keep their adapter.
        merged = merged_model(copy.deepcopy(model))
        merged.save_pretrained(source)
        tokenizer.save_pretrained(source)
    target = Path(folder) / compute_type
    TransformersConverter(str(source)).convert(str(target), quantization=compute_type)
    return ctranslate2.Generator(
        str(target), compute_type=compute_type, intra_threads=torch.get_num_threads()
    )


def by_ctranslate2(generator, tokenizer, prompts: list, args: argparse.Namespace) -> list[str]:
    """CTranslate2's own batching (sorted by length), with the shared prefix as its cached static prompt."""
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
def kernels(model, name: str):
    """Within it, our systems use the kernels of the device, and all others those of transformers and peft."""
    before = model.config._attn_implementation
    own = {layer for layer in model.modules() if "forward" in vars(layer)}
    if name in ("free", "constrained", "no_drafts"):
        speed_up_generation(model)
    yield
    model.set_attn_implementation(before)
    # The next system would run with our layers.
    for layer in model.modules():
        if layer not in own:
            vars(layer).pop("forward", None)


def answers(texts: list[str], prompts: list) -> list[tuple]:
    parsed = [parse_completion(text, len(prompt.shown)) for text, prompt in zip(texts, prompts)]
    return [(p.answer, tuple(p.citations)) for p in parsed]


def time_systems(model, tokenizer, prompts: list, args: argparse.Namespace) -> None:
    """Run the systems in turns and print their table."""
    names = args.systems.split(",")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    texts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for name in names:
            if name.startswith("ct2_"):
                compute_type = name.removeprefix("ct2_")
                models[name] = convert_for_ctranslate2(model, tokenizer, compute_type, folder)
        if "float32" in names:
            # A copy: the other systems keep the weights as they were loaded.
            models["float32"] = copy.deepcopy(model).float()
        for number in range(args.rounds):
            for name in names:
                started = clock()
                with kernels(model, name):
                    run = SYSTEMS[name] or by_ctranslate2
                    texts[name] = run(models.get(name, model), tokenizer, prompts, args)
                seconds[name].append(clock() - started)
                note(f"round {number + 1}: {name} {seconds[name][-1]:.1f} s")
    print_times(names, seconds, texts, prompts)


def print_times(names: list[str], seconds: dict, texts: dict, prompts: list) -> None:
    """One row per system: speed, ratio to the first, agreement with the first, share of valid completions."""
    print("| system | samples/s | times the first | same answer as the first | and citations | valid |")
    print("|---|---|---|---|---|---|")
    first = answers(texts[names[0]], prompts)
    for name in names:
        # Ratios within a round: a machine that was busy in one round was busy for both.
        ratio = statistics.median(a / b for a, b in zip(seconds[names[0]], seconds[name]))
        rate = len(prompts) / statistics.median(seconds[name])
        found = answers(texts[name], prompts)
        same_answer = share(a[0] == b[0] for a, b in zip(found, first))
        same_citations = share(a == b for a, b in zip(found, first))
        valid = share(is_valid(text, prompt) for text, prompt in zip(texts[name], prompts))
        print(
            f"| {name} | {rate:.2f} | {ratio:.2f} | {same_answer:.3f} | {same_citations:.3f} | {valid:.3f} |"
        )


def is_valid(text: str, prompt) -> bool:
    return parse_completion(text, len(prompt.shown), strict=True).is_valid


def share(values: Iterable[bool]) -> float:
    return statistics.mean(map(float, values))


# --- exactness


@dataclass(frozen=True)
class Setting:
    """A way to batch that must not change a token."""

    batch_size: int
    is_sorted: bool
    shares_prefix: bool


EXACTNESS_SETTINGS = (
    Setting(1, True, True),
    Setting(4, True, True),
    Setting(8, True, True),
    Setting(4, False, True),
    Setting(4, True, False),
)


def first_difference(model, prompt, expected: list[int], found: list[int]) -> float | None:
    """None for equal tokens; else how far below the best logit the worse of the two is where they part.

    In float32, one row, without a cache. Where one of them has ended: the distance of the two best logits.
    """
    if expected == found:
        return None
    pairs = enumerate(zip(expected, found))
    n = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(found)))
    ids = torch.tensor([prompt.ids + expected[:n]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
    chosen = [*expected[n : n + 1], *found[n : n + 1]]
    values = logits[chosen] if len(chosen) == 2 else logits.topk(2).values
    return float(logits.max() - values.min())


def tokens_of_ours(model, tokenizer, prompts: list, max_new_tokens: int, setting: Setting) -> list[list[int]]:
    """Greedy tokens of every prompt by our generation."""
    drafter = Drafter()
    stop = json_object_end(tokenizer)
    found: dict[int, list[int]] = {}
    size = setting.batch_size
    # The engine sorts what it is given: given one batch at a time, it cannot.
    parts = [list(range(len(prompts)))]
    if not setting.is_sorted:
        starts = range(0, len(prompts), size)
        parts = [list(range(start, min(start + size, len(prompts)))) for start in starts]
    prefix = prompts[0].prefix if setting.shares_prefix else []
    for part in parts:
        suffixes = [prompts[i].suffix if setting.shares_prefix else prompts[i].ids for i in part]
        settings = GenerationSettings(size, max_new_tokens)
        for batch in generate(
            model, tokenizer, suffixes, lambda i: FreeGuide(drafter, stop), prefix, settings
        ):
            for i, generated in batch:
                drafter.learn(generated.ids)
                found[part[i]] = generated.ids
    return [found[i] for i in range(len(prompts))]


def tokens_of_generate(model, tokenizer, prompt, max_new_tokens: int) -> list[int]:
    """Greedy tokens of `generate` up to the end of the object, one prompt alone."""
    ids = torch.tensor([prompt.ids], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    generated = output[0, len(prompt.ids) :].tolist()
    tokens = [token for token in generated if token != tokenizer.eos_token_id]
    # `generate` continues after the object if the model gives no EOS there; our generation stops.
    stop = json_object_end(tokenizer)
    for n in range(1, len(tokens)):
        if stop(tokens[:n]):
            return tokens[:n]
    return tokens


def check_exactness(model, tokenizer, prompts: list, args: argparse.Namespace) -> bool:
    """Compare every setting with `generate` at batch 1. True when each difference is a tie."""
    expected = [tokens_of_generate(model, tokenizer, prompt, args.max_new_tokens) for prompt in prompts]
    exact = True
    print("| batch | sorted | prefix shared | attention | equal | ties below 1e-4 | other differences |")
    print("|---|---|---|---|---|---|---|")
    for setting in EXACTNESS_SETTINGS:
        with kernels(model, "free"):
            used = model.config._attn_implementation
            found = tokens_of_ours(model, tokenizer, prompts, args.max_new_tokens, setting)
        # The judge of a difference is the attention of transformers.
        gaps = []
        for prompt, theirs, ours in zip(prompts, expected, found):
            gap = first_difference(model, prompt, theirs, ours)
            if gap is not None:
                gaps.append(gap)
        n_other = sum(gap >= TIE for gap in gaps)
        exact = exact and not n_other
        print(
            f"| {setting.batch_size} | {setting.is_sorted} | {setting.shares_prefix} | {used} "
            f"| {len(prompts) - len(gaps)} | {len(gaps) - n_other} | {n_other} |",
            flush=True,
        )
    return exact


# --- reading


def count_multiplied(model) -> int:
    """Parameters that every position of a prompt is multiplied with."""
    # Embeddings are looked up, and the output layer sees one position.
    left_out = set()
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        left_out |= {id(parameter) for parameter in layer.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in left_out)


def time_prefill(model, prompts: list, args: argparse.Namespace) -> None:
    """Print the share of the matmul speed that reading whole prompts reaches, for both attentions."""
    n_parameters = count_multiplied(model)
    rows = sorted((prompt.ids for prompt in prompts), key=len)[-args.batch_size :]
    ids, mask = pad_left(rows, 0, model.device)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "logits_to_keep": 1,
    }
    for name in ("generate", "free"):
        rates = []
        with kernels(model, name), torch.inference_mode():
            for _ in range(2 * args.rounds + 1):
                started = clock()
                model(**inputs)
                rates.append(2 * n_parameters * ids.numel() / (clock() - started))
        peak = measured_flops(next(model.parameters()).dtype)
        # Without the first pass, which warms up.
        rate = statistics.median(rates[1:])
        print(
            f"prefill, attention of {name}: {rate / 1e9:.0f} GFLOP/s in weights alone, "
            f"{rate / peak:.0%} of the matmul peak of {peak / 1e9:.0f}"
        )


# --- the run


def main(args: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(args.model)
    # Exactness is a matter of float32: in bfloat16 the order of additions decides many tokens.
    model = load_model(args.model, LoadOptions(bf16=not (args.float32 or args.exactness)))
    model = merged_model(model) if args.merge or args.exactness else model
    if "ct2" in args.systems and importlib.util.find_spec("ctranslate2") is None:
        sys.exit("ctranslate2 is not installed; run pip install ctranslate2, or leave it out of --systems")
    prompts = make_prompts(tokenizer, args)
    check_positions(model, prompts, args)
    mean = statistics.mean(len(prompt.ids) for prompt in prompts)
    print(
        f"{args.model} ({sum(p.numel() for p in model.parameters()):,} parameters, {model.dtype}), "
        f"{len(prompts)} prompts of {mean:.0f} tokens, {len(prompts[0].prefix)} of them shared, "
        f"batch {args.batch_size}, {torch.get_num_threads()} threads\n",
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
