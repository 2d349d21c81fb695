"""benchmarks/quality.py: the tables of several seeds, from made-up results files."""

import pytest

from benchmarks import quality
from evaluation.results import score_all
from tests.canned import canned_rows
from tests.conftest import ROOT
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import write_json, write_jsonl
from utils.text import REFUSAL

REFUSE = render_completion(REFUSAL, [], 0.0)


def samples_of(source: str, sample: dict, n: int = 30) -> list[dict]:
    return [{**sample, "id": f"{source}:{i}", "source": source, "group": f"{source} {i}"} for i in range(n)]


def write_results(path, samples: list[dict], error_rate: float, seed: int, digest: str = "aa") -> str:
    """A results file of an SFT model with errors, beside a rule that refuses and one that errs more."""
    rows = canned_rows(samples, "sft", error_rate, seed) + canned_rows(samples, "overlap_rule", 0.9, 1)
    rows += [{"id": s["id"], "model": "always_refuse", "completion": REFUSE} for s in samples]
    results, _ = score_all(rows, samples, 42)
    run = {"settings": {"test_data": "data/test.jsonl"}, "inputs": {"data/test.jsonl": digest}}
    results["run"] = run | {"seed": 42, "packages": {}, "git_commit": "x"}
    write_json(path, results)
    return str(path)


def printed(capsys, *flags: str) -> list[list[str]]:
    """The cells of every line of the tables that a command prints."""
    quality.main(list(flags))
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


@pytest.fixture
def own(sample):
    return samples_of("fever", sample) + samples_of("popqa", sample)


def test_quality_and_leads_of_two_seeds(tmp_path, own, capsys):
    files = [write_results(tmp_path / f"{seed}.json", own, rate, seed) for seed, rate in ((1, 0.0), (2, 0.5))]
    table = printed(capsys, "--results", *files, "--against", "overlap_rule,claim_only")
    assert table[0] == ["", "bar", "aim", "all (60)", "fever (30)", "popqa (30)"]
    rows = {row[0]: row for row in table}
    em = rows["EM on answerable"]
    assert em[1:3] == ["0.62", "0.70"]
    # The first seed has no errors.
    mean, span = em[3].split(" ", 1)
    low = float(span.strip("()").split(" to ")[0])
    assert span.endswith("to 1.000)") and float(mean) == pytest.approx((low + 1) / 2, abs=0.001)
    assert rows["EM, mean of sources"][3:] == [em[3], "", ""]
    # All samples are answerable: no refusal F1.
    assert rows["refusal F1"][3] == "-"

    leads = [row for row in table if row[0] in ("overlap_rule", "claim_only")]
    assert [row[1] for row in leads] == ["all", "fever", "all", "fever"]
    assert leads[0][-1] == "yes" and leads[0][3].startswith("+") and leads[0][3].endswith("]")
    assert leads[2] == ["claim_only", "all", "-", "-", "-", "not evaluated"]


def test_a_lead_that_one_seed_lacks_is_counted(tmp_path, own, capsys):
    # Refusing everything scores 0, and nearly everything of the second seed is wrong.
    files = [
        write_results(tmp_path / f"{seed}.json", own, rate, seed) for seed, rate in ((1, 0.0), (2, 0.95))
    ]
    table = printed(capsys, "--results", *files, "--against", "always_refuse", "--parts", "popqa")
    assert table[-1][:2] == ["always_refuse", "popqa"] and table[-1][-1] == "1 of 2"
    with pytest.raises(UsageError, match="these results have all, fever, popqa"):
        quality.main(["--results", *files, "--parts", "nq_open"])


def test_a_file_with_one_source_has_a_lead_on_it(tmp_path, sample, capsys):
    file = write_results(tmp_path / "one.json", samples_of("popqa", sample), 0.0, 1)
    table = printed(capsys, "--results", file, "--against", "overlap_rule", "--parts", "all,popqa")
    assert [row[-1] for row in table[-2:]] == ["yes", "yes"]
    with pytest.raises(UsageError, match="is named twice"):
        quality.main(["--results", file, file])


@pytest.mark.parametrize("kind", ["symmetric", "clapnq"])
def test_the_results_that_are_in_the_repository_can_be_shown(kind, capsys):
    files = sorted((ROOT / "benchmarks/results").glob(f"real_gemma3_{kind}_s4*.json"))
    assert len(files) == 3
    assert printed(capsys, "--transfer", *map(str, files))[1][3]


def test_seeds_must_be_of_the_same_samples(tmp_path, own):
    files = [write_results(tmp_path / f"{digest}.json", own, 0.1, 1, digest) for digest in ("aa", "bb")]
    with pytest.raises(DataError, match="bb.json: evaluated other samples than .*aa.json"):
        quality.main(["--results", *files])
    with pytest.raises(UsageError, match="--ablation"):
        quality.main([])


def test_transfer_counts_a_refused_claim_as_wrong(tmp_path, sample, unanswerable, capsys):
    claims = []
    for i, row in enumerate(samples_of("fever_symmetric", sample)):
        label = "supported" if i % 3 else "refuted"
        claims.append({**row, "answer": label, "answer_aliases": [label]})
    clapnq = samples_of("clapnq", sample) + samples_of("clapnq", {**unanswerable, "id": "u"})
    for i, row in enumerate(clapnq):
        row["id"] = f"clapnq:{i}"
    file = write_results(tmp_path / "t.json", claims + clapnq, 0.0, 1)
    table = printed(capsys, "--transfer", file)
    assert table[0] == ["", "bar", "aim", "sft", "overlap_rule", "always_refuse"]
    rows = {row[0]: row[1:] for row in table}
    assert rows["fever_symmetric (30): accuracy"][:3] == ["0.65", "0.72", "1.000"]
    assert rows["fever_symmetric (30): accuracy"][-1] == "0.000"
    assert rows["fever_symmetric supported (20): accuracy"][2] == "1.000"
    assert rows["clapnq (60): refusal F1"][2] == "1.000" and "fool_me_twice" not in str(table)
    assert rows["clapnq (60): sentence-citation F1"][-1] == "0.000"
    own = write_results(tmp_path / "own.json", samples_of("popqa", sample), 0.0, 1)
    with pytest.raises(DataError, match="none of fever_symmetric"):
        quality.main(["--transfer", own])


def test_ablation_lines_are_levers_with_their_seeds(tmp_path, own, capsys):
    file = write_results(tmp_path / "a.json", own, 0.0, 1)
    figures = {"em": 0.5, "citations": 0.6, "refusal_f1": 0.7, "net": 0.1}
    runs = [
        {"lever": "none", "minutes": 20, **figures},
        {"lever": "rank 64", "minutes": 20, "results": file},
        {"lever": "none", "minutes": 20, **figures, "em": 0.6},
        {"lever": "none", "minutes": 60, **figures},
    ]
    write_jsonl(tmp_path / "runs.jsonl", runs)
    table = printed(capsys, "--ablation", str(tmp_path / "runs.jsonl"))
    assert [row[:3] + row[-1:] for row in table[2:]] == [
        ["none", "20", "0.550 (0.500 to 0.600)", "2"],
        ["rank 64", "20", "1.000", "1"],
        ["none", "60", "0.500", "1"],
    ]
    write_jsonl(tmp_path / "runs.jsonl", [{"lever": "none", "minutes": 20, "em": 0.5}])
    with pytest.raises(DataError, match="runs.jsonl:1: citations, refusal_f1, net missing"):
        quality.main(["--ablation", str(tmp_path / "runs.jsonl")])
