"""`--calibrate`: the decisions of a finished run, fitted to val samples and added to its calibration.json.

Each val sample is completed once per decision that the model could make about it. This module knows what is
generated and written: `evaluation/decisions.py` fits, `generation/decisions.py` knows the tokens.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

from evaluation.decided import OBJECTIVE, Branch, Decided, decide
from evaluation.decisions import fit_decisions
from evaluation.results import score_rows
from evidence.queries import claim_of
from evidence.surface_gates import fit_gates, gate_log_odds, with_factors
from generation.answering import complete, load_generator
from generation.decisions import as_shown, first_tokens, forcing_bias
from generation.engine import GenerationSettings
from generation.predicted import prediction_row
from generation.rows import Generated
from models.choices import LoadOptions
from models.fingerprint import files_hash
from models.hardware import weights_precision
from models.loading import load_tokenizer
from training.export import Export
from training.rows import COMPLETION_TOKENS
from training.validation import calibration
from utils.config import input_path
from utils.decisions import BIASES, BRANCHES, Gate, calibration_path, decisions_json
from utils.errors import DataError
from utils.jsonl import sha256_value, write_json
from utils.own_files import CALIBRATION, CHECKPOINT
from utils.progress import progress
from utils.runs import note, own_command
from utils.schema import pick_samples, read_samples
from utils.shapes import lenient, read_if_there, read_shaped


def branches_of(sample: dict) -> Sequence[str]:
    """The decisions that a sample offers."""
    return BRANCHES if claim_of(sample) else BRANCHES[:2]


def complete_branches(
    model, tokenizer, samples: list[dict], prompts: list, batch_size: int
) -> list[list[Generated]]:
    """Greedy completions of each sample, one per decision; they share the reading of its prompt."""
    places = [(i, branch) for i, sample in enumerate(samples) for branch in branches_of(sample)]
    biases = [forcing_bias(tokenizer, branch, bool(claim_of(samples[i]))) for i, branch in places]
    settings = GenerationSettings(batch_size, COMPLETION_TOKENS, biases=biases)
    done: dict[int, Generated] = {}
    with progress(len(places), "generating: decisions", "completion") as bar:
        for batch in complete(model, tokenizer, [prompts[i] for i, _ in places], settings):
            done |= dict(batch)
            bar.update(len(batch))
    # The places of a sample follow each other.
    of_places = iter(done[k] for k in range(len(places)))
    return [list(itertools.islice(of_places, len(branches_of(sample)))) for sample in samples]


def decided_sample(tokenizer, sample: dict, completions: list[Generated], rows: list[dict]) -> Decided | None:
    """What is known of a sample's decisions from its completions and their rows.

    None where one does not open as in training: no token of it is the decision that a bias is added to.
    """
    opening = first_tokens(tokenizer).opening
    n = len(opening)
    branches = []
    for completion, row in zip(completions, rows):
        if len(completion.ids) <= n or tuple(completion.ids[:n]) != opening:
            return None
        [terms], _ = score_rows([row], [sample])
        branches.append(Branch(completion.ids[n], completion.logps[n], terms))
    return Decided(sample["group"], bool(claim_of(sample)), branches)


def fit_to_answers(
    model, builder, samples: list[dict], batch_size: int, gates: Mapping[str, Gate] = MappingProxyType({})
) -> dict:
    """The block "decisions" of calibration.json, but its precision. DataError where nothing is decided."""
    tokenizer = builder.tokenizer
    prompts = [builder.build(sample) for sample in samples]
    completions = complete_branches(model, tokenizer, samples, prompts, batch_size)
    kept: list[dict] = []
    rows: list[list[dict]] = []
    decided: list[Decided] = []
    log_odds = gate_log_odds(gates, as_shown(samples, prompts))
    refuse_odds = log_odds["refuse_claim"] + log_odds["refuse_question"]
    for i, (sample, prompt, of_sample) in enumerate(zip(samples, prompts, completions)):
        of_branches = [prediction_row(tokenizer, sample["id"], "sft", prompt, one) for one in of_sample]
        if found := decided_sample(tokenizer, sample, of_sample, of_branches):
            kept.append(sample)
            rows.append(of_branches)
            # A sample is a claim or not, so one of the two log-odds of refusing is 0.
            refuted_odds = float(log_odds["refuted"][i])
            decided.append(found._replace(refuse_odds=float(refuse_odds[i]), refuted_odds=refuted_odds))
    if not decided:
        raise DataError(
            f"none of {len(samples)} val completions opens as in training, so the model decides nothing that "
            "could be fitted; train it first, or longer"
        )
    biases, factors, metrics = fit_decisions(decided)
    chosen = [of_branches[k] for of_branches, k in zip(rows, decide(decided, biases, factors))]
    decisions = replace(biases, gates=with_factors(gates, factors))
    return {
        "biases": decisions_json(decisions),
        "n_samples": len(decided),
        "n_claims": sum(sample.is_claim for sample in decided),
        "n_left_out": len(samples) - len(decided),
        "val": metrics,
        # In place of the fit of the plain answers, with --decisions fitted.
        "calibration": calibration(chosen, kept),
    }


def describe_fit(fitted: dict) -> str:
    """Biases and val metrics on one line; those in parentheses are cross-validated."""
    biases = ", ".join(f"{name} {fitted['biases'][name]:+.2f}" for name in BIASES)
    if gates := fitted["biases"].get("gates"):
        factors = ", ".join(f"{name} {gate['factor']:.2f}" for name, gate in gates.items())
        biases += f" and gates by {factors}"
    elif not any(fitted["biases"][name] for name in BIASES):
        biases = "no biases, as those of other groups do not help"
    parts = []
    for name in OBJECTIVE:
        plain, found, honest = (fitted["val"][key][name] for key in ("plain", "fitted", "cross_validated"))
        if plain is not None:
            parts.append(f"{name} {plain:.3f} -> {found:.3f} ({honest:.3f})")
    left_out = f", {fitted['n_left_out']} left out" if fitted["n_left_out"] else ""
    return f"{biases}; on {fitted['n_samples']} val samples{left_out}: {', '.join(parts)}"


def _gates_of(config: dict) -> dict[str, Gate]:
    """The gates of the run's train samples; none, and a note, where they are not on this machine."""
    path = input_path(config["data"]["train_path"])
    if not path.is_file():
        note(f"{path}: missing, so decisions are fitted without gates, which need the train samples")
        return {}
    return fit_gates(read_samples(path))


def _key(job: Export, builder, samples: list[dict], gates: Mapping[str, Gate], precision: str) -> str:
    """Hash of what the decisions depend on."""
    prompts = [job.card.template, builder.prefix, builder.max_tokens]
    weights = {name: asdict(gate) for name, gate in gates.items()}
    return sha256_value([files_hash(job.checkpoint), prompts, samples, weights, precision])


def calibrate(job: Export, overwrite: bool) -> str:
    """Fit the decisions of checkpoint-best and add them to calibration.json. Returns what to say about it.

    Nothing is done where they are there, unless `overwrite`.
    """
    checkpoint = str(job.checkpoint)
    path = calibration_path(checkpoint)
    if not path.is_file():
        raise DataError(f"{path}: missing; let the training with this config run to its end first")
    config = job.config
    bits = {name: config[name] for name in ("bf16", "load_in_4bit", "load_in_8bit", "trust_remote_code")}
    options = LoadOptions(**bits, base_model=config["model_name"])
    val = read_samples(input_path(config["data"]["val_path"]))
    samples = pick_samples(val, config["data"]["max_calibration_samples"], config["training"]["seed"])
    builder = job.build(load_tokenizer(checkpoint, config["trust_remote_code"]))
    # Before the model, which takes longer to load than train samples that cannot be read to be named.
    gates = _gates_of(config)
    precision = weights_precision(options)
    key = _key(job, builder, samples, gates, precision)
    fits = read_shaped(path, CALIBRATION)
    if not overwrite and fits.get("decisions", {}).get("key") == key:
        return f"nothing to do: {path} has the decisions of this checkpoint and these samples"
    model = load_generator(checkpoint, options)
    batch_size = 4 * config["training"]["per_device_eval_batch_size"]
    fitted = fit_to_answers(model, builder, samples, batch_size, gates)
    # Its own, because that of run.json trained the model.
    step = read_if_there(Path(checkpoint) / "run.json", lenient(CHECKPOINT)).get("step")
    fitted |= {"precision": precision, "step": step, "key": key, "command": own_command()}
    write_json(path, {**fits, "decisions": fitted})
    return f"wrote {path}: {describe_fit(fitted)}"
