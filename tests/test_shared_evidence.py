"""Rows with the same evidence share its computation: which rows do, and that the gradients stay the same."""

import random

import pytest
import torch

import train_sft
from models.cpu_attention import use_grouped_attention
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.test_sft_runs import HISTORY, overrides, train, write_config
from tests.test_train_sft import bare_trainer
from train_sft import gold_ids, make_collator
from training.evidence_versions import evidence_of, gather_evidence, shuffle_chunks
from training.rows import encode_rows
from training.sft_config import DEFAULTS, check_config
from training.shared_evidence import group_columns, group_cost, plan_groups
from utils.errors import UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl

# Three questions on one evidence, two on another, one alone.
ALIKE = (0, 0, 0, 1, 1, 2)


@pytest.fixture
def questions(samples):
    """Six samples of three units, of which the rows of a unit ask differently on the same evidence."""
    units = [sample for sample in samples if sample["answerable"]][:3]
    rows = []
    for number, k in enumerate(ALIKE):
        changes = {"id": f"{units[k]['id']}#{number}", "metadata": {"unit": units[k]["id"]}}
        rows.append({**units[k], **changes, "question": f"Question {number}: {units[k]['question']}"})
    return rows


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, SFT_TEMPLATES["evidence_first"], 1400)


# --- which rows


def test_groups_are_the_neighbors_that_save_tokens():
    one = [5] * 40
    other = [6] * 40
    rows = [[*one, 7, 8], [*one, 9], [*other, 7, 7], [*other, 8, 8]]
    assert plan_groups(rows, 10) == [(2, 40), (2, 40)]
    # The prefix costs more than the second reading of the evidence: one pass, which shares the prefix alone.
    assert plan_groups(rows, 100) == [(4, 0)]
    assert plan_groups(rows[:1], 10) == [(1, 0)]
    # Of equal prompts too, each row keeps its last token, which predicts its completion.
    assert plan_groups([one, one], 10) == [(2, 39)]
    assert plan_groups([[*one, 1], other, [*one, 2]], 10) == [(3, 0)]
    columns = group_columns(rows, 10)
    assert columns["group"].tolist() == [0, 0, 1, 1]
    assert columns["n_shared"].tolist() == [40] * 4


def test_the_groups_read_the_fewest_tokens():
    rng = random.Random(0)
    starts = [[rng.randrange(9) for _ in range(30)] for _ in range(3)]
    for _ in range(50):
        rows = [starts[rng.randrange(3)][: rng.randint(1, 30)] + [9] * rng.randint(1, 9) for _ in range(6)]
        n_prefix = rng.randint(1, 60)

        def n_tokens(groups, rows=rows, n_prefix=n_prefix):
            total = 0
            start = 0
            for n_rows, n_shared in groups:
                longest = max(map(len, rows[start : start + n_rows]))
                assert all(row[:n_shared] == rows[start][:n_shared] for row in rows[start : start + n_rows])
                total += n_prefix + n_shared + n_rows * (longest - n_shared)
                start += n_rows
            assert start == len(rows)
            return total

        planned = n_tokens(plan_groups(rows, n_prefix))
        assert planned <= n_tokens([(6, 0)])
        assert planned <= n_tokens([(1, 0)] * 6)
        for cut in range(1, 6):
            assert planned <= n_tokens([(cut, 0), (6 - cut, 0)])


def test_rows_of_one_evidence_are_neighbors_and_get_the_same_orders(questions):
    mixed = random.Random(1).sample(questions, 6)
    gathered = gather_evidence(mixed)
    assert sorted(row["id"] for row in gathered) == sorted(row["id"] for row in mixed)
    keys = [evidence_of(row) for row in gathered]
    assert sum(a == b for a, b in zip(keys, keys[1:])) == 3
    shuffled = shuffle_chunks(gathered, random.Random(2), shares_evidence=True)
    assert [evidence_of(row) == evidence_of(shuffled[0]) for row in shuffled].count(True) in (1, 2, 3)
    for before, after in zip(zip(gathered, gathered[1:]), zip(shuffled, shuffled[1:])):
        assert (evidence_of(before[0]) == evidence_of(before[1])) == (
            evidence_of(after[0]) == evidence_of(after[1])
        )


def test_prompts_with_the_same_evidence_begin_alike_up_to_the_question(questions, builder, tokenizer):
    rows, _ = encode_rows(questions, builder, gold_ids, 1500)
    groups = plan_groups([row["suffix"] for row in rows], 5)
    assert [n_rows for n_rows, _ in groups] == [3, 2, 1]
    for row, n_shared in ((rows[0], groups[0][1]), (rows[3], groups[1][1])):
        assert "Question: Question" in tokenizer.decode(row["suffix"][:n_shared])


# --- loss and gradients


def loss_and_gradient(model, collate, prefix: list[int], rows: list[dict]) -> tuple[float, torch.Tensor]:
    loss = bare_trainer(prefix, True).compute_loss(model.train(), collate(rows))
    loss.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(grads)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("attention", ["grouped", "eager"])
def test_loss_and_gradient_are_those_of_rows_read_one_by_one(
    kind, attention, make_model, tokenizer, questions, builder
):
    rows, _ = encode_rows(questions, builder, gold_ids, 1500)
    # Completions of different lengths, so that a group may have fewer columns than the batch has labels.
    rows[5]["completion"] = rows[5]["completion"] * 4
    prefix = builder.prefix[-5:]

    def model():
        made = make_model(kind)
        return use_grouped_attention(made) if attention == "grouped" else made

    batch = make_collator(0, len(prefix))(rows)
    assert batch["group"].tolist() == [0, 0, 0, 1, 1, 2]
    assert batch["n_shared"].min() == 0
    assert batch["n_shared"].max() > 20

    total = 0.0
    n_tokens = 0
    alone = make_model(kind).train()
    for row in rows:
        losses, n_items = bare_trainer(prefix, False).row_losses(alone, make_collator(0)([row]))
        total = total + losses.sum()
        n_tokens += int(n_items.sum())
    expected = total / n_tokens
    expected.backward()
    expected_gradient = torch.cat([p.grad.flatten() for p in alone.parameters() if p.grad is not None])

    loss, gradient = loss_and_gradient(model(), make_collator(0, len(prefix)), prefix, rows)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-6)


def test_one_pass_reads_the_prefix_each_evidence_and_each_question_once(
    make_model, tokenizer, questions, builder
):
    rows, _ = encode_rows(questions, builder, gold_ids, 1500)
    model = use_grouped_attention(make_model("llama"))
    prefix = builder.prefix
    # Another group costs nothing here, whatever the length of the prefix.
    cost = group_cost(model, prefix)
    assert (cost, group_cost(make_model("llama"), prefix)) == (0, len(prefix))
    batch = make_collator(0, cost)(rows)
    read = []
    forward = model.forward
    model.forward = lambda **inputs: read.append(inputs["input_ids"]) or forward(**inputs)
    bare_trainer(prefix, True).row_losses(model, batch)
    n_expected = len(prefix)
    start = 0
    for n_rows, n_shared in plan_groups([row["suffix"] for row in rows], cost):
        of_group = rows[start : start + n_rows]
        n_expected += n_shared
        n_expected += sum(len(row["suffix"]) - n_shared + len(row["completion"]) for row in of_group)
        start += n_rows
    assert [ids.shape for ids in read] == [(1, n_expected)]


# --- runs


def made_questions(home) -> str:
    """A file with two more questions on the evidence of each training sample; returns its name."""
    rows = []
    for _, sample in read_jsonl(home / "data/processed/train.jsonl"):
        for number in (1, 2):
            unit = sample["metadata"].get("twin_of") or sample["id"]
            metadata = {**sample["metadata"], "made_from": sample["id"], "unit": unit}
            changes = {"id": f"{sample['id']}#{number}", "question": f"{number}: {sample['question']}"}
            rows.append({**sample, **changes, "metadata": metadata})
    write_jsonl(home / "made.jsonl", rows)
    return "made.jsonl"


def test_a_run_learns_the_same_with_shared_evidence_and_resumes(tiny_gemma_dir, home, monkeypatch):
    # Long steps of few tokens: what a group saves is more than the prefix of another pass.
    batches = {"per_device_train_batch_size": 6, "max_steps": 6, "save_total_limit": 9}
    config = write_config(home, tiny_gemma_dir, **batches)
    data = ("data.max_samples=8", f"data.made_path={made_questions(home)}", "data.template=evidence_first")
    values = ("bf16=false", "attn_implementation=eager", *data, "data.share_evidence=true")
    train(config, *values)
    shared = read_json(home / "sft" / HISTORY)
    weights = (home / "sft/checkpoint-final/adapter_model.safetensors").read_bytes()
    assert read_json(home / "sft/run.json")["settings"]["data"]["share_evidence"] is True

    # The same rows in the same order, read one by one.
    with monkeypatch.context() as patched:
        patched.setattr("training.job.TrainingJob.group_cost", lambda job, model: None)
        train(config, *values, "output_dir=alone")
    alone = read_json(home / "alone" / HISTORY)
    losses = [[log["loss"] for log in history["train_losses"]] for history in (shared, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert shared["eval_metrics"][-1]["eval_loss"] == pytest.approx(
        alone["eval_metrics"][-1]["eval_loss"], rel=1e-4
    )

    for step in (4, 6):
        (home / f"sft/checkpoint-{step}/run.json").unlink()
    manifest = (home / "sft/run.json").read_text()
    (home / "sft/run.json").write_text(manifest.replace('"complete"', '"running"'))
    train(config, *values)
    assert (home / "sft/checkpoint-final/adapter_model.safetensors").read_bytes() == weights
    assert read_json(home / "sft" / HISTORY)["train_losses"] == shared["train_losses"]


# --- the checks of the config


@pytest.mark.parametrize(
    ("block", "key", "value", "message"),
    [
        ("training", "gradient_checkpointing", True, "needs training.gradient_checkpointing: false"),
        ("training", "tokens_per_pass", 4096, "needs training.tokens_per_pass: null, found 4096"),
        ("data", "twin_pairs", "shuffled", "needs data.twin_pairs: adjacent"),
    ],
)
def test_keys_with_which_nothing_could_be_shared_are_refused(block, key, value, message):
    config = {
        **DEFAULTS,
        "training": {**DEFAULTS["training"], "gradient_checkpointing": False},
        "data": {**DEFAULTS["data"], "share_evidence": True},
    }
    check_config(config)
    config[block][key] = value
    with pytest.raises(UsageError, match=message):
        check_config(config)


def test_a_template_with_the_question_first_is_refused_before_anything_is_loaded(home, tiny_gemma_dir):
    config = write_config(home, tiny_gemma_dir)
    arguments = ["-c", str(config), *overrides("data.share_evidence=true")]
    with pytest.raises(UsageError, match=r"template default has the question before the evidence"):
        train_sft.read_settings(arguments)
    with pytest.raises(UsageError, match=r"template default has the question before the evidence"):
        train_sft.main([*arguments, "--dry-run"])
    train_sft.read_settings([*arguments, *overrides("data.template=evidence_first")])
