"""Tokens that all completions have: which they are, and a loss without them."""

import random

import pytest
import torch
from torch import nn

from models.cpu_attention import use_grouped_attention
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.test_train_sft import bare_trainer
from train_sft import gold_ids, make_collator
from training.rows import encode_rows
from training.skeleton import skeleton_of, thin_labels, told_contexts

OPENS = [7, 8, 9, 10]
CITES = [20, 21, 22, 23]
END = [30, 31]


def completions_of(n: int) -> list[list[int]]:
    """Completions {opens} answer {cites} number {end}; answers of one to three tokens."""
    rng = random.Random(1)
    rows = []
    for _ in range(n):
        answer = [rng.randint(100, 120) for _ in range(rng.randint(1, 3))]
        rows.append([*OPENS, *answer, *CITES, rng.choice([40, 41]), *END])
    return rows


def rows_of(completions: list[list[int]]) -> list[dict]:
    return [{"completion": ids, "labels": ids} for ids in completions]


def skeletons(completions: list[list[int]]) -> list[list[bool]]:
    told = told_contexts(completions)
    return [skeleton_of(ids, told) for ids in completions]


def test_the_skeleton_is_what_the_tokens_before_it_always_tell():
    completions = completions_of(400)
    for ids, told in zip(completions, skeletons(completions)):
        n_answer = len(ids) - 11
        assert told[:4] == [True] * 4
        # An answer may end or go on: its tokens are learned, and so is the first token behind it.
        assert not any(told[4 : 4 + n_answer + 1])
        # The second token behind an answer is told by that answer alone, and each is rare. The number is
        # learned; its two values tell what comes behind it.
        assert told[-6:] == [False, True, True, False, True, True]


def test_tokens_of_few_completions_are_learned():
    completions = [*completions_of(400), *[[*OPENS, 50, 51, 52, *CITES, 40, *END]] * 49]
    told = skeletons(completions)[-1]
    assert told[4:8] == [False] * 4
    told = skeletons([*completions, completions[-1]])[-1]
    # 50 times the same answer: its first token tells the others.
    assert told[4:8] == [False, True, True, True]


def test_a_share_of_the_rows_keeps_all_labels_whatever_their_order():
    rows = rows_of(completions_of(400))
    assert thin_labels(rows, rows, 1.0, seed=1) == 0
    assert all(row["labels"] == row["completion"] for row in rows)

    n_taken = thin_labels(rows, rows, 0.25, seed=1)
    whole = [row for row in rows if row["labels"] == row["completion"]]
    assert 70 < len(whole) < 130
    assert n_taken == sum(label == -100 for row in rows for label in row["labels"])
    for row in rows:
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["completion"]))
    again = rows_of(completions_of(400))
    thin_labels(again, again, 0.25, seed=1)
    assert again == rows


def test_a_rare_answer_is_learned_however_often_it_is_read():
    rare = [*OPENS, 50, 51, 52, *CITES, 40, *END]
    once = rows_of([*completions_of(400), *[rare] * 20])
    epochs = rows_of(4 * [row["completion"] for row in once])
    thin_labels(epochs, once, 0.0, seed=1)
    kept = [row["labels"] for row in epochs if row["completion"] == rare]
    assert len(kept) == 80 and all(labels[4:7] == [50, 51, 52] for labels in kept)


def test_no_row_is_left_without_a_label():
    rows = rows_of([[*OPENS, *END]] * 60)
    thin_labels(rows, rows, 0.0, seed=1)
    assert all(row["labels"] == row["completion"] for row in rows)


@pytest.mark.parametrize("share_prefix", [False, True, "packed"])
def test_a_token_without_a_label_has_no_part_in_the_loss(share_prefix, make_model, tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    rows, _ = encode_rows(samples[:6], builder, gold_ids, 1500)
    for row in rows:
        row["labels"] = [-100 if k % 3 == 1 else token for k, token in enumerate(row["completion"])]
    model = make_model("llama")
    trained = use_grouped_attention(make_model("llama")) if share_prefix == "packed" else model
    trainer = bare_trainer(builder.prefix, bool(share_prefix))
    losses, n_items = trainer.row_losses(trained, make_collator(0)(rows))
    for row, loss, n in zip(rows, losses, n_items):
        ids = [*builder.prefix, *row["suffix"], *row["completion"]]
        logits = model(torch.tensor([ids])).logits[0, :-1]
        targets = torch.tensor(ids[1:])
        n_learned = len(row["completion"])
        nll = nn.functional.cross_entropy(logits[-n_learned:], targets[-n_learned:], reduction="none")
        has_label = torch.tensor(row["labels"]) != -100
        assert loss.item() == pytest.approx(nll[has_label].sum().item(), rel=1e-4)
        assert n == has_label.sum()
