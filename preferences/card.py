"""The model card of a reward head: what it scores, code that runs, metrics of its pairs, data, limits.

It knows a head's config.json and the run's validation, not how the head was trained.
"""

from pathlib import Path
from typing import Any

from models.loading import resolve_model
from preferences.card_words import head_kind, pair_sources, pair_writers
from preferences.reward import PENALTIES
from preferences.reward_config import DEFAULTS, FEATURE_KEYS
from utils.cards import (
    Header,
    Measured,
    base_arguments,
    card_header,
    end_code,
    example_code,
    licence_rows,
    metric_rows,
    prompt_code,
)
from utils.hub_names import dataset_ids, hub_model_id, model_licence, reference, split_revision
from utils.jsonl import write_text
from utils.own_files import MEASURED_HEAD
from utils.shapes import read_shaped

_CARD = """{header}
# {title}

{kind}: it scores a reply (JSON with answer, citations, confidence)
to a question with numbered passages. The reward of the project is the standardized score minus penalties
against gaming, which are computed from the reply and the passages.

## Use

The score alone, with transformers:

```python
{code}
```

With the penalties, in the project: `train_rm.py -c CONFIG --score FILE`.

| penalty | weight |
|---|---|
{penalties}

## Metrics

{metrics}

Pairs of test share no evidence with those of train or val. `validation.json` of the run has the intervals,
and baselines such as the length of the reply: compare with them before a score is used.

## Data and licences

| source | pairs | licence |
|---|---|---|
{data}

Pairs were decided by: {decided_by}.
The base model's terms also apply to what is made with it: {licence}.

## Limits

- It was trained on pairs of replies by {writers}; replies in another form may get any score.
- It reads the features of this base model and template alone.
- A high score is no proof that an answer is right.
"""

_OF_THE_PROJECT = """# Its features are states of several layers or tokens, or probabilities of parts of the
# reply with and without its evidence, as config.json says; the project reads them:
# python train_rm.py -c CONFIG --score FILE"""

_REPLY = """
reply = '{"answer": "1931", "citations": [1], "confidence": 0.9}'
# As in training, the opening quote of the answer ends a token, and the end of the completion is read too.
for part in (reply[:12], reply[12:]):
    ids += tokenizer(part, add_special_tokens=False)["input_ids"]
ids.append({end})
"""

_SCORING = """hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1].float()
head = load_file(f"{MODEL}/reward_head.safetensors")
scale = json.load(open(f"{MODEL}/config.json"))["score_scale"]
score = (hidden - head["mean"]) / head["std"] @ head["linear.weight"][0]
print((score.item() - scale["mean"]) / scale["std"])"""

_CLASSIFYING = """# The output layers of transformers have no bias. The offset is one: it changes no ranking.
score = model(torch.tensor([ids])).logits[0, 0] + model.config.score_offset
print(score.item())"""


def reward_card(facts: dict, code: str, library: str) -> str:
    """README.md of a head. `facts`: `card_facts` of it; `code` scores a reply with this library."""
    hub_base = hub_model_id(facts["base_model"])
    shown_base = hub_base or Path(facts["base_model"]).name
    measured = [Measured(split, n, metrics) for split, n, metrics in facts["measured"]]
    title = f"Reward of cited answers, a head on {shown_base}"
    header = Header(
        title=title,
        licence=model_licence(hub_base),
        library=library,
        pipeline="text-classification",
        base=hub_base,
        tags=["reward-model", "grounded-question-answering", "citations"],
        datasets=dataset_ids({name: about["licence"] for name, about in facts["sources"].items()}),
        measured=measured,
    )
    weights = facts["penalty_weights"]
    return _CARD.format(
        header=card_header(header),
        title=title,
        kind=head_kind(facts),
        writers=", ".join(facts["writers"]) or "models that are not stated",
        code=code,
        penalties="\n".join(f"| {name} | {weights.get(name, 0.0)} |" for name in PENALTIES),
        metrics=metric_rows(measured),
        data=licence_rows(facts["sources"]),
        decided_by=", ".join(facts["decided_by"]) or "not stated",
        licence=header.licence.text,
    )


def _is_plain(saved: dict) -> bool:
    """Whether a head is one product with the last hidden state, which a few lines of code can show."""
    is_default = all(saved.get(key, DEFAULTS[key]) == DEFAULTS[key] for key in FEATURE_KEYS)
    return is_default and not saved.get("head_width")


def head_card(facts: dict, tokenizer: Any, template: str, model: str, base: str) -> str:
    """The card of a head without its base model; `model`, `base`: how code names both."""
    code = _OF_THE_PROJECT
    if _is_plain(facts):
        code = _head_code(tokenizer, template, model, base, facts)
    return reward_card(facts, code, "safetensors")


def classifier_card(facts: dict, tokenizer: Any, template: str) -> str:
    """The card of a head that was exported with its base model, as one sequence classifier."""
    lines = ["import torch", "from transformers import AutoModelForSequenceClassification, AutoTokenizer"]
    lines += ["", 'MODEL = "."', prompt_code(tokenizer, template), ""]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(MODEL)"]
    lines += ["model = AutoModelForSequenceClassification.from_pretrained(MODEL)"]
    scoring = (_REPLY + _CLASSIFYING).replace("{end}", end_code(tokenizer))
    code = "\n".join(lines) + "\n" + example_code(tokenizer) + scoring
    return reward_card(facts, code, "transformers")


def _head_code(tokenizer: Any, template: str, model: str, base: str, facts: dict) -> str:
    base = split_revision(base)[0]
    hub_base = hub_model_id(facts["base_model"])
    is_on_hub = base == hub_base
    arguments = base_arguments(is_on_hub, facts.get("base_revision"))
    place = f'snapshot_download("{model}")' if is_on_hub else f'"{model}"'
    note = f"  # on the hub: {hub_base}" if hub_base and not is_on_hub else ""
    lines = ["import json", "", "import torch"]
    lines += ["from huggingface_hub import snapshot_download"] if is_on_hub else []
    lines += ["from safetensors.torch import load_file"]
    lines += ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    lines += ["", f"MODEL = {place}", f'BASE = "{base}"{note}', prompt_code(tokenizer, template), ""]
    lines += [f"tokenizer = AutoTokenizer.from_pretrained({arguments})"]
    lines += [f"model = AutoModelForCausalLM.from_pretrained({arguments})"]
    scoring = (_REPLY + _SCORING).replace("{end}", end_code(tokenizer))
    return "\n".join(lines) + "\n" + example_code(tokenizer) + scoring


def card_facts(saved: dict, figures: dict | None, preferences: list[dict]) -> dict:
    """A head's config.json with what its card says: metrics of val and, for the best head, of test."""
    names = ("accuracy", "roc_auc")
    measured = [["val", None, {name: saved["metrics"].get(name) for name in names}]]
    if figures:
        reward = figures["test"]["reward"]
        measured.append(["test", figures["n_test_pairs"], {name: reward[name] for name in names}])
    decided_by = sorted({row["decided_by"] for row in preferences})
    about = {
        "sources": pair_sources(preferences),
        "writers": pair_writers(preferences),
        "decided_by": decided_by,
    }
    return {**saved, "measured": measured, **about}


def write_reward_cards(
    folders: list[Path], figures: dict, preferences: list[dict], tokenizer: Any, template: str
) -> None:
    """The cards of heads; `figures` are those of the first."""
    for folder in folders:
        saved = read_shaped(folder / "config.json", MEASURED_HEAD)
        facts = card_facts(saved, figures if folder == folders[0] else None, preferences)
        base = reference(saved["base_model"], Path(resolve_model(saved["base_model"])), folder)
        write_text(folder / "README.md", head_card(facts, tokenizer, template, ".", base))
