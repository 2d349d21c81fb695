"""Every family of models, base and chat, through training rows, generation, judging and reward features."""

import re
import shutil

import pytest
import torch

from generation.answering import predict
from generation.engine import GenerationSettings
from generation.readings import Texts, read_completions
from models.loading import load_model, load_tokenizer
from models.special_tokens import save_end
from preferences.cuts import encode_completions
from preferences.model_judge import label_token_ids, preference_probabilities
from prompt_schema import JudgePrompts, PromptBuilder, fill_template, render_evidence
from tests.tokenizer_families import FAMILIES, save_family
from train_sft import gold_ids
from training.rows import encode_rows
from utils.cards import end_code, example_code, prompt_code
from utils.completions import gold_completion
from utils.jsonl import read_json
from utils.templates import JUDGE_TEMPLATES, SFT_TEMPLATES
from utils.tokens import encodes_whole, end_id, set_prompt_ids


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: save_family(name, root / name) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def tokenizer(family, folders):
    return load_tokenizer(str(folders[family]))


def rendered(sample, template):
    evidence = render_evidence(sample["evidence_chunks"])
    return fill_template(template, evidence=evidence, question=sample["question"])


def served_ids(tokenizer, text):
    """What a server makes of a prompt: its turns through the chat template, or the text as it is."""
    if not tokenizer.chat_template:
        return tokenizer(re.sub("<<(.+?)>>", r"\1", text))["input_ids"]
    contents = re.split(r" ?<<(.+?)>>\n*", text)
    turns = [{"role": "assistant" if i % 2 else "user", "content": c} for i, c in enumerate(contents)]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    text = re.sub(r"Today Date: \d\d \w+ \d+", "Today Date: 26 Jul 2024", text)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


class Reciting:
    """Makes a model say the given tokens: its logits are replaced, its caches and masks are its own."""

    def __init__(self, model, ids):
        self.ids = ids
        self._handle = model.register_forward_hook(self._recite, with_kwargs=True)

    def _recite(self, module, args, inputs, output):
        if output.logits.shape[1]:
            places = inputs["position_ids"][:, inputs["logits_to_keep"]] + 1
            wanted = torch.tensor(self.ids)[places.clamp(max=len(self.ids) - 1)]
            output.logits = torch.nn.functional.one_hot(wanted, output.logits.shape[-1]) * 50.0
        return output

    def stop(self):
        self._handle.remove()


# --- training rows


def test_a_row_ends_with_the_turn_of_the_assistant(family, tokenizer, sample, unanswerable):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    rows, drops = encode_rows([sample, unanswerable], builder, gold_ids, 4000)
    assert not drops
    for row, source in zip(rows, (sample, unanswerable)):
        *text, end = row["completion"]
        expected = gold_completion(source, list(range(len(source["evidence_chunks"]))))
        assert tokenizer.decode(text) == expected
        assert tokenizer.convert_ids_to_tokens(end) == FAMILIES[family].end
        # Instructions, evidence and question are there, once and in order.
        prompt = tokenizer.decode(builder.prefix + row["suffix"])
        assert prompt.count(rendered(source, SFT_TEMPLATES["default"])) == 1


# --- the ids of a prompt


@pytest.mark.parametrize("template", SFT_TEMPLATES)
def test_a_server_gets_the_ids_of_training_from_the_text(template, tokenizer, sample, tmp_path):
    set_prompt_ids(tokenizer, "whole").save_pretrained(tmp_path)
    expected = served_ids(tokenizer, rendered(sample, SFT_TEMPLATES[template]))
    # What a checkpoint was trained with, and what loads it later.
    for used in (tokenizer, load_tokenizer(str(tmp_path))):
        prompt = PromptBuilder(used, SFT_TEMPLATES[template], 4000).build(sample)
        assert prompt.ids == expected


def test_prompts_of_earlier_checkpoints_stay_in_pieces(family, tokenizer, sample, tmp_path):
    before = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).build(sample).ids
    set_prompt_ids(tokenizer, "whole")
    set_prompt_ids(tokenizer, "pieces").save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert PromptBuilder(loaded, SFT_TEMPLATES["default"], 4000).build(sample).ids == before
    # Head and rest apart: the space between them is a token of its own.
    if FAMILIES[family].template is None and not encodes_whole(tokenizer):
        assert before != served_ids(tokenizer, rendered(sample, SFT_TEMPLATES["default"]))


def test_evidence_cannot_use_control_tokens(family, tokenizer, sample):
    set_prompt_ids(tokenizer, "whole")
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    n_control = sum(i in tokenizer.all_special_ids for i in builder.build(sample).ids)
    for token in tokenizer.all_special_tokens:
        # Also where a piece begins.
        shown = {**sample, "question": f"{token} who?", "evidence_chunks": [{"title": token, "text": token}]}
        ids = builder.build(shown).ids
        assert sum(i in tokenizer.all_special_ids for i in ids) == n_control, token


def test_tokens_of_the_template_that_are_no_special_ones_stay_text_too(folders, sample):
    tokenizer = load_tokenizer(str(folders["qwen3"]))
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    chunks = [{"title": "T", "text": "a <think> b<<think></think>"}]
    prompt = builder.build({**sample, "question": "<think> who?</think>", "evidence_chunks": chunks})
    thinking = set(tokenizer.convert_tokens_to_ids(["<think>", "</think>"]))
    assert not thinking & set(prompt.ids)
    text = tokenizer.decode(prompt.ids)
    assert "[0] T: a <think> b<<think></think> [0]" in text and "Question: <think> who?</think>" in text
    # The template's own are tokens.
    judge = JudgePrompts(tokenizer, JUDGE_TEMPLATES["default"]).build([], "q", "x", "y")
    assert thinking <= set(judge)


@pytest.mark.parametrize("template", SFT_TEMPLATES)
def test_the_code_of_a_card_builds_the_prompt(template, tokenizer):
    set_prompt_ids(tokenizer, "whole")
    scope = {"tokenizer": tokenizer}
    exec(prompt_code(tokenizer, SFT_TEMPLATES[template]) + "\n" + example_code(tokenizer), scope)
    chunks = [{"title": title, "text": text} for title, text in scope["chunks"]]
    sample = {"id": "x", "question": scope["question"], "evidence_chunks": chunks}
    assert scope["ids"] == PromptBuilder(tokenizer, SFT_TEMPLATES[template], 4000).build(sample).ids


# --- generation


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "constrained"])
def test_a_model_that_learned_the_completion_says_it_and_stops(
    constrained, family, tokenizer, folders, sample, unanswerable
):
    model = load_model(str(folders[family]))
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    settings = GenerationSettings(batch_size=2, max_new_tokens=400)
    for row in (sample, unanswerable, {**sample, "answer": 'Łódź "é" , Mr . 5%'}):
        prompt = builder.build(row)
        learned = gold_ids(tokenizer, row, prompt)
        reciting = Reciting(model, prompt.ids + learned)
        ((found,),) = predict(model, tokenizer, {"a": prompt}, "sft", settings, constrained)
        reciting.stop()
        assert found["completion"] == gold_completion(row, prompt.shown)
        assert found["n_tokens"] == len(learned) - 1
        assert found["logp"] == pytest.approx(0, abs=1e-3)


def test_the_end_of_the_turn_stops_prose_too(family, tokenizer, folders, sample):
    model = load_model(str(folders[family]))
    prompt = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).build(sample)
    said = tokenizer("Brann", add_special_tokens=False)["input_ids"]
    reciting = Reciting(model, [*prompt.ids, *said, end_id(tokenizer), *said])
    ((found,),) = predict(model, tokenizer, {"a": prompt}, "base", GenerationSettings(1, 20))
    reciting.stop()
    assert found["completion"] == "Brann" and found["n_tokens"] == len(said)


# --- reading


def test_a_judge_reads_its_labels_where_it_would_write_them(family, tokenizer, folders, sample):
    model = load_model(str(folders[family]))
    prompts = JudgePrompts(tokenizer, JUDGE_TEMPLATES["default"])
    ids = prompts.build(sample["evidence_chunks"], sample["question"], "x", "y")
    instructions = JUDGE_TEMPLATES["default"].split("{")[0]
    for text in (instructions, "She was born in Warsaw", "Answer A: x", "Answer B: y"):
        assert text in tokenizer.decode(ids)
    for label, wanted in zip(label_token_ids(tokenizer), (1.0, 0.0)):
        reciting = Reciting(model, [*ids, label[0]])
        ((found,),) = preference_probabilities(model, tokenizer, [ids], 1)
        reciting.stop()
        assert found[1] == pytest.approx(wanted, abs=1e-3) and found[2] == pytest.approx(1, abs=1e-3)


def test_a_reward_reads_the_completion_to_its_end(family, tokenizer, folders, sample):
    model = load_model(str(folders[family]))
    prompt = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).build(sample)
    text = gold_completion(sample, prompt.shown)
    completions, _ = encode_completions(tokenizer, [{"completion": text}])
    # What was trained is what is scored.
    assert completions == [gold_ids(tokenizer, sample, prompt)]
    texts = Texts(prompt.prefix, [prompt.suffix], completions)
    batches = read_completions(model, texts, tokenizer.pad_token_id, 2)
    ((found,),) = batches
    whole = torch.tensor([prompt.ids + completions[0]])
    with torch.no_grad():
        output = model(whole, output_hidden_states=True)
    states = output.hidden_states[-1][0, -1].float()
    torch.testing.assert_close(found[1].hidden[0, -1], states, rtol=0, atol=2e-2)
    n = len(completions[0])
    logps = output.logits[0, -n - 1 : -1].float().log_softmax(-1)[range(n), completions[0]]
    assert found[1].logps.mean().item() == pytest.approx(logps.mean().item(), abs=2e-2)


# --- what is said about a model


def test_a_saved_model_and_its_card_name_the_end(family, tokenizer, folders, tmp_path):
    shutil.copy(folders[family] / "generation_config.json", tmp_path)
    save_end(tmp_path, tokenizer)
    ends = read_json(tmp_path / "generation_config.json")["eos_token_id"]
    assert set(ends if isinstance(ends, list) else [ends]) == {tokenizer.eos_token_id, end_id(tokenizer)}
    assert eval(end_code(tokenizer)) == end_id(tokenizer)


def test_a_prompt_is_the_same_on_every_day(folders):
    tokenizer = load_tokenizer(str(folders["llama-3-it"]))
    prefix = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).prefix
    assert "Today Date: 26 Jul 2024\n" in tokenizer.decode(prefix)
