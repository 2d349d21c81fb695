"""The data stage: support, negatives and twins on hand-made pages; readers; then the build as a whole."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

import build_data
from evidence.assembly import AssemblySettings, assemble, start_workers
from evidence.audit import broken_rules, position_test
from evidence.chunks import PagePool
from evidence.leaks import shared_between_splits
from evidence.negatives import ranked_negatives
from evidence.queries import CLAIM_QUESTION
from evidence.records import Passage, Record
from evidence.retrieval import BM25
from evidence.samples import build_sample, build_twin
from evidence.support import find_support
from sources import contexts, fever, hotpotqa, popqa, wiki_pages
from sources.files import locate
from utils.errors import DataError, StageError, UsageError
from utils.jsonl import raise_bad, read_json
from utils.schema import read_samples
from utils.text import holds_answer


def stop(problem):
    """The `on_bad` of a build without --skip-bad."""
    raise DataError(problem)


# Two people with one surname, a third born elsewhere, and the town of the answer: each a trap for a reader
# of words.
PAGES = {
    "Marie Curie": [
        "Marie Curie was a physicist.",
        "She was born in Warsaw in 1867.",
        "She won two Nobel Prizes.",
    ],
    "Pierre Curie": [
        "Pierre Curie was a French physicist.",
        "He was killed in Paris by a cart.",
        "He studied crystals.",
    ],
    "Lise Meitner": [
        "Lise Meitner was a physicist.",
        "She was born in Vienna.",
        "She worked with Otto Hahn.",
    ],
    "Warsaw": ["Warsaw lies on the Vistula.", "It was rebuilt after the war."],
}


def record(**change):
    """A PopQA-like record about Marie Curie, with fields replaced."""
    fields = {
        "id": "popqa:1",
        "source": "popqa",
        "question": "Where was Marie Curie born?",
        "answers": ("Warsaw", "Warszawa"),
        "answerable": True,
        "official_split": "any",
        "page_titles": ("Marie Curie",),
        "subject": ("Marie Curie",),
    }
    return Record(**{**fields, **change})


@pytest.fixture
def pool():
    return PagePool(PAGES, max_words=8)


def texts_of(support):
    """The texts of the support, one list per set."""
    texts = []
    for chunks in support.sets:
        texts.append([chunk.text for chunk in chunks])
    return texts


def negatives(support, pool, banned=frozenset()):
    return ranked_negatives(support, pool, banned, random.Random(0))


def test_support_is_an_answer_in_a_chunk_that_names_the_subject(pool):
    assert texts_of(find_support(record(), pool)) == [["She was born in Warsaw in 1867."]]


def test_of_unmarked_chunks_only_the_nearest_to_the_question_is_support_and_none_a_negative():
    life = ["She left Warsaw for Paris.", "She was born in Warsaw in 1867.", "She studied crystals."]
    pool = PagePool({"Marie Curie": life, "Lyon": ["A city."]}, max_words=8)
    support = find_support(record(), pool)
    assert texts_of(support) == [["She was born in Warsaw in 1867."]]
    # The first sentence has subject and answer but says something else about both.
    assert not any("Warsaw" in chunk.text for chunk in negatives(support, pool))


def test_support_is_never_invented(pool):
    assert find_support(record(answers=("Berlin",)), pool) == "answer not verified in any chunk"
    # "67" is in "1867" as text, not as a token.
    assert find_support(record(answers=("67",)), pool) == "answer not verified in any chunk"
    assert find_support(record(subject=("Irène Curie",)), pool) == "answer not verified in any chunk"


def test_negatives_hold_no_answer_and_twins_keep_the_count(pool):
    support = find_support(record(), pool)
    ranked = negatives(support, pool)
    sample = build_sample(support, ranked, 4, "g", random.Random(0))
    twin = build_twin(support, sample, ranked, random.Random(0))
    assert len(sample["evidence_chunks"]) == len(twin["evidence_chunks"]) == 4
    for row in (sample, twin):
        shown = [row["evidence_chunks"][i] for i in row["hard_negatives"]]
        assert not any(holds_answer(f"{c['title']}. {c['text']}", ["Warsaw"]) for c in shown)
    assert twin["metadata"]["gold_aliases"] == ["Warsaw", "Warszawa"]
    assert twin["metadata"]["twin_of"] == "popqa:1"


def test_a_claims_negatives_come_from_no_annotated_page(pool):
    claim = record(
        id="fever:1",
        source="fever",
        question=CLAIM_QUESTION.format(claim="Marie Curie was a physicist."),
        answers=("supported",),
        subject=(),
        gold_sets=((("Marie Curie", 0),),),
    )
    support = find_support(claim, pool)
    sample = build_sample(support, negatives(support, pool), 3, "g", random.Random(0))
    titles = [sample["evidence_chunks"][i]["title"] for i in sample["hard_negatives"]]
    # Every sentence of the annotated page may bear on the claim, whatever its words are.
    assert titles
    assert "Marie Curie" not in titles


def test_alternative_evidence_sets_are_kept_and_incomplete_ones_dropped(pool):
    # Sets are OR and the lines of one are AND: a set of two, one of one, and one whose page is missing.
    sets = ((("Marie Curie", 1), ("Warsaw", 0)), (("Marie Curie", 1),), (("Nobody", 0),))
    support = find_support(record(gold_sets=sets, page_titles=("Marie Curie", "Warsaw")), pool)
    assert [len(chunks) for chunks in support.sets] == [1, 2]
    assert find_support(record(gold_sets=((("Nobody", 0),),)), pool) == "gold evidence not among the pages"


def test_banned_pages_give_no_negatives(pool):
    ranked = negatives(find_support(record(), pool), pool, banned=frozenset({"Lise Meitner"}))
    assert ranked
    assert "Lise Meitner" not in {chunk.title for chunk in ranked}


def test_fever_escapes_sets_and_pages(tmp_path):
    assert fever.page_title("Python_-LRB-language-RRB-") == "Python (language)"
    assert fever.unescape("It 's 5 % -LRB- net -RRB- , ``quoted '' .") == 'It\'s 5% (net), "quoted ".'
    # A line may be empty, and line breaks inside links make lines without a number.
    lines = "0\tFirst one .\tLink\tLink\n1\t\n2\tThird .\nbroken"
    assert wiki_pages.page_sentences(lines) == ["First one.", "", "Third."]
    row = {
        "id": 7,
        "label": "REFUTES",
        "claim": "C .",
        "evidence": [[[1, 2, "A_-LRB-b-RRB-", 0], [1, 3, "C", 1]], [[1, 2, "A_-LRB-b-RRB-", 0]]],
    }
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    found = list(fever.read_records(path, "dev", stop))[0]
    assert found.gold_sets == ((("A (b)", 0), ("C", 1)), (("A (b)", 0),))
    assert found.answers[0] == "refuted"


@pytest.mark.parametrize(
    "row",
    [
        {"id": 7},
        {"id": 7, "label": ["REFUTES"], "claim": "C.", "evidence": []},
        {"id": 7, "label": "REFUTES", "claim": "C.", "evidence": [[["short"]]]},
        {"id": 7, "label": "REFUTES", "claim": "C.", "evidence": 3},
        {"id": 7, "label": "REFUTES", "claim": "C.", "evidence": [[[1, 2, 3, 4]]]},
    ],
)
def test_a_malformed_fever_row_is_named_or_counted(row, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="c.jsonl:1: not a FEVER claim"):
        list(fever.read_records(path, "dev", stop))
    counted = []
    assert list(fever.read_records(path, "dev", counted.append)) == []
    assert len(counted) == 1


def test_a_malformed_hotpotqa_row_is_named_or_counted(tmp_path):
    row = {
        "_id": "x",
        "question": 3,
        "answer": "A",
        "supporting_facts": [["P", "0"]],
        "context": [["P", ["One."]]],
    }
    path = tmp_path / "h.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match="h.json:1: row 1: not a HotpotQA row"):
        list(hotpotqa.read_records(path, "dev", stop))
    counted = []
    assert list(hotpotqa.read_records(path, "dev", counted.append)) == []
    assert len(counted) == 1


def test_a_claim_names_titles_but_no_stop_words():
    keys = fever.named_titles(["You Only Live Twice was directed by It."])
    assert {"you only live twice", "only live", "twice"} <= keys
    assert not {"you", "it"} & keys


def test_the_page_pool_does_not_depend_on_the_order_of_the_file(tmp_path):
    rows = [json.dumps({"id": f"Page_{i}", "text": "", "lines": f"0\tText {i}."}) for i in range(50)]
    pools = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "wiki.jsonl"
        path.write_text("\n".join(order))
        pools.append(wiki_pages.read_pages(path, {"Page 3"}, set(), 10, stop))
    assert set(pools[0]) == set(pools[1])
    # Ten of the pool, and the wanted page.
    assert len(pools[0]) == 11
    assert "Page 3" in pools[0]


def test_a_missing_gold_page_makes_a_hotpot_question_unanswerable(tmp_path):
    row = {
        "_id": "x",
        "question": "Q?",
        "answer": "A",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["P", 0], ["Q", 0]],
        "context": [["P", ["One."]], ["R", ["Two."]]],
    }
    path = tmp_path / "h.json"
    path.write_text(json.dumps([row]))
    assert not list(hotpotqa.read_records(path, "dev", stop))[0].answerable
    path.write_text(json.dumps([{**row, "context": [["P", ["One."]], ["Q", ["Two."]]]}]))
    assert list(hotpotqa.read_records(path, "dev", stop))[0].answerable


def test_popqa_is_read_by_its_header(tmp_path):
    # The columns of the public file, in another order.
    columns = "possible_answers id subj prop obj s_aliases s_wiki_title s_pop question".split()
    cells = [
        '"[""Warsaw"", ""Varsovia""]"',
        "5",
        "Curie",
        "place of birth",
        "Warsaw",
        "[]",
        "Marie Curie",
        "12",
        "Where was Curie born?",
    ]
    path = tmp_path / "p.tsv"
    path.write_text("\t".join(columns) + "\n" + "\t".join(cells) + "\n")
    found = list(popqa.read_records(path, "any", stop))[0]
    assert found.answers == ("Warsaw", "Varsovia")
    assert found.page_titles == ("Marie Curie",)
    assert found.metadata["popularity"] == 12
    path.write_text("id\tquestion\n1\tQ?\n")
    with pytest.raises(DataError, match="columns missing: obj, possible_answers"):
        list(popqa.read_records(path, "any", stop))


def test_a_surname_does_not_name_a_popqa_subject_of_two_words(tmp_path):
    columns = "possible_answers id subj prop obj s_aliases s_wiki_title s_pop question".split()
    # "Collins" alone once supported a question about the painter with a page about Edwyn Collins.
    names = '"[""Collins"", ""W. Collins"", ""William Collins R. A.""]"'
    cells = [
        '"[""London""]"',
        "5",
        "William Collins",
        "place of birth",
        "London",
        names,
        "William Collins (painter)",
        "12",
        "Where?",
    ]
    path = tmp_path / "p.tsv"
    path.write_text("\t".join(columns) + "\n" + "\t".join(cells) + "\n")
    found = list(popqa.read_records(path, "any", stop))[0]
    assert found.subject == (
        "William Collins",
        "William Collins (painter)",
        "W. Collins",
        "William Collins R. A.",
    )


def test_a_claim_is_searched_without_the_words_of_its_question():
    # Page A has the words that all FEVER questions share. Found for every claim, it would mark FEVER samples.
    pages = {
        "A": ["It is refuted by the evidence, the claim."],
        "B": ["Curie lived in Paris."],
        "C": ["Curie slept in the lab."],
    }
    pool = PagePool(pages, 20)
    claim = record(
        question=CLAIM_QUESTION.format(claim="Curie never slept."),
        answers=("refuted",),
        subject=(),
        page_titles=("C",),
        gold_sets=((("C", 0),),),
        metadata={"claim": "Curie never slept."},
    )
    assert [chunk.title for chunk in negatives(find_support(claim, pool), pool)] == ["B"]


def test_contexts_mark_gold_passages(tmp_path):
    path = tmp_path / "ctx.json"
    positive = {"title": "A", "text": "One. Two."}
    negative = {"title": "B", "text": "Three."}
    row = {
        "question": "Q?",
        "answers": ["x"],
        "positive_ctxs": [positive],
        "hard_negative_ctxs": [negative],
        "negative_ctxs": [],
    }
    path.write_text(json.dumps([row]))
    assert contexts.read_contexts(path, {"q"}, raise_bad) == {
        "q": [Passage("A", ("One.", "Two."), True), Passage("B", ("Three.",), False)]
    }


def test_bm25_by_hand():
    # idf(curie) = ln(1 + (3 - 2 + .5) / 2.5) = 0.470. Lengths 2, 1, 1 with mean 4/3, so the norms are
    # 1.5 * (.25 + .75 * 1.5) = 2.0625 and 1.5 * (.25 + .75 * .75) = 1.21875.
    scores = BM25(["marie curie", "curie", "radium"]).scores("Curie")
    assert scores == pytest.approx([0.470 * 2.5 / 3.0625, 0.470 * 2.5 / 2.21875, 0], abs=1e-3)
    # Stop words match nothing; of equal scores the lower index comes first; an index without terms is no
    # error.
    assert BM25(["a b", "the"]).top("the", 3) == []
    assert BM25(["x", "x", "y"]).top("x y", 3) == [2, 0, 1]
    # A query is text, or terms as they are.
    assert BM25([["may"], ["x"]]).top(["may"], 3) == [0]
    assert BM25([["may"], ["x"]]).top("may", 3) == []
    assert BM25([]).top("x", 3) == []
    assert BM25(["the", "of"]).top("the x", 3) == []


def test_bm25_over_many_texts_ranks_as_a_plain_sort_of_all_scores():
    # Frequent terms as rows, and blocks in place of a partition, are for speed alone.
    rng = random.Random(3)
    words = []
    for i in range(300):
        words += [f"w{i}"] * (1 + 300 // (i + 1))
    index = BM25([" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(3000)])
    for _ in range(50):
        query = " ".join(rng.choices(words, k=8))
        scores = index.scores(query)
        best = sorted(range(3000), key=lambda i: (-scores[i], i))
        for k in (1, 40, 400, 5000):
            assert index.top(query, k) == [i for i in best[:k] if scores[i] > 0]


# --- the build as a whole


def test_the_sample_build_keeps_all_rules(data_home, samples):
    splits = {
        split: read_samples(data_home / f"data/processed/{split}.jsonl") for split in ("train", "val", "test")
    }
    shared = shared_between_splits(splits)
    assert broken_rules(splits, shared) == []
    # Two questions may have one answer; nothing else may be in two splits.
    assert sum(n for name, n in shared.items() if name != "answers") == 0
    figures = read_json(data_home / "data/processed/audit.json")
    assert figures["rules_broken"] == []
    assert figures["answers_verbatim_in_support"] == 1.0
    by_source = Counter((s["source"], s["answerable"]) for s in samples)
    for source in ("fever", "hotpotqa", "nq_open", "popqa"):
        share = by_source[source, False] / (by_source[source, True] + by_source[source, False])
        assert 0.25 < share < 0.4, (source, share)
        assert any(s["metadata"].get("twin_of") for s in samples if s["source"] == source)


def test_a_worker_can_be_ended_whatever_its_parent_does_with_signals():
    # With the parent's handler, a pool sometimes waited forever for a worker that waited for a lock.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with start_workers(1) as workers:
            assert workers.apply(signal.getsignal, (signal.SIGTERM,)) is signal.SIG_DFL
            assert workers.apply(signal.getsignal, (signal.SIGINT,)) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_output_is_byte_identical_for_any_workers_hash_seed_locale_and_working_directory(data_home, tmp_path):
    # The flags of the fixture `data_home`, whose files were written by one worker in the repository.
    flags = ["--sample", "--data-dir", "data", "--limit", "30"]
    flags += ["--max-chunks", "3", "--max-chunk-words", "20", "--split", "0.6,0.2,0.2"]
    env = {**os.environ, "FACTUALITY_HOME": str(tmp_path), "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    command = [sys.executable, str(build_data.ROOT / "build_data.py"), *flags, "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The audit too: its probes are fitted models.
    for file in ("train.jsonl", "val.jsonl", "test.jsonl", "audit.json"):
        name = f"data/processed/{file}"
        assert (tmp_path / name).read_bytes() == (data_home / name).read_bytes()


def test_offline_uses_what_is_there_and_names_what_is_not(tmp_path, capsys):
    # Port 9 discards: a download would fail at once.
    entry = {"url": "http://127.0.0.1:9/NQ-open.dev.jsonl", "file": "nq.jsonl"}
    with pytest.raises(DataError, match="nq.jsonl: no such file; run once without --offline"):
        locate(entry, tmp_path, tmp_path, True, {})
    assert locate(entry | {"optional": True}, tmp_path, tmp_path, True, {}) is None
    assert "built without an optional file: " in capsys.readouterr().err
    (tmp_path / "nq.jsonl").write_text("{}")
    assert locate(entry, tmp_path, tmp_path, True, {}) == tmp_path / "nq.jsonl"


def test_a_path_that_is_no_file_is_named_as_what_it_is(tmp_path):
    (tmp_path / "dead.jsonl").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "co$t.jsonl").write_text("{}")
    for name, words in (
        ("dead", "is a link to .*gone, which does not exist"),
        ("pipe", "is a pipe or device"),
    ):
        with pytest.raises(DataError, match=f"{name}.jsonl: {words}"):
            locate({"path": f"{name}.jsonl", "optional": True}, tmp_path, tmp_path, True, {})
    assert locate({"path": "co$t.jsonl"}, tmp_path, tmp_path, True, {}) == tmp_path / "co$t.jsonl"
    with pytest.raises(DataError, match="environment variable not set"):
        locate({"path": "$UNSET_HERE/t.jsonl"}, tmp_path, tmp_path, True, {})


def test_a_gold_page_missing_from_fullwiki_makes_the_question_unanswerable(tmp_path):
    row = {
        "_id": "1",
        "question": "Q?",
        "answer": "x",
        "supporting_facts": [["A", 0], ["B", 0]],
        "context": [["A", ["One."]]],
    }
    (tmp_path / "h.json").write_text(json.dumps([row]))
    (found,) = hotpotqa.read_records(tmp_path / "h.json", "dev", stop)
    # The answer is kept: chunks that contain it must not become negatives.
    assert not found.answerable
    assert found.answers == ("x",)


def test_a_broken_rule_is_found(samples):
    sample = next(s for s in samples if s["answerable"] and s["source"] == "popqa")
    poisoned = json.loads(json.dumps(sample))
    poisoned["evidence_chunks"][poisoned["hard_negatives"][0]]["text"] += f" {sample['answer']}."
    assert "contains an accepted answer" in broken_rules({"train": [poisoned]}, {})[0]
    splits = {"train": [sample], "test": [{**sample, "id": "popqa:other"}]}
    assert "appear in more than one split" in " ".join(broken_rules(splits, shared_between_splits(splits)))


def test_support_positions_are_tested_against_a_flat_histogram(samples):
    # Support always first: what a builder without a shuffle would write.
    first = [{"answerable": True, "evidence_chunks": [{}] * 4, "support_spans": [0]}] * 50
    assert position_test(first)["p"] < 1e-6


def nq_config(tmp_path, extra=""):
    """A sources config of the sample's NQ rows, in a copy that the test may spoil."""
    raw = tmp_path / "raw.jsonl"
    config = tmp_path / "sources.yaml"
    raw.write_text((build_data.ROOT / "data/sample/raw/nq_open/NQ-open.train.jsonl").read_text() + extra)
    context = build_data.ROOT / "data/sample/raw/nq_open/nq-contexts.json"
    entry = {
        "licence": "x",
        "records": [{"path": str(raw), "split": "train"}],
        "contexts": [{"path": str(context)}],
    }
    config.write_text(json.dumps({"sources": {"nq_open": entry}}))
    return raw, ["--sources-config", str(config), "--max-chunk-words", "20", "--max-chunks", "3"]


def test_pins_refuse_unknown_and_changed_files(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    raw, flags = nq_config(tmp_path)
    # First run: nothing is pinned. Then pinned, then verified, then changed.
    with pytest.raises(DataError, match="not pinned.*--accept-new-hash"):
        build_data.main(flags)
    build_data.main([*flags, "--accept-new-hash"])
    assert (tmp_path / "data/processed/train.jsonl").is_file()
    build_data.main(flags)
    raw.write_text(raw.read_text() + "\n")
    with pytest.raises(DataError, match="sha256 .* but .* pins"):
        build_data.main(flags)


def test_bad_rows_stop_the_build_or_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    raw, flags = nq_config(tmp_path, extra='{"question": 3}\n{broken\n')
    with pytest.raises(DataError, match="raw.jsonl:.*--skip-bad"):
        build_data.main([*flags, "--accept-new-hash"])
    # Nothing is pinned: the rows can be corrected.
    assert not (tmp_path / "data/source_hashes.json").exists()
    raw.write_text(raw.read_text().replace("{broken", "{mended"))
    build_data.main([*flags, "--accept-new-hash", "--skip-bad", "--overwrite"])
    found = read_json(tmp_path / "data/processed/audit.json")
    assert found["dropped"]["nq_open"]["malformed row"] == 2
    places = [place.partition("raw.jsonl:")[2] for place in found["dropped_rows"]["nq_open"]["malformed row"]]
    assert len(places) == 2 and all(place.isdigit() for place in places)
    assert (tmp_path / "data/source_hashes.json").is_file()


def test_check_finds_a_bad_file(samples, tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(s) + "\n" for s in samples[:5]))
    build_data.main(["--check", str(path)])
    assert "all 5 samples are valid" in capsys.readouterr().out
    path.write_text(json.dumps({**samples[0], "hard_negatives": []}) + "\n")
    with pytest.raises(DataError, match="1 fault"):
        build_data.main(["--check", str(path)])


def write_config(path, records, split="any"):
    """A sources config of one source of the user's own, as JSON, which is YAML too."""
    source = {"licence": "ours", "records": [{"path": str(records), "split": split}]}
    path.write_text(json.dumps({"sources": {"handbook": source}}))
    return str(path)


def test_your_own_questions_in_both_layouts_go_through_the_same_checks(
    tmp_path, monkeypatch, sample, unanswerable
):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = []
    for i, town in enumerate(("Bergen", "Turin", "Porto", "Lille", "Gdansk", "Sofia")):
        pages = [{"title": f"Person {i}", "text": f"Person {i} was born in {town}. The family moved often."}]
        for k in range(3):
            pages.append({"title": f"Ship {k}", "text": f"Ship {k} was launched and named after a person."})
        rows.append({"question": f"Where was Person {i} born?", "answers": [town], "ctxs": pages})
    # No passage has the answer Atlantis, and a yes/no answer needs gold evidence: both are dropped.
    rows.append({"question": "Where was Person 9 born?", "answers": ["Atlantis"], "ctxs": rows[0]["ctxs"]})
    rows.append({"question": "Is Person 0 a sailor?", "answers": ["yes"], "ctxs": rows[0]["ctxs"]})
    # The other layout: rows of an earlier build.
    for row in (sample, unanswerable):
        rows.append(row | {"id": row["id"].replace("popqa", "handbook"), "source": "handbook"})
    records = tmp_path / "mine.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--sources-config", write_config(tmp_path / "s.yaml", records), "--accept-new-hash"]
    build_data.main([*flags, "--max-chunks", "3", "--split", "0.6,0.2,0.2"])
    figures = read_json(tmp_path / "data/processed/audit.json")
    assert figures["rules_broken"] == []
    assert figures["dropped"]["handbook"]["yes/no answer without gold evidence"] == 1
    built = {}
    for split in ("train", "val", "test"):
        for built_sample in read_samples(tmp_path / f"data/processed/{split}.jsonl"):
            built[built_sample["id"]] = built_sample
    assert sum(built_sample["answerable"] for built_sample in built.values()) == 7
    assert "handbook:1" in built
    assert built["handbook:1"]["answer_aliases"] == ["Warsaw", "Warszawa"]


def test_a_row_in_no_known_layout_and_a_mistyped_key_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    records = tmp_path / "mine.jsonl"
    records.write_text('{"query": "?"}\n')
    with pytest.raises(DataError, match="mine.jsonl:1: neither in sample layout nor in DPR layout"):
        build_data.main(["--sources-config", write_config(tmp_path / "s.yaml", records), "--accept-new-hash"])
    # A mistyped role would otherwise be a source without files.
    (tmp_path / "t.yaml").write_text("sources: {handbook: {recods: []}}")
    with pytest.raises(UsageError, match="unknown key 'recods'; did you mean 'records'"):
        build_data.main(["--sources-config", str(tmp_path / "t.yaml")])


def test_a_build_without_samples_says_why_and_what_would_help(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    records = tmp_path / "mine.jsonl"
    passage = {"title": "Lima", "text": "Lima is the capital of Peru.", "isgold": True}
    row = {"question": "What is the capital of Peru?", "answers": ["Lima"], "ctxs": [passage]}
    records.write_text(json.dumps(row) + "\n")
    # One paragraph leaves nothing to show beside the support.
    with pytest.raises(StageError, match=r"handbook: .* 1 \(give longer pages or more pages\)"):
        build_data.main(["--sources-config", write_config(tmp_path / "s.yaml", records), "--accept-new-hash"])
    assert "handbook: read as your own questions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_pool_pages: 3", "no sources"),
        ("sources: {handbook: 3}", "expected a block of"),
        ("sources: {handbook: {records: [{split: any}]}}", "needs a path or a url"),
        ("sources: {handbook: {records: [mine.jsonl]}}", "needs a path or a url"),
    ],
)
def test_a_sources_config_without_files_is_named(text, problem, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"s.yaml.*{problem}"):
        build_data.main(["--sources-config", str(path), "--dry-run"])


def test_the_plan_finds_files_behind_variables_and_under_other_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    (tmp_path / "mine.jsonl").write_text("{}")
    raw = tmp_path / "data/raw/handbook"
    raw.mkdir(parents=True)
    (raw / "renamed.jsonl").write_text("{}")
    entries = [
        {"path": "${MY_DATA}/mine.jsonl"},
        {"url": "http://127.0.0.1:9/a.jsonl", "file": "renamed.jsonl"},
        {"url": "http://127.0.0.1:9/b.jsonl"},
        {"path": "${MY_DATA}/none.jsonl", "optional": True},
        {"path": "${MY_DATA}/none.jsonl"},
    ]
    (tmp_path / "s.yaml").write_text(json.dumps({"sources": {"handbook": {"records": entries}}}))
    build_data.main(["--sources-config", str(tmp_path / "s.yaml"), "--dry-run"])
    states = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[:5]]
    assert states == ["present", "present", "to be downloaded", "optional, not present", "missing"]
    # A dry run writes nothing.
    assert not (tmp_path / "data/processed").exists()


def test_a_small_held_out_split_takes_negatives_from_pages_of_train_but_never_the_reverse(tmp_path):
    # Twenty questions, each with a page of its own: every page supports a question of some split.
    pages = {f"Mill {i}": [f"Mill {i} was built by Smith{i} long ago."] for i in range(20)}
    pool = PagePool(pages, 20)
    supports = []
    for title in pages:
        number = title.split()[1]
        asked = record(
            id=f"s:{number}",
            question=f"Who built {title}?",
            answers=(f"Smith{number}",),
            subject=(title,),
            page_titles=(title,),
        )
        supports.append(find_support(asked, pool))
    groups = [support.record.id for support in supports]
    split_of = dict.fromkeys(groups, "train") | {"s:0": "val", "s:1": "test"}
    built = assemble(supports, groups, split_of, pool, AssemblySettings(seed=1, max_chunks=4))
    for split, own, other in (("val", "Mill 0", "Mill 1"), ("test", "Mill 1", "Mill 0")):
        sample, _ = built[groups.index({"val": "s:0", "test": "s:1"}[split])]
        titles = {chunk["title"] for chunk in sample["evidence_chunks"]}
        assert own in titles and other not in titles and len(titles) == 4
    shown = {chunk["title"] for sample, _ in built[2:] for chunk in sample["evidence_chunks"]}
    assert not shown & {"Mill 0", "Mill 1"}
