"""External test sets: rows in their formats -> test samples, without what the training data contains."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

import build_data
import evaluate_sft_fast_robust as evaluation
from evidence.check import file_faults
from evidence.claims import may_decide
from evidence.contamination import without_contaminated
from evidence.drops import DroppedRows
from sources import READERS
from sources.clapnq import shared_runs
from tests.canned import gold_rows
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, write_jsonl
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("FACTUALITY_REAL_DATA", ROOT.parent / "shared/realdata"))

LAKE_SENTENCES = [
    "Lake Vell is a lake in the north of Orrin .",
    "It was dammed in 1931 by the city of Marn .",
    "The water is used for mills .",
    "In winter the lake freezes for two months .",
]


def clapnq_row(row_id, question, *annotations, title="Lake Vell", sentences=LAKE_SENTENCES):
    """A CLAPNQ row; each annotation is (written answer, numbers of the selected sentences)."""
    output = []
    for written, numbers in annotations or [("", [])]:
        output.append({"answer": written, "selected_sentences": [sentences[i] for i in numbers]})
    passage = {"title": title, "text": " ".join(sentences), "sentences": sentences}
    return {"id": row_id, "input": question, "passages": [passage], "output": output}


def symmetric_row(row_id, label, claim, evidence):
    return {"id": row_id, "label": label, "claim": claim, "evidence": evidence}


def fool_row(row_id, label, claim, gold, retrieved, page="Tovar Quist"):
    def items(texts):
        return [{"section_header": "Life", "text": text} for text in texts]

    return {
        **{"id": row_id, "label": label, "text": claim, "wikipedia_page": page},
        **{"gold_evidence": items(gold), "retrieved_evidence": items([*retrieved, *gold])},
    }


CLAPNQ = [
    clapnq_row("1", "who dammed lake vell", ("The city of Marn dammed it in 1931.", [1])),
    clapnq_row("2", "what is lake vell used for", ("Its water is used for mills.", [2, 0]), ("Mills.", [2])),
    clapnq_row("3", "how deep is lake vell"),
]
MAY = "Ada Brem was born in May ."
SYMMETRIC = [
    symmetric_row("7", "SUPPORTS", MAY, "Ada Brem -LRB- born 3 May 1901 -RRB- sang ."),
    symmetric_row("70000002", "REFUTES", MAY, "Ada Brem , born in June , sang opera ."),
    symmetric_row("8", "SUPPORTS", "Oro Vale sang pop .", "Oro Vale was a singer of pop and jazz ."),
    symmetric_row("9", "REFUTES", "The Marn Tower is in Orrin .", "The tower was born of a bet in Tarn ."),
    symmetric_row("10", "SUPPORTS", "Kell Dune was a painter .", "Dune sang and painted until May 1950 ."),
]
FOOL = [
    fool_row("a", "SUPPORTS", "Quist wrote a play at nine.", ["At nine he wrote his first play."], []),
    fool_row("b", "REFUTES", "He never left home.", ["He toured Orrin.", "He died in Marn."], ["He sang."]),
    fool_row(
        "c", "SUPPORTS", "Bren Ode wrote a play.", ["Ode wrote three plays at home."], [], page="Bren Ode"
    ),
]


def records_of(source, rows, tmp_path, bad=None):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    on_bad = bad.append if bad is not None else pytest.fail
    return list(READERS[source](tmp_path / "rows.jsonl", "dev", on_bad))


def test_a_clapnq_row_keeps_the_sentences_of_each_annotator(tmp_path):
    first, second, unanswerable = records_of("clapnq", CLAPNQ, tmp_path)
    assert first.gold_sets == ((("Lake Vell", 1),),) and first.is_read_whole
    assert second.gold_sets == ((("Lake Vell", 0), ("Lake Vell", 2)), (("Lake Vell", 2),))
    assert first.passages[0].sentences[1] == "It was dammed in 1931 by the city of Marn."
    # What an answer has from a sentence and the question has not: here no EM can be told (docs/data.md).
    assert first.answers == ("the city of Marn",) and second.answers == ("water is used for mills", "mills")
    assert first.metadata["written_answers"] == ["The city of Marn dammed it in 1931."]
    assert not unanswerable.answerable and unanswerable.gold_sets == ()


def test_the_shared_runs_are_those_that_the_sentence_spells_and_fit_an_answer():
    runs = shared_runs("In 1931, Marn DAMMED it.", "It was dammed (in 1931, by the city).")
    assert runs == ["in 1931"]
    long = " ".join(["Orrin"] * 60)
    assert all(len(run) <= 120 for run in shared_runs(long, long))


def test_a_claim_that_names_nothing_of_its_page_gets_the_title(tmp_path):
    named, bare, _ = records_of("fool_me_twice", FOOL, tmp_path)
    assert named.metadata["claim"] == "Quist wrote a play at nine."
    assert bare.metadata["claim"] == "Tovar Quist: He never left home."
    # Both gold sentences together, each a passage; the retrieved one is not gold.
    assert len(bare.gold_sets) == 1 and len(bare.gold_sets[0]) == 2 and len(bare.passages) == 3
    assert bare.answers[0] == "refuted"


def test_a_symmetric_pair_is_read_as_running_text_without_a_title(tmp_path):
    first = records_of("fever_symmetric", SYMMETRIC, tmp_path)[0]
    assert first.passages[0].title == "" and first.passages[0].sentences == (
        "Ada Brem (born 3 May 1901) sang.",
    )
    assert first.answers[0] == "supported" and first.question.endswith("evidence? Ada Brem was born in May.")


def edited(row, **fields):
    return {**row, **fields}


def with_sentences(*sentences):
    return edited(CLAPNQ[0], output=[{"answer": "x", "selected_sentences": list(sentences)}])


MALFORMED = [
    ("clapnq", edited(CLAPNQ[0], input=None), "input must be text"),
    ("clapnq", edited(CLAPNQ[0], passages=[]), "passages must be a list of one passage"),
    ("clapnq", edited(CLAPNQ[0], output="x"), "output must be a list"),
    (
        "clapnq",
        with_sentences("not there"),
        "sentence of",
    ),
    ("clapnq", with_sentences(), "or neither"),
    ("fever_symmetric", edited(SYMMETRIC[0], label=["SUPPORTS"]), "label must be SUPPORTS or REFUTES"),
    ("fever_symmetric", edited(SYMMETRIC[0], label="NOT ENOUGH INFO"), "label must be"),
    ("fever_symmetric", edited(SYMMETRIC[0], evidence=[]), "evidence must be text"),
    ("fever_symmetric", {"id": "1", "label": "SUPPORTS", "claim": "x"}, "field 'evidence' is missing"),
    ("fool_me_twice", edited(FOOL[0], gold_evidence=[]), "gold_evidence must be a list with a sentence"),
    ("fool_me_twice", edited(FOOL[0], gold_evidence=["text"]), "must be an object with text"),
    ("fool_me_twice", edited(FOOL[0], wikipedia_page=7), "wikipedia_page must be text"),
    ("fool_me_twice", edited(FOOL[0], text=" "), "text must be text that is not empty"),
]


@pytest.mark.parametrize("source, row, problem", MALFORMED)
def test_a_malformed_row_is_named_with_line_and_rule(source, row, problem, tmp_path):
    bad: list[str] = []
    good = {"clapnq": CLAPNQ, "fever_symmetric": SYMMETRIC, "fool_me_twice": FOOL}[source][1]
    assert len(records_of(source, [good, row], tmp_path, bad)) == 1
    assert len(bad) == 1 and "rows.jsonl:2: " in bad[0] and problem in bad[0]


# --- builds


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build the tiny sets, with more flags; returns the samples by id."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = {"clapnq": CLAPNQ, "fever_symmetric": SYMMETRIC, "fool_me_twice": FOOL}
    config = ["evaluation_only: true", "sources:"]
    for name, part in rows.items():
        write_jsonl(tmp_path / f"{name}.jsonl", part)
        config += [f"  {name}:", "    records:", f"      - {{path: {tmp_path}/{name}.jsonl, split: dev}}"]
    (tmp_path / "external.yaml").write_text("\n".join(config) + "\n")

    def run(*flags):
        fixed = ["--sources-config", str(tmp_path / "external.yaml"), "--data-dir", "ext", "--overwrite"]
        build_data.main([*fixed, "--accept-new-hash", *map(str, flags)])
        return {sample["id"]: sample for sample in read_samples(tmp_path / "ext/processed/test.jsonl")}

    return run


def test_everything_goes_to_test_and_no_twin_is_added(build, tmp_path):
    samples = build()
    assert {path.name for path in (tmp_path / "ext/processed").glob("*.jsonl")} == {"test.jsonl"}
    assert not any(sample["metadata"].get("twin_of") for sample in samples.values())
    answerable = Counter((s["source"], s["answerable"]) for s in samples.values())
    assert answerable["clapnq", False] == 1 and answerable["clapnq", True] == 2
    assert file_faults(tmp_path / "ext/processed/test.jsonl") == (len(samples), [])
    figures = read_json(tmp_path / "ext/processed/audit.json")
    assert figures["n_samples"] == {"test": len(samples)} and figures["checked_against"] == []


def test_a_passage_that_was_read_whole_is_shown_whole(build):
    samples = build()
    for row_id, spans in (("1", 1), ("2", 2), ("3", 0)):
        sample = samples[f"clapnq:{row_id}"]
        assert len(sample["evidence_chunks"]) == 4 and len(sample["support_spans"]) == spans
        assert {chunk["title"] for chunk in sample["evidence_chunks"]} == {"Lake Vell"}


def test_evidence_of_the_same_case_and_of_other_sets_is_never_a_negative(build):
    sample = build()["fever_symmetric:7"]
    texts = [chunk["text"] for chunk in sample["evidence_chunks"]]
    # It would refute the claim that its own sentence supports.
    assert "Ada Brem, born in June, sang opera." not in texts
    # Titles would tell: of this set no chunk has one.
    assert {chunk["title"] for chunk in sample["evidence_chunks"]} == {""}


def test_a_sentence_with_a_year_of_the_claims_decade_may_decide_it():
    claim = "Lake Vell: The film about it came out in the 1980s."
    assert may_decide(claim, ("Lake Vell",), "It was shown in theaters on 21 September 1984.")
    assert not may_decide(claim, ("Lake Vell",), "The theaters of Orrin closed on 21 September 1974.")


def test_samples_that_the_training_data_contains_are_dropped_and_counted(build, tmp_path, capsys):
    samples = build()
    train = samples["fool_me_twice:a"]
    write_jsonl(tmp_path / "train.jsonl", [train])
    clean = build("--against", "train.jsonl")
    # Both claims of the page, since a model has read it.
    assert samples.keys() - clean.keys() == {"fool_me_twice:a", "fool_me_twice:b"} & samples.keys()
    dropped = read_json(tmp_path / "ext/processed/audit.json")["dropped"]["fool_me_twice"]
    assert dropped["contaminated, question or claim in the training data"] == 1
    assert "contaminated, question or claim" in capsys.readouterr().out
    # By default the training data of the home is looked for.
    write_jsonl(tmp_path / "data/processed/train.jsonl", [train])
    assert build().keys() == clean.keys()


def test_each_kind_of_contamination_is_found(build):
    sample = build()["fever_symmetric:7"]
    support = sample["evidence_chunks"][sample["support_spans"][0]]
    other = json.loads(json.dumps(sample)) | {"id": "fever:1", "source": "fever", "question": "Who was it?"}
    other["metadata"] = {**sample["metadata"], "claim": "Someone lived in Orrin."}
    kinds = {
        "question or claim": {"claim": "ada brem was born in may"},
        "support sentence": {"text": f"She lived. {support['text']}"},
        "support page": {"title": "Ada Brem."},
    }
    for kind, change in kinds.items():
        train = json.loads(json.dumps(other))
        mine = json.loads(json.dumps(sample))
        shown = train["evidence_chunks"][train["support_spans"][0]]
        shown["text"] = change.get("text", "Another text.")
        shown["title"] = change.get("title", "")
        train["metadata"]["claim"] = change.get("claim", train["metadata"]["claim"])
        mine["evidence_chunks"][mine["support_spans"][0]]["title"] = (
            "ada brem" if kind == "support page" else ""
        )
        assert dropped_for([mine], [train]) == {f"contaminated, {kind} in the training data": 1}
    assert dropped_for([sample], [other | {"support_sets": [], "support_spans": []}]) == {}


def dropped_for(samples, train):
    drops = {samples[0]["source"]: DroppedRows()}
    without_contaminated(samples, train, drops)
    return dict(drops[samples[0]["source"]])


def test_against_belongs_to_an_evaluation_only_config_and_names_a_file(build, tmp_path):
    with pytest.raises(UsageError, match="evaluation_only"):
        build_data.main(["--sample", "--data-dir", "x", "--against", "train.jsonl"])
    with pytest.raises(DataError, match="nope.jsonl: no such file; --against"):
        build("--against", "nope.jsonl")


def test_a_build_without_any_test_sample_says_so(build, tmp_path):
    write_jsonl(tmp_path / "all.jsonl", list(build().values()))
    with pytest.raises(DataError, match="no test sample could be built .*contaminated"):
        build("--against", "all.jsonl")


def test_the_evaluation_takes_them_as_any_test_file(build, tmp_path):
    samples = list(build().values())
    write_jsonl(tmp_path / "p.jsonl", gold_rows(samples))
    flags = "--predictions p.jsonl --test-data ext/processed/test.jsonl --output out.json"
    evaluation.main(flags.split())
    results = read_json(tmp_path / "out.json")
    assert results["sft"]["net_score"] == 1.0 and results["sft"]["n"] == len(samples)
    assert set(results["by_source"]) == {"clapnq", "fever_symmetric", "fool_me_twice"}


# 11 to 16 s of processor time.
@pytest.mark.slow
@pytest.mark.skipif(
    not (REAL / "other").is_dir(), reason="no real records: set FACTUALITY_REAL_DATA to their folder"
)
def test_the_real_sets_build_almost_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.setenv("FACTUALITY_REAL_DATA", str(REAL))
    build_data.main(["--sources-config", "tests/realdata_external.yaml", "--accept-new-hash"])
    n_rows, faults = file_faults(tmp_path / "data/processed/test.jsonl")
    figures = read_json(tmp_path / "data/processed/audit.json")
    counts = figures["counts"]["test"]
    assert faults == [] and figures["rules_broken"] == [] and n_rows > 2000
    # 156 + 157, 708 and 1,169 rows; of each set at least nine in ten.
    assert counts["clapnq"]["answerable"] > 140 and counts["clapnq"]["unanswerable"] > 141
    assert counts["fever_symmetric"]["answerable"] > 637 and counts["fool_me_twice"]["answerable"] > 1052
