"""A frozen model that reads completions behind their prompts, and what is kept of each reading.

The prompt builder is handed in. This module knows nothing about files or rewards.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from generation.answering import load_generator
from generation.readings import Reading, Texts, read_completions
from models.choices import LoadOptions
from models.loading import load_tokenizer
from preferences.cuts import COMPLETION_TOKENS, encode_completions
from preferences.segments import SEGMENTS, token_segments
from utils.completions import parse_completion
from utils.templates import load_template, template_hash


@dataclass(frozen=True)
class PromptSource:
    """One template: its hash, and `builder(tokenizer, max_tokens=...)`, which has `prefix` and `build`."""

    template_hash: str
    builder: Callable[..., Any]


def template_source(name: str, prompt_builder: Callable[..., Any]) -> PromptSource:
    """The SFT template of this name; `prompt_builder(tokenizer, template=..., max_tokens=...)` builds."""
    template = load_template("sft", name)
    return PromptSource(template_hash(template), functools.partial(prompt_builder, template=template))


def pooled(hidden: torch.Tensor, segments: list[str], pooling: list[str]) -> torch.Tensor:
    """One vector of a completion's states: (n_depths, n_tokens, dim) -> (n_depths x n_poolings x dim,).

    last: the last token; mean: the mean of all; answer: the mean over the answer, or over all without one.
    """
    if not pooling:
        return torch.empty(0)
    of_answer = [k for k, segment in enumerate(segments) if segment == "answer"]
    found = []
    for name in pooling:
        if name == "last":
            found.append(hidden[:, -1])
        else:
            places = of_answer if name == "answer" and of_answer else list(range(len(segments)))
            found.append(hidden[:, places].mean(1))
    return torch.cat(found, dim=-1).flatten()


def _sum_of(logps: torch.Tensor, segments: list[str], name: str) -> float:
    return float(sum((logp for logp, segment in zip(logps.tolist(), segments) if segment == name), 0.0))


def _cited_alone(row: dict) -> list[dict]:
    """The chunks that a completion cites, in its order."""
    chunks = row["evidence_chunks"]
    parsed = parse_completion(row["completion"], len(chunks))
    return [chunks[c] for c in parsed.citations if 0 <= c < len(chunks)]


def _not_cited(row: dict) -> list[dict]:
    """The chunks that a completion does not cite."""
    cited = _cited_alone(row)
    return [chunk for chunk in row["evidence_chunks"] if chunk not in cited]


class CompletionReader:
    """Reads completion rows; `load` makes one from a train_rm.py config."""

    def __init__(self, model, tokenizer, builder, config: dict):
        self.model = model
        self.tokenizer = tokenizer
        self.builder = builder
        self.config = config

    @classmethod
    def load(cls, config: dict, prompts: PromptSource, model: Any = None) -> "CompletionReader":
        """The model of `base_model`, a checkpoint of train_sft.py included, with its prompts.

        `model`: that model where it is loaded already, maybe in another precision.
        """
        name = config["base_model"]
        trusted = config["trust_remote_code"]
        tokenizer = load_tokenizer(name, trusted, config["max_seq_length"])
        builder = prompts.builder(tokenizer, max_tokens=config["max_seq_length"] - COMPLETION_TOKENS)
        options = LoadOptions(
            load_in_8bit=config["load_in_8bit"],
            attention=config["attn_implementation"],
            trust_remote_code=trusted,
        )
        return cls(model or load_generator(name, options), tokenizer, builder, config)

    def _readings(self, prompts: list, completions: list[list[int]], depths: list[float]) -> list[Reading]:
        found: dict[int, Reading] = {}
        batches = read_completions(
            self.model,
            Texts(self.builder.prefix, [prompt.suffix for prompt in prompts], completions),
            self.tokenizer.pad_token_id,
            self.config["eval_batch_size"],
            depths,
        )
        for batch in batches:
            found |= dict(batch)
        return [found[i] for i in range(len(completions))]

    def read(self, rows: list[dict]) -> list[dict[str, torch.Tensor]]:
        """Per completion row: "features" (n_features,), and numbers: see `load_features`."""
        prompts = [self.builder.build(row) for row in rows]
        completions, is_cut = encode_completions(self.tokenizer, rows)
        segments = [token_segments(self.tokenizer, ids) for ids in completions]
        depths = self.config["feature_layers"] if self.config["pooling"] else []
        readings = self._readings(prompts, completions, depths)
        support = (
            self._support_logps(rows, completions, segments) if self.config["logprob_features"] else None
        )
        found = []
        for i, (row, reading) in enumerate(zip(rows, readings)):
            features = pooled(reading.hidden, segments[i], self.config["pooling"])
            if support is not None:
                sums = [_sum_of(reading.logps, segments[i], name) for name in SEGMENTS]
                n_answer = max(segments[i].count("answer"), 1)
                features = torch.cat([features, torch.tensor([*sums, sums[0] / n_answer, *support[i]])])
            found.append(
                {
                    "features": features,
                    "mean_logp": reading.logps.mean(),
                    "n_tokens": torch.tensor(len(completions[i]) - 1, dtype=torch.float32),
                    "is_cut": torch.tensor(is_cut[i]),
                    "is_prompt_cut": torch.tensor(prompts[i].chunks != row["evidence_chunks"]),
                }
            )
        return found

    def _support_logps(
        self, rows: list[dict], completions: list[list[int]], segments: list[list[str]]
    ) -> list[list[float]]:
        """Per row, the log-probability of its answer behind no evidence, and behind its cited chunks alone.

        0 for both where there is no answer.
        """
        without = self._answer_logps(rows, completions, segments, lambda row: [])
        alone = self._answer_logps(rows, completions, segments, _cited_alone)
        return [[without.get(i, 0.0), alone.get(i, 0.0)] for i in range(len(rows))]

    def _answer_logps(
        self,
        rows: list[dict],
        completions: list[list[int]],
        segments: list[list[str]],
        chunks_of: Callable[[dict], list[dict]],
    ) -> dict[int, float]:
        """Place of each row with an answer -> log-probability of the answer behind `chunks_of(row)`."""
        places = [i for i in range(len(rows)) if "answer" in segments[i]]
        prompts = []
        beginnings = []
        for i in places:
            prompts.append(self.builder.build({**rows[i], "evidence_chunks": chunks_of(rows[i])}))
            # Citations are other numbers there, and come behind the answer.
            last = max(k for k, segment in enumerate(segments[i]) if segment == "answer")
            beginnings.append(completions[i][: last + 1])
        readings = self._readings(prompts, beginnings, []) if places else []
        return {i: _sum_of(reading.logps, segments[i], "answer") for i, reading in zip(places, readings)}

    def citation_effects(self, rows: list[dict]) -> list[float | None]:
        """How much likelier an answer is behind its cited chunks than behind the others, per token of it.

        log p(answer | cited chunks alone) - log p(answer | all but these): the sum of what is lost without
        the citations and of what is kept with them alone (Chuang et al., 2025: SelfCite). None for what
        cannot be parsed; of a refusal it is that of its text.
        """
        completions, _ = encode_completions(self.tokenizer, rows)
        segments = [token_segments(self.tokenizer, ids) for ids in completions]
        alone = self._answer_logps(rows, completions, segments, _cited_alone)
        others = self._answer_logps(rows, completions, segments, _not_cited)
        effects: list[float | None] = [None] * len(rows)
        for i, logp in alone.items():
            effects[i] = (logp - others[i]) / segments[i].count("answer")
        return effects
