"""The model card of an SFT checkpoint: what it is, code that runs, data, metrics, limits.

It knows the facts of a checkpoint's run.json and of its run, not how the model was trained.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.loading import resolve_model
from utils.cards import (
    TAGS,
    Header,
    Measured,
    base_arguments,
    card_header,
    described_base,
    end_code,
    example_code,
    licence_rows,
    metric_rows,
    prompt_code,
)
from utils.hub_names import dataset_ids, hub_model_id, model_licence, reference, split_revision
from utils.tokens import end_id

# In the manifest of a checkpoint whose weights are a mean: the steps that they are the mean of.
AVERAGED = "averaged_steps"

_CARD = """{header}
# {title}

Given a question and numbered passages, the model replies with one JSON object: `answer`, `citations` (the
numbers of the passages used) and `confidence`. It replies `[INSUFFICIENT_EVIDENCE]` if the passages do not
contain the answer.

## Use

```python
{code}
```

## Training

| | |
|---|---|
| base model | {base} |
| method | {method} |
| step | {step} |
| learning rate | {learning_rate}, {schedule} |
| template | {template} |

{loss} Of the checkpoints of a run, `checkpoint-best` has the
best {metric_for_best} on val, `checkpoint-final` is the last step.

## Metrics

{metrics}

Checkpoints are chosen on val, so only figures of a test split are results. docs/metrics.md of the project
defines each metric.

## Data and licences

| source | training samples | licence |
|---|---|---|
{data}

The base model's terms also apply to these weights: {licence}.

## Limits

- It answers from the passages in the prompt. Without the right one, a refusal is the right reply.
- A citation says which passage was used and proves nothing: compare the answer with the passage.
- The stated confidence is a learned text. `calibration.json` of the run maps the probability of an answer to
  the share of such answers that were right on val.
- Passages can carry instructions to the model; `robustness.py --suite injection` measures what they do.
- Other languages, kinds of questions and lengths of evidence than those of the data were not measured.
"""

_IMPORTS = {
    "adapter": "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer",
    "model": "from transformers import AutoModelForCausalLM, AutoTokenizer",
}
_LOADING = {
    "adapter": "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), MODEL)",
    "model": "model = AutoModelForCausalLM.from_pretrained(MODEL)",
}
_ANSWERING = """
ids = torch.tensor([ids])
mask = torch.ones_like(ids)
output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=96, do_sample=False)
print(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))"""


@dataclass(frozen=True)
class Place:
    """How a card's code names the model and its base: by relative paths or, on the hub, by ids."""

    model: str
    base: str


def local_place(base_model: str, directory: Path, model: str = ".") -> Place:
    """The place of a card that stays in `directory`."""
    return Place(model, reference(base_model, Path(resolve_model(base_model)), directory))


def kind_of(directory: Path) -> str:
    """ "adapter" or "model": whether a checkpoint needs its base."""
    return "adapter" if (directory / "adapter_config.json").is_file() else "model"


def _described_step(facts: dict) -> str:
    if AVERAGED in facts:
        return f"mean of the weights at steps {', '.join(map(str, facts[AVERAGED]))}"
    return str(facts.get("step", "not stated"))


def count_sources(samples: list[dict]) -> dict[str, dict]:
    """Source -> number of samples and licence, as the samples give it."""
    counts = Counter(sample["source"] for sample in samples)
    licences = {sample["source"]: sample["metadata"].get("licence") or "not stated" for sample in samples}
    return {source: {"n": counts[source], "licence": licences[source]} for source in sorted(counts)}


def measured_on_val(facts: dict) -> list[Measured]:
    """What the run.json of a checkpoint says about val: of its evaluation, and of the answers at the end."""
    evaluated = {name.removeprefix("eval_"): facts[name] for name in facts if name.startswith("eval_")}
    answered = {name.removeprefix("eval_"): value for name, value in facts.get("val", {}).items()}
    # The metrics of more samples in place of those of fewer.
    kept = {name: value for name, value in evaluated.items() if name != "loss" and name not in answered}
    loss = {"loss": evaluated["loss"]} if "loss" in evaluated else {}
    found = [
        Measured("val", facts.get("n_val_rows"), loss),
        Measured("val", facts.get("n_val_generated", facts.get("n_val_rows")), kept),
        Measured("val", facts.get("n_val_answers"), answered),
    ]
    return [measured for measured in found if measured.metrics]


@dataclass(frozen=True)
class SftCard:
    """What the cards of one run share."""

    config: dict
    template: str
    tokenizer: Any
    # What was learned, in a sentence.
    loss: str = "The loss is the cross-entropy of the completion alone."

    def text(self, facts: dict, kind: str, place: Place, test: Measured | None = None) -> str:
        """README.md of a checkpoint. `facts`: its run.json; `kind`: see `kind_of`; `test`: an evaluation."""
        training = self.config["training"]
        base = self.config["model_name"]
        hub_base = hub_model_id(base)
        sources = facts.get("sources", {})
        measured = measured_on_val(facts) + ([test] if test else [])
        title = f"Answers with citations, trained from {hub_base or Path(base).name}"
        header = Header(
            title=title,
            licence=model_licence(hub_base),
            library="peft" if kind == "adapter" else "transformers",
            pipeline="text-generation",
            base=hub_base,
            tags=[*TAGS, *(["lora"] if kind == "adapter" else [])],
            datasets=dataset_ids({name: about["licence"] for name, about in sources.items()}),
            measured=measured,
        )
        return _CARD.format(
            header=card_header(header),
            title=title,
            code=self._code(kind, place, hub_base, facts.get("base_revision")),
            base=described_base(base, hub_base, facts.get("base_revision")),
            method=_method(self.config),
            step=_described_step(facts),
            learning_rate=training["learning_rate"],
            schedule=training["lr_scheduler_type"],
            template=f"{facts.get('template')} ({facts.get('template_hash')})",
            loss=self.loss,
            metric_for_best=training["metric_for_best"],
            metrics=metric_rows(measured),
            data=licence_rows(sources),
            licence=header.licence.text,
        )

    def _code(self, kind: str, place: Place, hub_base: str | None, revision: str | None = None) -> str:
        """Python that answers one question; `revision`: the commit of a base from the hub."""
        base = split_revision(place.base)[0]
        lines = ["import torch", _IMPORTS[kind], "", f'MODEL = "{place.model}"']
        if kind == "adapter":
            on_hub = f"  # on the hub: {hub_base}" if hub_base and base != hub_base else ""
            lines.append(f'BASE = "{base}"{on_hub}')
        lines += [prompt_code(self.tokenizer, self.template), ""]
        lines += ["tokenizer = AutoTokenizer.from_pretrained(MODEL)"]
        lines += [_LOADING[kind].replace("BASE", base_arguments(base == hub_base, revision))]
        return "\n".join(lines) + "\n" + example_code(self.tokenizer) + self._answering()

    def _answering(self) -> str:
        if end_id(self.tokenizer) == self.tokenizer.eos_token_id:
            return _ANSWERING
        # The base's own settings may stop at another token alone.
        stop = f"do_sample=False, eos_token_id={end_code(self.tokenizer)}"
        return _ANSWERING.replace("do_sample=False", stop)


def _method(config: dict) -> str:
    lora = config["lora"]
    if config["full_finetuning"]:
        return "all weights trained"
    modules = lora["target_modules"]
    text = f"LoRA, r {lora['r']}, alpha {lora['alpha']}, on "
    text += modules if isinstance(modules, str) else ", ".join(modules)
    for bits in (4, 8):
        text += f", base in {bits} bits" if config[f"load_in_{bits}bit"] else ""
    return text
