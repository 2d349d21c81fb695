"""Which samples a run trains on: draws from its data, and made rows beside them."""

import copy
import json

import pytest

import train_sft
from tests.test_train_sft import config_text
from training.selection import cap_sources, follow_origins, pick_balanced, read_run_samples, training_rows
from training.sft_config import DEFAULTS, check_config
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.schema import unit_of

# --- draws


def test_a_balanced_draw_prefers_originals_of_its_twins(sample, unanswerable):
    rows = [copy.deepcopy(sample) | {"id": f"popqa:{i}"} for i in range(30)]
    for i in range(10):
        twin = {"id": f"popqa:{i}:unanswerable", "metadata": {"twin_of": f"popqa:{i}"}}
        rows.append(copy.deepcopy(unanswerable) | twin)
    drawn = pick_balanced(rows, 12, 0.5, seed=1)
    twins = {row["metadata"]["twin_of"] for row in drawn if not row["answerable"]}
    assert len(drawn) == 12
    assert len(twins) == 6
    assert {row["id"] for row in drawn if row["answerable"]} == twins
    # Ten unanswerable rows cannot be half of more than twenty.
    assert len(pick_balanced(rows, None, 0.5, seed=1)) == 20


@pytest.mark.parametrize(
    "share, n, n_unanswerable", [(0.2, 37, 7), (0.0, 30, 0), (0.25, 40, 10), (0.5, 20, 10)]
)
def test_a_share_is_kept_above_and_below_the_natural_one(share, n, n_unanswerable, sample, unanswerable):
    rows = [copy.deepcopy(sample) | {"id": f"popqa:{i}"} for i in range(30)]
    rows += [copy.deepcopy(unanswerable) | {"id": f"popqa:u{i}"} for i in range(10)]
    drawn = pick_balanced(rows, None, share, seed=1)
    assert (len(drawn), sum(not row["answerable"] for row in drawn)) == (n, n_unanswerable)
    config = {"data": {"max_per_source": None, "max_samples": None, "unanswerable_fraction": share}}
    assert len(training_rows(rows, config | {"training": {"seed": 1}})) == n


@pytest.mark.parametrize("of_kind", ["sample", "unanswerable"])
def test_a_share_of_a_kind_that_is_not_there_is_refused(of_kind, request):
    rows = [{**request.getfixturevalue(of_kind), "id": str(i)} for i in range(4)]
    with pytest.raises(DataError, match="data.unanswerable_fraction: 0.3 of 4 samples, of which"):
        pick_balanced(rows, None, 0.3, seed=1)


def test_a_weight_is_of_the_data_and_not_of_what_is_drawn(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = [{**sample, "id": f"popqa:{i}"} for i in range(20)]
    write_jsonl(tmp_path / "train.jsonl", [*rows, {**sample, "id": "rare:1", "source": "rare"}])
    write_jsonl(tmp_path / "val.jsonl", [{**sample, "id": "popqa:v", "group": "v"}])
    data = {"train_path": "train.jsonl", "val_path": "val.jsonl", "max_samples": 2}
    config = {**DEFAULTS, "data": {**DEFAULTS["data"], **data, "weights": {"rare": 2.0}}}
    assert len(read_run_samples(config, allow_test=False).samples["train"]) == 2
    config["data"]["weights"] = {"rarer": 2.0}
    with pytest.raises(UsageError, match="no sample is of 'rarer'; did you mean 'rare'"):
        read_run_samples(config, allow_test=False)


def test_a_large_source_is_capped_and_twins_stay_together(sample):
    def make(source: str, i: int) -> list[dict]:
        original = {**sample, "id": f"{source}:{i}", "source": source}
        return [original, {**original, "id": f"{source}:{i}t", "metadata": {"twin_of": original["id"]}}]

    samples = []
    for i in range(10):
        samples += make("fever", i)
    for i in range(2):
        samples += make("popqa", i)
    kept = cap_sources(samples, 8, seed=1)
    sources = [row["source"] for row in kept]
    assert sources.count("fever") == 8
    # Fewer than the cap: all of them.
    assert sources.count("popqa") == 4
    # In file order.
    assert [row["id"] for row in kept] == [row["id"] for row in samples if row in kept]
    originals = {row["metadata"]["twin_of"] for row in kept if "twin_of" in row["metadata"]}
    assert originals <= {row["id"] for row in kept}


# --- made rows


def made_of(origin: dict, number: int, **changes) -> dict:
    """A row in the layout of train_made.jsonl: on the evidence of its origin, and in its unit."""
    metadata = {**origin["metadata"], "made": "test", "made_from": origin["id"], "unit": unit_of(origin)}
    row = {**origin, "id": f"{origin['id']}#{number}", "metadata": metadata}
    return row | {"question": f"{number}: {origin['question']}"} | changes


def test_made_rows_are_of_the_unit_of_their_origin(sample, unanswerable):
    assert unit_of(sample) == unit_of(unanswerable) == unit_of(made_of(unanswerable, 1)) == "popqa:1"


def test_made_rows_follow_their_origins_and_a_share_of_them_keeps_units_whole(sample):
    origins = [{**sample, "id": f"popqa:{i}"} for i in range(20)]
    made = []
    for origin in origins:
        made += [made_of(origin, 1), made_of(origin, 2)]
    kept, drops = follow_origins(made, origins[:10], 1.0, 3)
    assert kept == made[:20]
    assert +drops == {"origin not trained on": 20}

    half, drops = follow_origins(made, origins, 0.5, 3)
    assert len(half) == 20
    assert +drops == {"made_share": 20}
    assert len({unit_of(row) for row in half}) == 10
    # In file order, another draw with another seed, and a smaller share within a larger one.
    assert half == [row for row in made if row in half]
    assert follow_origins(made, origins, 0.5, 4)[0] != half
    quarter, _ = follow_origins(made, origins, 0.25, 3)
    assert all(row in half for row in quarter)

    # Rows of one's own have no origin.
    own = {**sample, "id": "popqa:own"}
    assert follow_origins([own], origins[:1], 1.0, 3)[0] == [own]


@pytest.fixture
def made_run(home, samples):
    """A config of the built data with a file of made rows, two for each of its training samples."""
    rows = []
    for _, row in read_jsonl(home / "data/processed/train.jsonl"):
        rows += [made_of(row, 1), made_of(row, 2)]
    write_jsonl(home / "made.jsonl", rows)
    data = {**DEFAULTS["data"], "made_path": "made.jsonl", "max_samples": 10}
    return {**DEFAULTS, "data": data}, rows


def test_max_samples_counts_samples_and_their_made_rows_come_on_top(made_run, home):
    config, _ = made_run
    run = read_run_samples(config, allow_test=False)
    chosen, made = run.samples["train"][:10], run.samples["train"][10:]
    assert len(made) == 20
    assert {row["metadata"]["made_from"] for row in made} == {sample["id"] for sample in chosen}
    assert run.paths[2:] == [home / "made.jsonl"]
    assert run.notes[0].startswith(f"20 made rows of {home / 'made.jsonl'} (dropped ")
    # Without the key, the same samples.
    plain = {**config, "data": {**config["data"], "made_path": None}}
    assert read_run_samples(plain, allow_test=False).samples["train"] == chosen


def test_made_rows_with_the_id_of_another_row_are_refused(made_run, home):
    config, rows = made_run
    write_jsonl(home / "again.jsonl", rows)
    config["data"]["made_path"] = ["made.jsonl", "again.jsonl"]
    with pytest.raises(DataError, match=r"made_path: .*again.jsonl: id .* is that of another training row"):
        read_run_samples(config, allow_test=False)


def test_made_rows_of_the_test_split_are_refused(made_run, home):
    config, _ = made_run
    leaked = []
    for _, row in read_jsonl(home / "data/processed/test.jsonl"):
        # As from a build that made rows of the wrong split, in a file elsewhere.
        leaked.append({**row, "id": f"{row['id']}#1"})
    write_jsonl(home / "made.jsonl", leaked)
    with pytest.raises(UsageError, match=r"made.jsonl: .* samples are of the test split"):
        read_run_samples(config, allow_test=False)
    [warning] = read_run_samples(config, allow_test=True).warnings
    assert "made.jsonl" in warning


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("made_path", 3, "null, a file or a list of files"),
        ("made_path", ["a", ""], "null, a file or a list of files"),
        ("made_path", ["a.jsonl", "a.jsonl"], "names a file twice"),
        ("made_path", "data/processed/train.jsonl", "names a file twice, or data.train_path"),
        ("made_share", 0.0, "a share above 0, up to 1"),
        ("made_share", 1.5, "a share above 0, up to 1"),
    ],
)
def test_values_of_the_keys_that_make_no_sense_are_refused(key, value, message):
    config = {**DEFAULTS, "data": {**DEFAULTS["data"], key: value}}
    with pytest.raises(UsageError, match=message):
        check_config(config)


def test_a_bad_made_file_is_named_with_its_key_before_anything_is_loaded(home, tiny_gemma_dir):
    config = home / "c.yaml"
    config.write_text(json.dumps({"model_name": str(tiny_gemma_dir), "output_dir": "sft"}))
    with pytest.raises(DataError, match=r"data.made_path: .*nowhere.jsonl"):
        train_sft.read_settings(["-c", str(config), "--set", "data.made_path=nowhere.jsonl"])


def test_a_run_trains_on_made_rows_and_records_their_file(made_run, home, tiny_gemma_dir, capsys):
    _, rows = made_run
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, max_steps=2))
    arguments = ["-c", str(config), "--set", "data.made_path=made.jsonl", "--set", "data.made_share=0.5"]
    train_sft.main(arguments)
    run = read_json(home / "sft/run.json")
    assert run["settings"]["data"]["made_path"] == "made.jsonl"
    assert len(run["inputs"]["made.jsonl"]) == 64
    trained = (home / "sft/train_ids.txt").read_text().split()
    assert {row["id"] for row in rows} & set(trained)

    # Other made rows under the same name: another run.
    write_jsonl(home / "made.jsonl", rows[:2])
    with pytest.raises(UsageError, match=r"other settings: inputs.made.jsonl"):
        train_sft.main(arguments)
    capsys.readouterr()
    train_sft.main([*arguments, "--dry-run"])
    assert " made rows of " in capsys.readouterr().err
