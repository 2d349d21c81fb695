"""Constrained decoding, drafts and the stop test: which tokens may come next, where a completion ends."""

import random

import pytest

from generation.constrained import Schema, SchemaGuide
from generation.drafting import Drafter, json_object_end
from utils.completions import parse_completion, render_completion
from utils.text import REFUSAL
from utils.tokens import encode_completion


# One for all tests: reading the texts of a whole vocabulary takes most of the time here.
@pytest.fixture(scope="module")
def schema(tokenizer):
    return Schema(tokenizer)


def first_refused(schema, text, n_chunks):
    """The text up to the first token that the guide refuses; None if it allows all and stops at the last."""
    ids = encode_completion(schema.tokenizer, text)
    guide = SchemaGuide(schema, Drafter(), n_chunks)
    for n, token in enumerate(ids):
        if token not in guide.allowed(ids[:n]).tolist():
            return schema.tokenizer.decode(ids[: n + 1])
    assert guide.stop(ids)
    return None


@pytest.mark.parametrize(
    "answer, citations, confidence",
    [
        ("Warsaw", [0], 0.9),
        ("Acme Inc.", [0, 2, 11], 0.75),
        (REFUSAL, [], 0.0),
        ('a "b" c', [], 1.0),
        ("Łódź – 5%", [10], 0.0),
    ],
)
def test_every_completion_of_training_is_allowed_token_by_token(answer, citations, confidence, schema):
    assert first_refused(schema, render_completion(answer, citations, confidence), 12) is None


@pytest.mark.parametrize(
    "text",
    [
        # A citation of a chunk that was not shown, citations out of order, a repeated one.
        render_completion("Warsaw", [12], 0.9),
        render_completion("Warsaw", [2, 1], 0.9),
        render_completion("Warsaw", [1, 1], 0.9),
        render_completion("Warsaw", [1], 1.5),
        render_completion(REFUSAL, [1], 0.0),
        render_completion(REFUSAL, [], 0.9),
        render_completion("x" * 121, [1], 0.9),
        render_completion("", [1], 0.9),
        '{"answer": 7}',
        # Control characters, alone and behind a refusal.
        '{"answer": "\\n", "citations": [0], "confidence": 0.5}',
        f'{{"answer": "{REFUSAL}\\n", "citations": [0], "confidence": 0.5}}',
    ],
)
def test_what_the_schema_forbids_is_refused(text, schema):
    assert first_refused(schema, text, 12) is not None


def test_any_way_through_the_schema_ends_valid(schema):
    # Random tokens reach corners of the schema that no model would: escapes, the longest answers, odd
    # numbers.
    rng = random.Random(0)
    for _ in range(100):
        guide = SchemaGuide(schema, Drafter(), 4)
        ids = []
        while not guide.stop(ids):
            ids.append(rng.choice(guide.allowed(ids).tolist()))
        text = schema.tokenizer.decode(ids)
        assert parse_completion(text, 4, strict=True).is_valid, text


def test_the_skeleton_is_forced_in_the_tokens_of_training(schema, tokenizer):
    # A model has learned the skeleton in these tokens; other tokens of the same text would be unlikely to it.
    ids = encode_completion(tokenizer, render_completion(REFUSAL, [], 0.0))
    guide = SchemaGuide(schema, Drafter(), 4)
    opening = guide.draft([])
    assert opening == ids[: len(opening)] and tokenizer.decode(opening) == '{"answer": "'
    n_free = len(encode_completion(tokenizer, '{"answer": "' + REFUSAL + '"'))
    forced = guide.draft(ids[:n_free])
    assert tokenizer.decode(ids[:n_free] + forced) == render_completion(REFUSAL, [], 0.0)


def test_a_drafter_proposes_what_it_saw_and_stops_where_it_is_unsure():
    drafter = Drafter()
    for last in (7, 8, 9):
        for _ in range(5):
            drafter.learn([1, 2, 3, 4, last])
    # Each of the three ends is that of a third of the completions: 5 of 16 guesses would be right, still over
    # a fifth.
    assert drafter.draft([]) == [1, 2, 3, 4, 7]
    assert Drafter().draft([]) == [] and drafter.draft([99]) == []


def test_generation_stops_at_the_end_of_the_object(tokenizer):
    stop = json_object_end(tokenizer)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert stop(ids('{"answer": "a } b", "citations": [0]}'))
    assert not stop(ids('{"answer": "a }'))
    assert not stop(ids('{"answer": "quoted \\" }'))
    assert not stop(ids("prose } without an object"))
    assert not stop(ids('{"a": {"b": 1}'))
    # No JSON, and nothing better is to come.
    assert stop(ids("{answer: 'a', citations: [0]}"))


ANSWER = '{"answer": "Paris", "citations": [0], "confidence": 0.9}'
DRAFT = '{"answer": "Rome", "citations": [1], "confidence": 0.9}'


@pytest.mark.parametrize(
    "before",
    [
        f"<think>\nMaybe {DRAFT}? No, Paris.\n</think>\n",
        "The set {Paris} is named in [0].\n",
        "Format: {answer, citations, confidence}\n",
        '{"thought": "Paris is named"}\n',
        "A brace { of prose.\n",
    ],
)
def test_generation_goes_on_to_the_object_that_the_parser_takes(before, tokenizer):
    ids = tokenizer(before + ANSWER, add_special_tokens=False)["input_ids"]
    stop = json_object_end(tokenizer)
    n_read = next(n for n in range(1, len(ids) + 1) if stop(ids[:n]))
    assert parse_completion(tokenizer.decode(ids[:n_read]), 2).answer == "Paris"


def test_a_draft_that_the_prompt_has_opened_does_not_end_the_completion(tokenizer):
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    stop = json_object_end(tokenizer, encode("Question: where?\nassistant\n<think>\n"))
    assert not stop(encode(f"Maybe {DRAFT}"))
    assert stop(encode(f"Maybe {DRAFT}? No. </think> {ANSWER}"))
    assert json_object_end(tokenizer, encode("Question: what is <think> for?\n"))(encode(DRAFT))
