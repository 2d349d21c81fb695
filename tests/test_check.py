"""`build_data.py --check FILE` lists every fault of a sample file with line, rule and value, and exits 3."""

import json

import pytest

import build_data
from evidence.check import file_faults
from utils.errors import DataError


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def good_rows(sample, unanswerable):
    """Two valid rows, so that a fault in a third one is on line 3."""
    return [sample, unanswerable]


def changed(sample, **change):
    return {**sample, "id": "popqa:9", **change}


def without(sample, field):
    return {name: value for name, value in changed(sample).items() if name != field}


# Each case: a change of a valid row, and the words that the fault must have: the rule and the value found.
BROKEN = [
    # An id out of range once ended in a traceback: the search for leaks ran first and looked the chunk up.
    ({"support_spans": [0, 7]}, ["support_spans", "7", "0-3"]),
    ({"support_sets": [[0], [9]]}, ["support_sets", "9", "0-3"]),
    ({"hard_negatives": [1, -1]}, ["hard_negatives", "-1", "0-3"]),
    # JSON's true is Python's 1, and 1.0 is no chunk id.
    ({"support_spans": [True]}, ["support_spans", "True"]),
    ({"support_spans": [0, 2.0]}, ["support_spans", "2.0"]),
    ({"support_spans": [2, 0]}, ["support_spans", "[2, 0]"]),
    ({"support_spans": [0]}, ["support_spans [0]", "union", "[[0], [2]]"]),
    ({"hard_negatives": [1]}, ["hard_negatives [1]"]),
    ({"support_sets": [[]]}, ["support_sets", "[]"]),
    ({"support_sets": [0, 2]}, ["support_sets", "0"]),
    ({"support_spans": None}, ["support_spans", "list", "None"]),
    ({"answerable": "yes"}, ["answerable", "bool", "'yes'"]),
    ({"answerable": False}, ["unanswerable", "[INSUFFICIENT_EVIDENCE]"]),
    ({"evidence_chunks": []}, ["evidence_chunks", "empty"]),
    ({"evidence_chunks": ["text"]}, ["evidence_chunks[0]", "'text'"]),
    ({"evidence_chunks": [{"title": 3, "text": "x"}]}, ["evidence_chunks[0]", "3"]),
    ({"answer": "Berlin"}, ["answer_aliases", "'Berlin'"]),
    ({"answer_aliases": ["Warsaw", 5]}, ["answer_aliases", "5"]),
    ({"question": "  "}, ["question", "empty"]),
    ({"id": 9}, ["id", "str", "9"]),
    ({"id": "fever:9"}, ["'fever:9'", "'popqa'"]),
    ({"metadata": []}, ["metadata", "dict", "[]"]),
    # Read by the search for leaked answers and by the perturbations, which would end in a traceback.
    ({"metadata": {"claim": 7}}, ["metadata.claim", "7"]),
    ({"metadata": {"twin_of": [7]}}, ["metadata.twin_of", "[7]"]),
    ({"metadata": {"gold_aliases": "Warsaw"}}, ["metadata.gold_aliases", "'Warsaw'"]),
    ({"metadata": {"gold_aliases": [1903]}}, ["metadata.gold_aliases", "1903"]),
]


@pytest.mark.parametrize(("change", "words"), BROKEN, ids=lambda case: json.dumps(case)[:60])
def test_a_broken_rule_is_named_with_file_line_and_value(change, words, good_rows, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [*good_rows, changed(good_rows[0], **change)])
    with pytest.raises(DataError) as caught:
        build_data.main(["--check", str(path)])
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert f"{path}:3: " in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("field", ["id", "source", "question", "answer", "group", "metadata", "support_sets"])
def test_a_missing_field_is_named(field, good_rows, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [*good_rows, without(good_rows[0], field)])
    assert file_faults(path) == (3, [f"{path}:3: field '{field}' is missing"])


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("[1, 2]", "found list"),
        ("7", "found int"),
        ("null", "found NoneType"),
        ('{"id": ', "not a JSON object"),
        ('{"id": NaN}', "NaN is not JSON"),
        ('{"id": "a", "id": "b"}', "duplicate key 'id'"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_a_line_that_is_no_object_is_a_fault_like_the_others(line, rule, good_rows, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", good_rows)
    path.write_text(path.read_text() + line + "\n")
    n_rows, (fault,) = file_faults(path)
    assert n_rows == 3
    assert fault.startswith(f"{path}:3: ")
    assert rule in fault


def test_bytes_that_are_no_text_are_named_by_line(good_rows, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", good_rows)
    # Latin-1, as a spreadsheet may save it.
    path.write_bytes(path.read_bytes() + b'{"id": "caf\xe9"}\n')
    n_rows, (fault,) = file_faults(path)
    assert n_rows == 3
    assert fault.startswith(f"{path}:3: not UTF-8")


def test_a_repeated_id_names_both_lines(sample, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [sample, changed(sample), sample])
    assert file_faults(path) == (3, [f"{path}:3: duplicate id 'popqa:1', first seen on line 1"])


def test_a_leaked_answer_is_named_by_line_and_after_the_faults_of_the_format(sample, unanswerable, tmp_path):
    # A negative of line 1 contains the answer, line 2 is malformed, line 3 has the removed answer in a chunk.
    leaking = json.loads(json.dumps(sample))
    leaking["evidence_chunks"][1]["text"] += " He never saw Warszawa."
    twin = json.loads(json.dumps(unanswerable))
    twin["evidence_chunks"][0]["text"] = "Warsaw is a city."
    path = write_rows(tmp_path / "x.jsonl", [leaking, changed(sample, support_spans=[5]), twin])
    n_rows, faults = file_faults(path)
    assert n_rows == 3
    assert [int(fault.removeprefix(f"{path}:").split(":")[0]) for fault in faults] == [2, 1, 3]
    assert "chunk 1 is a negative but contains an accepted answer" in faults[1]
    assert "chunk 0 is a negative but contains an accepted answer" in faults[2]


def test_all_faults_are_listed_and_those_that_are_not_shown_are_counted(sample, tmp_path, capsys):
    rows = [changed(sample, id=f"popqa:{i}", answer="Berlin") for i in range(25)]
    path = write_rows(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=r"25 fault\(s\) in 25 row\(s\); the first: .*x.jsonl:1: "):
        build_data.main(["--check", str(path)])
    shown = capsys.readouterr().out.splitlines()
    # Twenty faults and a line that counts the rest: nothing is cut silently.
    assert len(shown) == 21
    assert shown[19].startswith(f"{path}:20: ")
    assert shown[20] == "... and 5 more"


def test_an_empty_file_has_no_samples(tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [])
    with pytest.raises(DataError, match="x.jsonl: the file contains no samples"):
        build_data.main(["--check", str(path)])


def test_a_valid_file_says_so(good_rows, tmp_path, capsys):
    build_data.main(["--check", str(write_rows(tmp_path / "x.jsonl", good_rows))])
    assert capsys.readouterr().out == f"{tmp_path}/x.jsonl: all 2 samples are valid\n"


def test_the_process_prints_faults_to_stdout_and_one_line_to_stderr(stage, sample, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [changed(sample, support_spans=[7])])
    done = stage("build_data.py", "--check", str(path), home=tmp_path)
    assert done.returncode == 3
    assert done.stdout.startswith(f"{path}:1: support_spans")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


# --- faults that the texts show


def texts_of(sample, **chunk):
    """A copy of the sample whose last chunk, a negative, has other fields."""
    chunks = [*sample["evidence_chunks"][:-1], {**sample["evidence_chunks"][-1], **chunk}]
    return {**sample, "evidence_chunks": chunks}


def test_a_chunk_that_is_shown_twice_is_named(sample, tmp_path):
    first = sample["evidence_chunks"][0]
    twice = texts_of(sample, **sample["evidence_chunks"][1])
    path = write_rows(tmp_path / "x.jsonl", [twice, texts_of(changed(sample), title=first["title"])])
    # One title with other text is another passage.
    fault = f"{path}:1: chunk 3 repeats title and text of chunk 1, '{sample['evidence_chunks'][1]['title']}'"
    assert file_faults(path) == (2, [fault])


def test_a_chunk_that_differs_in_spaces_alone_is_shown_twice(sample, tmp_path):
    first = sample["evidence_chunks"][1]
    chunks = [*sample["evidence_chunks"], {**first, "text": f"  {first['text']} "}]
    row = {**sample, "evidence_chunks": chunks, "hard_negatives": [*sample["hard_negatives"], 4]}
    _, faults = file_faults(write_rows(tmp_path / "x.jsonl", [row]))
    assert ["repeats title and text of chunk 1" in fault for fault in faults] == [True]


def test_a_sample_that_accepts_both_verdicts_is_named(sample, tmp_path):
    row = {**sample, "answer": "yes", "answer_aliases": ["yes", "no"]}
    _, faults = file_faults(write_rows(tmp_path / "x.jsonl", [row]))
    assert ["both verdicts" in fault for fault in faults] == [True]


def test_a_support_set_without_the_answer_is_named(sample, tmp_path):
    row = changed(sample, answer="Gdansk", answer_aliases=["Gdansk", "Danzig"])
    path = write_rows(tmp_path / "x.jsonl", [sample, row])
    fault = f"{path}:2: support set [0] contains no accepted answer, such as ['Gdansk', 'Danzig']"
    assert file_faults(path) == (2, [fault])
    # A verdict is no word of the evidence.
    verdict = changed(sample, answer="yes", answer_aliases=["yes"])
    assert file_faults(write_rows(tmp_path / "y.jsonl", [verdict])) == (1, [])


def test_an_answer_too_long_for_a_completion_is_named(sample, tmp_path):
    answer = "Warsaw " * 30
    path = write_rows(
        tmp_path / "x.jsonl", [changed(sample, answer=answer, answer_aliases=[answer, "Warsaw"])]
    )
    n_rows, (fault,) = file_faults(path)
    assert n_rows == 1
    assert fault.startswith(f"{path}:1: answer of 210 characters, over 120, found 'Warsaw Warsaw")


def test_half_a_character_is_named_by_line(sample, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", [sample, changed(sample, question="Where? \ud83d")])
    n_rows, (fault,) = file_faults(path)
    assert n_rows == 2
    assert fault.startswith(f"{path}:2: not a JSON object (lone surrogate '\\ud83d', half a character")


VALUES = [
    None,
    True,
    -1,
    7,
    1.5,
    "",
    "x",
    [],
    [None],
    [[]],
    [[None]],
    [[0, "x"]],
    [{}],
    [[{}]],
    {},
    {"a": [1]},
]


@pytest.mark.parametrize("place", ["field", "chunk", "metadata"])
def test_no_value_in_any_place_ends_in_a_traceback(place, sample, tmp_path):
    rows = []
    for value in VALUES:
        if place == "field":
            rows += [changed(sample, **{field: value}) for field in sample if field != "id"]
            rows.append({**sample, "id": value})
        elif place == "chunk":
            rows += [
                texts_of(changed(sample), **{field: value}) for field in ("title", "text", "url", "score")
            ]
        else:
            names = ("claim", "gold_aliases", "twin_of", "type", "official_split")
            rows += [changed(sample, metadata={name: value}) for name in names]
    n_rows, faults = file_faults(write_rows(tmp_path / "x.jsonl", rows))
    assert n_rows == len(rows)
    assert all(fault.startswith(f"{tmp_path}/x.jsonl:") for fault in faults)
