"""A linear head and its base model as one sequence classifier, which transformers loads without this project.

    score = (w . (h - mean) / std - m) / s = v . h + offset,   v = w / (std s),   offset = -v . mean - m / s

h (hidden,) is the state of the last token behind the last norm, mean and std those of the features, m and s
the scale of the scores. The output layer of these classes has no bias, so the offset is a key of their
config, `score_offset`; it changes no ranking. An export is complete or absent: it gets its name after it gave
the scores of the head. This module knows neither penalties nor pairs.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.choices import LoadOptions
from models.loading import load_model
from models.memory import release_memory
from models.special_tokens import save_end
from preferences.completion_reader import CompletionReader, PromptSource
from preferences.cuts import COMPLETION_TOKENS, encode_completions
from preferences.head_base import base_of_head
from preferences.inputs import check_exportable
from preferences.reward import RewardHead, load_head
from preferences.reward_config import reading_of
from utils.errors import StageError, UsageError
from utils.jsonl import read_json, write_json, write_text
from utils.moving import move_folder
from utils.tokens import end_id

# Between the head on its features and the exported model, both in float32.
MAX_SCORE_GAP = 1e-3
_PAD = "<|pad|>"


def folded(head: RewardHead, scale: dict[str, float]) -> tuple[torch.Tensor, float]:
    """(v (hidden,) in float32, offset) of the standardized score of a linear head."""
    # In float64: the two terms of the offset may be large, and nearly cancel.
    direction = head.linear.weight[0].detach().double() / (head.std.double() * scale["std"])
    offset = -(direction @ head.mean.double()).item() - scale["mean"] / scale["std"]
    return direction.float(), offset


def set_own_pad(tokenizer: Any, model: Any) -> None:
    """Give both a pad token that ends no completion, with a new row of embeddings if none is free.

    A classifier scores the last token that is no padding: were the end of a completion the pad token too, it
    would score the token before.
    """
    if tokenizer.pad_token_id == end_id(tokenizer):
        tokenizer.add_special_tokens({"pad_token": _PAD})
    n_embedded = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id >= n_embedded:
        model.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
        # Padding is masked, so its embedding need not resemble the others. Zeros fit every type of weights.
        with torch.no_grad():
            model.get_input_embeddings().weight[n_embedded:] = 0


def as_classifier(model: Any, head: RewardHead, scale: dict[str, float], pad_id: int) -> Any:
    """A sequence classifier with the layers of a causal LM, which it shares, and a head as its output layer.

    UsageError for an architecture that transformers has no such classifier of.
    """
    try:
        with torch.device("meta"):
            classifier = AutoModelForSequenceClassification.from_config(model.config)
    except ValueError as error:
        raise _no_class(model) from error
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        raise _no_class(model)
    setattr(classifier, classifier.base_model_prefix, getattr(model, model.base_model_prefix))
    direction, offset = folded(head, scale)
    classifier.score = nn.Linear(len(direction), 1, bias=False)
    classifier.score.weight = nn.Parameter(direction[None])
    config = classifier.config
    config.num_labels = 1
    config.id2label = {0: "reward"}
    config.label2id = {"reward": 0}
    config.pad_token_id = pad_id
    # The part that reads text has a config of its own where the model reads images too.
    config.get_text_config().pad_token_id = pad_id
    config.score_offset = offset
    return classifier


def _no_class(model: Any) -> UsageError:
    return UsageError(
        f"--export-hf: transformers has no sequence classifier of {model.config.model_type} models that ends "
        "in one linear layer; use the head with --score, or train it on another base_model"
    )


def _shrink(layers: nn.Module) -> None:
    """Store the layers in bfloat16 if that loses nothing: their weights may have come in that type."""
    for parameter in layers.parameters():
        if not torch.equal(parameter, parameter.to(torch.bfloat16).to(parameter.dtype)):
            return
    layers.to(torch.bfloat16)


def _exported_scores(folder: Path, rows: list[dict], config: dict, prompts: PromptSource) -> torch.Tensor:
    """Scores of completion rows, (n,), of a classifier as any program would load it, two rows at a time."""
    # Its tokenizer too: with the config of the model beside it, AutoTokenizer may choose another class.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    builder = prompts.builder(tokenizer, max_tokens=config["max_seq_length"] - COMPLETION_TOKENS)
    completions, _ = encode_completions(tokenizer, rows)
    ids = [builder.build(row).ids + completion for row, completion in zip(rows, completions)]
    found = []
    for start in range(0, len(ids), 2):
        batch = tokenizer.pad({"input_ids": ids[start : start + 2]}, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(**batch).logits[:, 0] + model.config.score_offset)
    return torch.cat(found)


def export_classifier(
    folder: Path, target: Path, rows: list[dict], config: dict, prompts: PromptSource, card: str
) -> float:
    """Write the head in `folder` with its base model to `target`, a new directory with `card` as README.md.

    `rows` are completion rows to compare scores on. Returns the largest difference. UsageError for a head
    that is no such classifier; StageError, and nothing written, for scores that differ by more than
    `MAX_SCORE_GAP`.
    """
    head, saved = load_head(folder)
    check_exportable(saved)
    scale = saved["score_scale"]
    config = config | reading_of(saved)
    config["base_model"] = base_of_head(folder, saved, config["base_model"])
    options = LoadOptions(
        bf16=False,
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
    )
    model = load_model(config["base_model"], options)
    reader = CompletionReader.load(config, prompts, model)
    features = torch.stack([found["features"] for found in reader.read(rows)])
    with torch.no_grad():
        expected = (head(features) - scale["mean"]) / scale["std"]
    # An adapter becomes part of the weights, in float32, where that is exact to rounding.
    model = model.merge_and_unload() if hasattr(model, "peft_config") else model
    set_own_pad(reader.tokenizer, model)
    classifier = as_classifier(model, head, scale, reader.tokenizer.pad_token_id)
    _shrink(getattr(classifier, classifier.base_model_prefix))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, classifier, reader.tokenizer, card)
        # One copy of the weights at a time.
        del model, classifier, reader
        release_memory()
        gap = (_exported_scores(partial, rows, config, prompts) - expected).abs().max().item()
        if not gap <= MAX_SCORE_GAP:
            raise StageError(
                f"--export-hf: scores of the exported model differ by {gap:.3g} (limit {MAX_SCORE_GAP:g}); "
                "nothing was written"
            )
        move_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return gap


def _write(folder: Path, classifier: Any, tokenizer: Any, card: str) -> None:
    classifier.save_pretrained(folder)
    # Rows of one batch may be padded on either side; on the right, positions count from the first token.
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    save_end(folder, tokenizer)
    # The layers may be stored in bfloat16, but they compute in float32, as the head's score was compared.
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"dtype": "float32"})
    write_text(folder / "README.md", card)
