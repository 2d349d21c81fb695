"""benchmarks/habits.py: habits of completions by hand, and the table of two predictions files."""

from benchmarks import habits
from benchmarks.habits import HABITS, habit_row
from utils.completions import parse_completion, render_completion
from utils.jsonl import write_jsonl
from utils.text import REFUSAL


def of(sample: dict, answer: str, citations: list[int]) -> dict[str, float]:
    """The habits of an answer that it has."""
    parsed = parse_completion(render_completion(answer, citations, 0.9), len(sample["evidence_chunks"]))
    found = {name: habit(parsed, sample) for name, habit in HABITS.items()}
    return {name: value for name, value in found.items() if value}


def test_habits_of_completions(sample, unanswerable):
    plain = {
        "answers": 1,
        "characters of an answer": 6,
        "stated confidence": 0.9,
        "citations of an answer": 1,
    }
    assert of(sample, "Warsaw", [0]) == plain
    assert of(sample, REFUSAL, []) == {"refuses an answerable": 1}
    assert of(unanswerable, REFUSAL, []) == {"refuses an unanswerable": 1}
    assert "cites every chunk" in of(sample, "Warsaw", [0, 1, 2, 3])
    assert "cites nothing" in of(sample, "Warsaw", [])
    assert "cites what is not there" in of(sample, "Warsaw", [7])
    assert "copies a chunk" in of(sample, sample["evidence_chunks"][0]["text"], [0])
    assert "answer is part of the question" in of(sample, "Marie Curie", [0])


def test_a_difference_is_over_samples_where_both_answer(sample):
    samples = [{**sample, "id": f"q{i}", "group": f"g{i}"} for i in range(30)]
    parsed = {
        name: parse_completion(render_completion(name, [0], 0.9), 4)
        for name in ("Ada", "Ada Lovelace", REFUSAL)
    }
    before = {row["id"]: (parsed["Ada"], row) for row in samples}
    after = {}
    for i, row in enumerate(samples):
        after[row["id"]] = (parsed["Ada Lovelace" if i < 20 else REFUSAL], row)
    first, second, difference, interval = habit_row(habits.characters, samples, before, after, 1)
    assert (first, second, difference) == (3, 12, 9) and interval == [9, 9]
    assert habit_row(habits.answered, samples, before, after, 1)[2] == -1 / 3


def test_citations_are_counted_among_the_chunks_of_the_prompt(sample, tmp_path):
    rows = []
    for name, citations in (("all", [0, 1]), ("another", [2])):
        text = render_completion("Warsaw", citations, 0.5)
        rows.append({"id": name, "model": "sft", "shown": [0, 2], "completion": text})
    write_jsonl(tmp_path / "cut.jsonl", rows)
    by_id = {row["id"]: {**sample, "id": row["id"]} for row in rows}
    found = habits.parsed_rows(str(tmp_path / "cut.jsonl"), "sft", by_id)
    assert habits.cites_everything(*found["all"]) == 1 and habits.cites_what_is_not_there(*found["all"]) == 0
    assert habits.cites_what_is_not_there(*found["another"]) == 1


def test_the_table_names_every_habit(sample, tmp_path, capsys):
    write_jsonl(tmp_path / "test.jsonl", [sample])
    row = {"id": sample["id"], "model": "sft", "shown": [0, 1, 2, 3]}
    for name, answer in (("before", "Warsaw"), ("after", REFUSAL)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{**row, "completion": render_completion(answer, [], 0.5)}])
    flags = [f"--{name}={tmp_path / name}.jsonl" for name in ("before", "after")]
    habits.main([f"--test-data={tmp_path / 'test.jsonl'}", *flags])
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in HABITS)
    assert "| answers | 1.000 | 0.000 | -1.000 |" in table
