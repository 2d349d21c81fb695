"""Prompts, completions and constrained decoding with every kind of tokenizer and chat template."""

import functools
import itertools
import random

import pytest

from generation.constrained import Schema, SchemaGuide
from generation.drafting import Drafter
from preferences.model_judge import label_token_ids
from prompt_schema import JudgePrompts, PromptBuilder, fill_template, render_evidence
from tests.tokenizer_kinds import ACROSS_WORDS, KINDS
from utils.completions import parse_completion, render_completion
from utils.errors import UsageError
from utils.pieces import anchors, encode_alone
from utils.templates import JUDGE_TEMPLATES, SFT_TEMPLATES, split_template
from utils.text import REFUSAL
from utils.tokens import decode, encode_completion

SPACED = [name for name, (_, puts_space) in KINDS.items() if puts_space]
COMPLETIONS = [
    render_completion("Tolv", [0], 0.9),
    render_completion("Olof Bekker D", [0, 2], 0.7),
    render_completion('a "b" c', [], 1.0),
    render_completion("5%", [1], 0.5),
    render_completion(REFUSAL, [], 0.0),
]
TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# A space between the control token and the message, as Llama-2 and Mistral have it.
BRACKETS = "<s>{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"


@functools.cache
def make(kind):
    maker, _ = KINDS[kind]
    tokenizer = maker()
    tokenizer.add_tokens(["<|user|>", "<|assistant|>", "<|end|>"], special_tokens=True)
    return tokenizer


@pytest.fixture(params=KINDS)
def kind(request):
    yield request.param
    make(request.param).chat_template = None


def test_it_is_known_which_tokenizers_put_a_space_before_every_text(kind):
    assert bool(anchors(make(kind))) == (kind in SPACED)


def test_a_completion_says_its_text_and_is_allowed_token_by_token(kind):
    tokenizer = make(kind)
    schema = Schema(tokenizer)
    for text in COMPLETIONS:
        ids = encode_completion(tokenizer, text)
        assert tokenizer.decode(ids) == text
        guide = SchemaGuide(schema, Drafter(), 4)
        for n, token in enumerate(ids):
            allowed = guide.allowed(ids[:n]).tolist()
            assert token in allowed, f"{tokenizer.decode(ids[:n])!r} then {tokenizer.decode([token])!r}"
            # What is forced is what training has there.
            forced = guide.draft(ids[:n])
            assert forced == ids[n : n + len(forced)]
        assert guide.stop(ids)


@pytest.mark.parametrize("template", [None, TURNS, BRACKETS], ids=["base", "turns", "brackets"])
def test_a_prompt_in_pieces_is_the_prompt_encoded_whole(kind, template, sample):
    tokenizer = make(kind)
    tokenizer.chat_template = template
    if kind in ACROSS_WORDS or (template == BRACKETS and kind not in SPACED):
        pytest.skip("a token spans two pieces")
    text = fill_template(
        SFT_TEMPLATES["default"],
        evidence=render_evidence(sample["evidence_chunks"]),
        question=sample["question"],
    )
    if template:
        turn = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not template:
        whole = [tokenizer.bos_token_id, *whole]
    prompt = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).build(sample)
    # The end of the head and the first word after it are separate pieces where no space is put.
    if kind in SPACED:
        assert prompt.ids == whole
    else:
        assert tokenizer.decode(prompt.ids) == tokenizer.decode(whole)


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in SPACED])
def test_prompts_of_tokenizers_without_a_space_are_those_of_earlier_checkpoints(kind, sample):
    tokenizer = make(kind)
    head, rest = split_template(SFT_TEMPLATES["default"])
    evidence = render_evidence(sample["evidence_chunks"])
    text = fill_template(rest, evidence=evidence, question=sample["question"])
    prompt = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000).build(sample)
    assert prompt.prefix == [tokenizer.bos_token_id, *encode_alone(tokenizer, head)]
    assert prompt.suffix == encode_alone(tokenizer, text)


def test_the_labels_of_a_judge_are_its_next_tokens(kind):
    tokenizer = make(kind)
    prompt = JudgePrompts(tokenizer, JUDGE_TEMPLATES["default"]).build([], "q", "x", "y")
    for label, ids in zip("AB", label_token_ids(tokenizer)):
        said = {tokenizer.decode([*prompt, i])[len(tokenizer.decode(prompt)) :] for i in ids}
        assert label in said and said <= {label, f" {label}"}


# --- chat templates

REFUSING = {
    "{{ raise_exception('a system message must come first') }}": "a system message must come first",
    "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    + TURNS: "one turn only",
    "{{ messages[0].content.nothing.nothing }}": "has no attribute|undefined",
    "{% for m in messages %}": "Unexpected end of template|unexpected",
    "{{ messages[0]['content'] | tojson }}": "does not show every message",
    "{% for m in messages %}{{ m['role'] }}{% endfor %}": "does not show every message",
    TURNS.replace(
        "{{ m['content'] }}", "{{ m['content'] }}{{ m['content'] }}"
    ): "does not show every message",
}


@pytest.mark.parametrize("template", REFUSING)
def test_a_template_that_refuses_is_one_line_with_its_own_words(template):
    tokenizer = make("gemma")
    tokenizer.chat_template = template
    try:
        with pytest.raises(UsageError, match=REFUSING[template]) as caught:
            PromptBuilder(tokenizer, SFT_TEMPLATES["fewshot"], 4000)
        assert "\n" not in str(caught.value)
    finally:
        tokenizer.chat_template = None


def test_a_template_that_wants_parts_gets_parts():
    tokenizer = make("gemma")
    texts = "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
    prompts = []
    for template in (TURNS, TURNS.replace("{{ m['content'] }}", texts)):
        tokenizer.chat_template = template
        prompts.append(PromptBuilder(tokenizer, SFT_TEMPLATES["fewshot"], 4000).prefix)
    tokenizer.chat_template = None
    assert prompts[0] == prompts[1]


def test_a_judge_does_not_think_where_its_template_has_a_switch():
    tokenizer = make("gemma")
    opened = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}"
    tokenizer.chat_template = TURNS + opened
    judge = JudgePrompts(tokenizer, JUDGE_TEMPLATES["default"]).build([], "q", "x", "y")
    answer = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    tokenizer.chat_template = None
    assert tokenizer.decode(judge).endswith("<think>\n\n</think>")
    # Prompts of checkpoints stay as they were trained.
    assert "think" not in tokenizer.decode(answer.prefix + answer._frame.closing)


@pytest.mark.parametrize("kind", KINDS)
def test_any_way_through_the_schema_is_read_as_it_was_judged(kind):
    # Bytes that are no whole character change how an ASCII byte behind them is shown.
    tokenizer = make(kind)
    schema = Schema(tokenizer)
    rng = random.Random(0)
    for _ in range(40):
        guide = SchemaGuide(schema, Drafter(), 4)
        ids = []
        while not guide.stop(ids):
            ids.append(rng.choice(guide.allowed(ids).tolist()))
        parsed = parse_completion(decode(tokenizer, ids), 4, strict=True)
        # Such bytes are shown one by one, which no token tells alone: a long answer may become longer.
        assert parsed.answer is not None and set(parsed.errors) <= {"answer longer than 120 characters"}


def test_a_judge_template_may_have_its_slots_in_any_order(tokenizer):
    slots = {"answer_a": "first reply", "answer_b": "second reply", "question": "who?", "evidence": "text"}
    for names in itertools.permutations(slots):
        template = "Judge:" + "".join(f" {{{name}}} |" for name in names)
        builder = JudgePrompts(tokenizer, template)
        text = tokenizer.decode(builder.build([], "who?", "first reply", "second reply"))
        assert "first reply" in text and "second reply" in text and "{" not in text, text
