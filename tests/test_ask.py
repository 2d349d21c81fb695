"""ask.py as a process: a tiny random model, whose answers mean nothing, and their form everything."""

import json
import subprocess
import sys

import pytest

from ask import read_arguments
from asking.answering import Asker
from asking.checkpoint import AskSettings
from asking.documents import read_document
from benchmarks.questions import EXPECTED, outcome
from evidence.chunk_sizes import ChunkSizes
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.conftest import ROOT
from utils.completions import render_completion
from utils.errors import DataError, UsageError

MILL = ROOT / "data/ask/tide_mill.md"


def test_every_question_becomes_one_reply(tiny_gemma_dir, tmp_path):
    questions = tmp_path / "questions.txt"
    questions.write_text("Who built the mill?\n\nclaim: It is closed.\n")
    command = [sys.executable, "ask.py", "--model", str(tiny_gemma_dir), "--evidence", str(MILL), "--json"]
    with open(questions) as lines:
        done = subprocess.run(command, cwd=ROOT, stdin=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["question"] for row in rows] == ["Who built the mill?", "claim: It is closed."]
    source = MILL.read_text()
    for row in rows:
        assert row["status"] in ("answered", "refused", "withheld")
        assert row["passages_shown"] <= row["passages"]
        for quote in row["quotes"] + row["nearest"]:
            assert source[quote["start"] : quote["end"]] == quote["text"]
            assert quote["text"].splitlines()[0] in source.splitlines()[quote["line"] - 1]


def test_several_orders_are_asked_and_their_citations_are_of_the_passages(tiny_gemma_dir, monkeypatch):
    settings = AskSettings(ChunkSizes(3, 4), SFT_TEMPLATES["default"], 1500, {}, orders=3)
    asker = Asker(str(tiny_gemma_dir), settings, PromptBuilder)
    seen = []

    def answer(prompts, question):
        seen.extend(prompts)
        # All cite the passage that names the builder, wherever it stands.
        places = [[chunk["text"] for chunk in prompt.chunks].index(texts[1]) for prompt in prompts]
        return [(render_completion("Jonas", [place], 0.9), 0.6) for place in places]

    monkeypatch.setattr(asker, "_complete", answer)
    parts = ("Rye is ground.", "Jonas built the mill.", "It has two wheels.")
    document = read_document("a.txt", "\n\n".join(parts).encode())
    texts = [passage.text for passage in asker.index([document]).passages]
    reply = asker.ask("Who built the mill?", [document])
    assert len(seen) == 3 and len({tuple(prompt.shown) for prompt in seen}) == len(texts) == 3
    assert [quote.text for quote in reply.quotes] == ["Jonas built the mill."]
    assert reply.confidence == pytest.approx(0.6)


def test_stdin_can_be_the_evidence(tiny_gemma_dir):
    flags = ["--model", str(tiny_gemma_dir), "--evidence", "-", "--dry-run"]
    text = "It was built in 1784. It has two wheels."
    done = subprocess.run(
        [sys.executable, "ask.py", *flags], cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stdin: text, 9 words, passages: 1")


@pytest.mark.parametrize(
    "flags, words",
    [
        ("", "--evidence"),
        ("--evidence a.txt", "--model"),
        ("--evidence - --model m", "--question"),
        ("--evidence a.txt --model m --question=", "is empty"),
        ("--evidence a.txt --model m --min-confidence 50", "from 0 to 1"),
        ("--evidence a.txt --model m --passages 0", "from 1 on"),
        ("--evidence a.txt --model m --web --json", "on the page"),
        ("--evidence a.txt --model m --port 8000", "add --web"),
        ("--model m --web --port 80", "1024"),
        ("--evidence a.txt --model m --qestion x", "did you mean --question"),
    ],
)
def test_mistakes_in_the_flags_are_named(flags, words):
    with pytest.raises(UsageError, match=words):
        read_arguments(flags.split())


@pytest.mark.parametrize("flags", ["--model embedded", "--base-model embedded"])
def test_a_base_model_alone_is_told_what_a_checkpoint_is(flags):
    words = r"--model needs a checkpoint of train_sft.py, such as .*checkpoint-best \(make demo trains one\)"
    with pytest.raises(UsageError, match=words):
        read_arguments([*flags.split(), "--evidence", str(MILL)])


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        read_arguments(["--model", str(tmp_path / "none/checkpoint-best"), "--evidence", str(MILL)])


@pytest.mark.parametrize(
    "is_refusal, answer, in_quotes, expected, counted",
    [
        (False, "the 210 metres", True, "210 metres", "right"),
        (False, "210 metres", False, "210 metres", "right, wrong quote"),
        (False, "1825", True, "210 metres", "wrong"),
        (False, "1825", True, "-", "wrong"),
        (False, "refuted", None, "refuted", "right"),
        (True, None, None, "-", "right refusal"),
        (True, None, None, "1825", "wrong refusal"),
    ],
)
def test_the_twenty_questions_are_counted_strictly(is_refusal, answer, in_quotes, expected, counted):
    reply = {"is_refusal": is_refusal, "answer": answer, "words_in_quotes": in_quotes}
    assert outcome(reply, expected) == counted


def test_every_expected_answer_is_in_the_text():
    expected = EXPECTED.read_text().splitlines()
    assert len(expected) == len((EXPECTED.parent / "questions.txt").read_text().splitlines()) == 20
    text = " ".join(MILL.read_text().split())
    assert all(line in text for line in expected if line not in ("-", "supported", "refuted"))
