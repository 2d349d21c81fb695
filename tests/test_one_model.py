"""One model in memory at a time, in every stage that uses several: two may not fit one GPU."""

import gc
import weakref
from pathlib import Path

import pytest

import evaluate_sft_fast_robust
import make_prefs
import robustness
import train_sft
from generation import answering
from tests.test_cards import trained
from training import adapters
from training.export import Export
from training.parity import Differs
from utils.errors import UsageError
from utils.jsonl import read_jsonl

__all__ = ["trained"]


class Loads:
    """The models that were loaded, by name, and those of them that another load found still in memory."""

    def __init__(self):
        self.names: list[str] = []
        self.kept: list[str] = []
        self.refs: dict[int, tuple[str, weakref.ref]] = {}

    def watch(self, load):
        def watched(name, *args, **kwargs):
            # Without a collection here: the stage itself must have freed what it no longer uses.
            self.kept += [other for other, ref in self.refs.values() if ref() is not None]
            model = load(name, *args, **kwargs)
            self.names.append(Path(name).name)
            weights = next(model.parameters())
            self.refs[len(self.refs)] = (name, weakref.ref(weights))
            return model

        return watched


@pytest.fixture
def loads(monkeypatch, trained):
    monkeypatch.setenv("FACTUALITY_HOME", str(trained))
    found = Loads()
    for module in (answering, adapters):
        monkeypatch.setattr(module, "load_model", found.watch(module.load_model))
    gc.disable()
    yield found
    gc.enable()


TEST = ("--test-data", "data/processed/test.jsonl", "--limit", "6")
# Trained as a whole: it shares no weights with its base, so that two loads are needed.
FULL = "full/checkpoint-best"


def test_an_evaluation_has_the_checkpoint_or_its_base(loads, trained):
    views = ("--compare-baseline", "--baseline-fewshot", "--constrained", "--baseline-closed-book")
    models = ("--model-path", FULL, "--base-model", "tiny", *views, "--max-new-tokens", "8")
    evaluate_sft_fast_robust.main([*models, *TEST, "--output", "one.json"])
    assert loads.names == ["checkpoint-best", "tiny"]
    assert loads.kept == []


def test_preferences_have_the_checkpoint_its_base_or_the_judge(loads, trained):
    models = ("--sft-model", FULL, "--base-model", "tiny", "--judge-model", "tiny", "--max-samples", "6")
    limits = ("--models", "sft,base", "--max-new-tokens", "8", "--min-margin", "0", "--min-label-share", "0")
    # A random model writes nothing that may be chosen.
    made = ("--data-path", "data/processed/val.jsonl", "--prefs-dir", "one", "--hard-rejections")
    make_prefs.main([*models, *limits, *made])
    assert loads.names == ["checkpoint-best", "tiny", "tiny"]
    assert loads.kept == []


def test_a_policy_takes_its_turn_and_answers_as_it_does_alone(loads, trained):
    common = ("--base-model", "tiny", "--max-samples", "6", "--max-new-tokens", "8", "--temperature", "0")
    data = ("--phase", "generate", "--data-path", "data/processed/val.jsonl")
    make_prefs.main(["--sft-model", FULL, "--policy-model", "tiny", *common, *data, "--prefs-dir", "policy"])
    assert loads.names == ["checkpoint-best", "tiny"]
    assert loads.kept == []
    make_prefs.main(["--sft-model", FULL, *common, *data, "--prefs-dir", "alone"])
    texts = {}
    for folder, name in (("policy", "policy"), ("alone", "base")):
        [path] = (trained / folder).glob(f"cache/*/gens_{name}.jsonl")
        texts[name] = [row["completion"] for _, row in read_jsonl(path)]
    # Here the policy is the base itself: the same texts under the other name.
    assert texts["policy"] == texts["base"] and len(texts["base"]) == 6


def test_a_policy_needs_its_place(loads):
    with pytest.raises(UsageError, match="name the policy with --policy-model"):
        make_prefs.main(["--sft-model", FULL, "--base-model", "tiny", "--models", "sft,policy"])


def test_a_robustness_check_loads_the_checkpoint_alone(loads, trained):
    models = ("--model-path", FULL, "--base-model", "tiny", "--max-new-tokens", "8")
    robustness.main([*models, *TEST, "--suite", "order", "--output", "one_robustness.json"])
    assert loads.names == ["checkpoint-best"]


def test_a_merge_has_the_checkpoint_or_what_it_was_merged_into(loads, trained, monkeypatch):
    answers = Export.exported_answers

    def answers_otherwise_once(self, folder, name):
        rows = answers(self, folder, name)
        if not refused:
            refused.append(folder)
            raise Differs("rounding")
        return rows

    refused = []
    monkeypatch.setattr(Export, "exported_answers", answers_otherwise_once)
    train_sft.main(["-c", str(trained / "c.yaml"), "--merge", "one-merged"])
    # The checkpoint answers and is merged; what was written answers; all but the first once more in float32.
    partial = ".one-merged.partial"
    assert loads.names == ["checkpoint-best", "checkpoint-best", partial, "checkpoint-best", partial]
    assert loads.kept == []
