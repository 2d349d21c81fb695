"""Files damaged at random, in every reader: rows, or one line that names the file. Never another error.

Each damage is to the bytes, to a value of a row, or to both; tests/test_malformed.py has the same by hand.
"""

import copy
import gzip
import json
import random

import pytest

from evaluation.predictions import read_predictions
from preferences.exchange import read_pairs
from preferences.forms import FORMS
from preferences.rows import preference_stats
from sources import READERS, contexts, own, wiki_pages
from tests.faults.form import count
from tests.test_malformed import CLAIM, DPR, HOT, NQ, PAGE, SAMPLE
from utils.errors import DataError, UsageError
from utils.jsonl import dump_row, raise_bad, read_json_object, write_jsonl
from utils.schema import read_completion_rows, read_preferences, read_questions, read_samples
from utils.strict_json import parse_json
from utils.yaml_files import parse_yaml

pytestmark = [pytest.mark.slow] if count(0, 1) else []
CLAPNQ = {
    "id": "c1",
    "input": "Who built the tower?",
    "passages": [{"title": "Tower", "text": "Falk built it.", "sentences": ["Falk built it.", "It is red."]}],
    "output": [{"answer": "Falk built it", "selected_sentences": ["Falk built it."]}],
}
SYMMETRIC = {"id": 1, "label": "SUPPORTS", "claim": "Falk built it.", "evidence": "Falk built the tower."}
FOOL = {"id": "f", "label": "REFUTES", "text": "Falk built it.", "wikipedia_page": "Tower"}
FOOL |= {"gold_evidence": [{"text": "Ek built it."}], "retrieved_evidence": [{"text": "It is red."}]}
BUILT = {
    **{"id": "own:1", "source": "own", "question": "Who built it?", "group": "g", "answer": "Falk"},
    **{"answer_aliases": ["Falk"], "answerable": True, "support_sets": [[0]], "support_spans": [0]},
    **{"hard_negatives": [1], "metadata": {"type": "person", "popularity": 3, "difficulty": "easy"}},
    "evidence_chunks": [{"title": "The Tower", "text": "Falk built it."}, {"title": "", "text": "Red."}],
}
ASKED = {name: BUILT[name] for name in ("id", "source", "question", "group", "metadata", "evidence_chunks")}
PAIR = {
    **{"id": "a:1", "sample_id": "a:1", "source": "a", "licence": "x", "group": "g", "question": "q?"},
    **{"answerable": True, "evidence_chunks": [{"title": "T", "text": "x"}], "kind": "over refusal"},
    **{"prompt": [{"role": "user", "content": "p"}], "chosen": [{"role": "assistant", "content": "{}"}]},
    **{"rejected": [{"role": "assistant", "content": "x"}], "margin": 0.5, "score_chosen": 1.0},
    **{"score_rejected": 0.5, "chosen_model": "sft", "rejected_model": "base", "decided_by": "checks"},
    "judge": {},
}
CHAT = [{"role": "user", "content": "p"}]
OF_OTHERS = {"prompt": "p", "prompt_id": "1", "score_chosen": 8.0, "score_rejected": 3.0}
OF_OTHERS |= {"chosen": [*CHAT, {"role": "assistant", "content": "a"}]}
OF_OTHERS |= {"rejected": [*CHAT, {"role": "assistant", "content": "b"}]}
BENCH = {"id": 3, "subset": "x", "prompt": "p", "chosen": "a", "rejected": "b"}
PREDICTION = {"id": "own:1", "model": "m", "completion": "{}", "shown": [0], "probability": 0.4}
TO_SCORE = {"id": "x", "question": "q", "evidence_chunks": [{"title": "t", "text": "x"}], "completion": "{}"}


def of_source(name):
    return lambda path: list(READERS[name](path, "any", raise_bad))


def own_rows(path):
    return list(own.read_records(path, "any", raise_bad, source="mine"))


def exported(path):
    """Preferences, and what the other stages make of them."""
    rows = read_preferences(path)
    for row in rows:
        assert [dump_row(form(row)) for form in FORMS.values()]
    # Statistics are of pairs that make_prefs.py made just now; in a file, the kind may be missing.
    return preference_stats([{"kind": "other answer", **row} for row in rows], [], len(rows), {})


def imported(path):
    rows, _ = read_pairs(path, skip_bad=False)
    return preference_stats(rows, [], len(rows), {})


# name -> (reader, a good row)
READ = {
    "fever": (of_source("fever"), CLAIM),
    "hotpotqa": (of_source("hotpotqa"), HOT),
    "nq_open": (of_source("nq_open"), NQ),
    "clapnq": (of_source("clapnq"), CLAPNQ),
    "fever_symmetric": (of_source("fever_symmetric"), SYMMETRIC),
    "fool_me_twice": (of_source("fool_me_twice"), FOOL),
    "own, DPR": (own_rows, DPR),
    "own, samples": (own_rows, SAMPLE),
    "pages": (lambda path: wiki_pages.read_pages(path, set(), set(), 10, raise_bad), PAGE),
    "contexts": (lambda path: contexts.read_contexts(path, {"who built the tower"}, raise_bad), DPR),
    "samples": (read_samples, BUILT),
    "questions": (read_questions, ASKED),
    "preferences": (exported, PAIR),
    "pairs": (imported, OF_OTHERS),
    "bench": (imported, BENCH),
    "completions": (read_completion_rows, TO_SCORE),
    "predictions": (lambda path: read_predictions(path, [BUILT]), PREDICTION),
    "a document": (read_json_object, {"status": "complete", "settings": {"a": [1, 2]}}),
}

# Put into a row as a text, and written as what json.dumps would not write.
RAW = {
    "@deep": "[" * 600 + "]" * 600,
    "@deeper": "[" * 5000,
    "@objects": '{"a":' * 600 + "1" + "}" * 600,
    "@nan": "NaN",
    "@huge": "1e999",
    "@digits": "9" * 5000,
    "@twice": '{"a": 1, "a": 2}',
}
ODD = [None, True, False, 0, -1, 2**63, 10**400, 1.5, 1e308, "", " ", "\x00", "\ud800", "e\u0301", "²", *RAW]
ODD += [[], [[]], [None], {}, {"a": 1}, [1], ["a"], "a" * 300, [["a", 0]], "1", "\u2028", "\ufeff"]
BYTES = [b"\x00", b"\xff", b"\xc3", b"\r", b"\n", b"\t", b'"', b"{", b"}", b"[", b",", b"\\"]
STARTS = [b"\xef\xbb\xbf", b"\xff\xfe", b"PK\x03\x04", b"\x1f\x8b", b"[", b"<html>", b"\x80\x04"]


def places_in(value, place=()):
    """The path of every value within one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*place, key)
        yield from places_in(child, (*place, key))


def damaged_row(row, rng):
    row = copy.deepcopy(row)
    for _ in range(rng.choice([1, 1, 2])):
        *path, last = rng.choice(list(places_in(row)) or [("a",)])
        parent = row
        for key in path:
            parent = parent[key]
        if rng.random() < 0.15 and isinstance(parent, dict):
            parent.pop(last, None)
        else:
            parent[last] = copy.deepcopy(rng.choice(ODD))
    return row


def line_of(row):
    text = json.dumps(row, ensure_ascii=False)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode("utf-8", "surrogatepass")


def damaged_bytes(data, rng):
    place = rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place + rng.randrange(1, 20) :]
    if kind == 2:
        return rng.choice(STARTS) + data
    if kind == 3:
        return gzip.compress(data)[: rng.randrange(20, 200)]
    if kind == 4:
        text = data.decode("utf-8", "replace")
        return text.encode(rng.choice(["utf-16", "utf-32", "latin-1"]), "replace")
    return data[:place] + rng.choice(BYTES) + data[place:]


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_gives_rows_or_one_line_with_its_name(name, tmp_path, capsys):
    read, good = READ[name]
    # Another seed for each reader; the full form has new files each time.
    rng = random.Random(name if count(1, 0) else None)
    for i in range(count(120, 3000)):
        rows = [damaged_row(good, rng) if rng.random() < 0.6 else good for _ in range(rng.choice([1, 2]))]
        data = b"\n".join(map(line_of, rows)) + b"\n"
        if rng.random() < 0.4:
            data = damaged_bytes(data, rng)
        path = tmp_path / "rows.jsonl"
        path.write_bytes(data)
        try:
            read(path)
        except (DataError, UsageError) as error:
            assert str(path) in str(error)
            assert "\n" not in str(error), str(error)
            assert len(str(error)) < 700
        except Exception as error:
            pytest.fail(f"damage {i}: {error!r:.200} from {data[:400]!r}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ('{"a":' * 600 + "1" + "}" * 600, "nested too deeply"),
        ("[1e999]", "number 1e999 is too large"),
        ("-" + "9" * 400 + ".0", "is too large"),
        ('{"a": 1, "b": 2, "a": 3}', "duplicate key 'a'"),
        ('["\\ud800", ' + "[" * 600 + "]" * 601, "nested too deeply"),
    ],
)
def test_json_that_no_stage_could_use_or_write_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_a_repeated_key_among_very_many_is_found_at_once():
    text = "{" + ",".join(f'"k{i}":1' for i in range(200_000)) + ',"k199999":2}'
    with pytest.raises(ValueError, match="duplicate key 'k199999'"):
        parse_json(text)


ANCHORS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!bool maybe", "its tag does not take"),
        ("a: !!int ''", "its tag does not take"),
        ("a: !!float ''", "its tag does not take"),
        ("a: !!timestamp x", "its tag does not take"),
        ('a: "\\UFFFFFFFF"', "its tag does not take"),
        ("a: !!python/object/apply:os.system [ls]", "tags such as !x are not read"),
        (ANCHORS, "too large for a config"),
        ("a: " + "[" * 5000, "too large for a config"),
        ("- a\n" * 60_000, "too large for a config"),
        ("a: " + "[" * 600 + "]" * 600, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
    ],
)
def test_yaml_that_no_config_has_is_refused_at_once(text, words):
    with pytest.raises(UsageError, match=words) as refused:
        parse_yaml(text, "c.yaml")
    assert str(refused.value).startswith("c.yaml")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["margin", "score_chosen", "score_rejected"])
def test_a_score_that_is_no_share_is_named(name, tmp_path):
    # Ten times the largest number is infinite, which an export cannot write.
    write_jsonl(tmp_path / "rows.jsonl", [{**PAIR, name: 1e308}])
    with pytest.raises(DataError, match=rf"rows.jsonl:1: {name} 1e\+308 is outside 0..1"):
        read_preferences(tmp_path / "rows.jsonl")
