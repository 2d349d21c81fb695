"""Edits of claims: each takes the other verdict by construction, and none is made where that is not sure."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from evidence.contrast import contrast_rows, contrast_twin_rows
from evidence.contrast_case import Case, replaced
from evidence.contrast_edits import KINDS, edits_of
from evidence.paraphrase import denies
from evidence.surface_model import QuestionModel, is_positive
from tests.test_made import claim_sample, twin_of
from utils.rules import sample_problem

GROUND = "Ada Ground (born 4 May 1931 in Oslo, Norway) is a Norwegian pianist."
FILM = "Low Tide is a 1999 American drama film written and directed by Ann Lee, starring Bo Dahl and Cy Orr."


def edited(kind, claim, verdict, text, title="Low Tide"):
    """The edit of a kind as (claim, verdict), None without one."""
    case = Case(claim, verdict, (title,), (text,), {"directed": ["Ed Fox"]})
    edit = edits_of(case, random.Random(1)).get(kind)
    return (edit.claim, edit.verdict) if edit else None


def kinds_of(claim, verdict, text, title="Low Tide"):
    return set(edits_of(Case(claim, verdict, (title,), (text,)), random.Random(1)))


# --- a refuted claim gets what its evidence says


@pytest.mark.parametrize(
    ("kind", "claim", "right", "text", "title"),
    [
        ("date", "Ada Ground was born in 1940.", "Ada Ground was born in 1931.", GROUND, "Ada Ground"),
        ("date", "Ada Ground was born on May 9th.", "Ada Ground was born on May 4th.", GROUND, "Ada Ground"),
        ("entity", "Ada Ground is Danish.", "Ada Ground is Norwegian.", GROUND, "Ada Ground"),
        (
            "entity",
            "Ada Ground was born in Paris.",
            "Ada Ground was born in Oslo, Norway.",
            GROUND,
            "Ada Ground",
        ),
        ("date", "Low Tide is a 1989 film.", "Low Tide is a 1999 film.", FILM, "Low Tide"),
        (
            "entity",
            "Low Tide was directed by Bill Gates.",
            "Low Tide was directed by Ann Lee.",
            FILM,
            "Low Tide",
        ),
        ("entity", "Low Tide was only directed by a Bill.", None, FILM, "Low Tide"),
        ("entity", "Low Tide is a Canadian film.", "Low Tide is an American film.", FILM, "Low Tide"),
        ("word", "Low Tide is a car.", "Low Tide is a drama film.", FILM, "Low Tide"),
        ("word", "Low Tide is not a film.", "Low Tide is a film.", FILM, "Low Tide"),
        (
            "number",
            "Low Tide was the second film of Ann Lee.",
            "Low Tide was the fourth film of Ann Lee.",
            "Low Tide was the fourth film of Ann Lee.",
            "Low Tide",
        ),
        (
            "word",
            "It races under a Swiss bridge in summer.",
            "It races under a Swiss licence in summer.",
            "The team races under a Swiss licence in summer.",
            "Team",
        ),
    ],
)
def test_a_refuted_claim_gets_the_value_of_its_evidence(kind, claim, right, text, title):
    expected = (right, "supported") if right else None
    assert edited(kind, claim, "refuted", text, title) == expected


def test_a_refuted_claim_with_a_second_error_keeps_its_first():
    # It is no action film either, so the right year would not make it true.
    assert "date" not in kinds_of("Low Tide is an action film from 1989.", "refuted", FILM)
    # Of two years, a reader has to choose.
    text = "Low Tide was released in Japan in 1999 and in Peru in 2001."
    assert "date" not in kinds_of("Low Tide was released in 1989.", "refuted", text)
    # The year belongs to something else, and the decade is right.
    text = "He began as a rapper in the 1980s and was signed by a label in Los Angeles in 1987."
    assert "date" not in kinds_of("Low Tide began as a rapper in 1984.", "refuted", text)


# --- a supported claim gets a value that its evidence contradicts


def test_a_supported_claim_gets_another_value_of_the_same_type():
    claim, verdict = edited("date", "Low Tide was released in 1999.", "supported", FILM)
    year = re.fullmatch(r"Low Tide was released in (\d{4})\.", claim)
    assert verdict == "refuted" and year and year[1] != "1999"
    claim, verdict = edited("entity", "Low Tide is an American film.", "supported", FILM)
    assert verdict == "refuted" and re.fullmatch(r"Low Tide is an? (?!American)[A-Z]\w+ film\.", claim)
    claim, verdict = edited("word", "Low Tide is a film.", "supported", FILM)
    assert verdict == "refuted" and "film" not in claim
    claim = edited("number", "It operates in 28 countries.", "supported", "It operates in 28 countries.")[0]
    assert re.fullmatch(r"It operates in (?!28)\d+ countries\.", claim)


def test_a_wrong_director_is_of_the_cast_where_the_evidence_names_it():
    found = edited("entity", "Low Tide was directed by Ann Lee.", "supported", FILM)
    assert found == ("Low Tide was directed by Bo Dahl.", "refuted")
    text = "Low Tide is a 1999 film directed by Ann Lee."
    assert edited("entity", "Low Tide was directed by Ann Lee.", "supported", text)[0].endswith("Ed Fox.")


def test_what_is_not_exclusive_is_only_denied():
    # Another actor may have played too, and another city may be among the locations.
    assert kinds_of("Low Tide stars Bo Dahl.", "supported", FILM) == {"negation"}
    text = "Low Tide was filmed in Oslo, Paris and Rome."
    assert kinds_of("Low Tide was filmed in Oslo.", "supported", text) == {"negation"}
    # Limits: what is true before 2000 may be true before 1990.
    assert "date" not in kinds_of("Low Tide was released before 2000.", "supported", FILM)
    # A number in a name is no number.
    text = "Low Tide led the Billboard 200."
    assert "number" not in kinds_of("Low Tide led the Billboard 200.", "supported", text)


def test_a_claim_whose_label_is_doubtful_has_no_edit():
    # Supported, although its evidence has another year; refuted, although every word is said.
    assert kinds_of("Low Tide is a film from 1989.", "supported", FILM) == set()
    assert kinds_of("Low Tide is a 1999 film.", "refuted", FILM) == set()


def test_two_years_in_brackets_are_those_of_a_life_behind_its_name_alone():
    series = "Ada Ground (born May 22, 1974) played in Tides (2000 - 2007), her first series."
    found = edited("date", "Ada Ground was born in 1980.", "refuted", series, "Ada Ground")
    assert found == ("Ada Ground was born in 1974.", "supported")
    without = "Ada Ground played in Tides (2000 - 2007), her first series."
    assert "date" not in kinds_of("Ada Ground was born in 1980.", "refuted", without, "Ada Ground")


def test_an_ordinal_or_one_of_several_is_no_superlative():
    for text in (
        "Vale is the 36th largest state.",
        "Vale is the second-largest state.",
        "It is one of the largest.",
    ):
        found = edited("word", "Vale is the smallest state.", "refuted", text, "Vale")
        assert found in (None, ("Vale is the second-largest state.", "supported"))
    assert "word" in kinds_of("Vale is the smallest state.", "refuted", "Vale is the largest state.", "Vale")


def test_a_place_is_a_place():
    # A name before a noun, and a film.
    band = "Johnny Vale is the singer of Southern rock band Tide."
    assert "entity" not in kinds_of("Johnny Vale is from Paris.", "refuted", band, "Johnny Vale")
    film = "Ann Lee was in Paper Dolls in 1984."
    assert "entity" not in kinds_of("Ann Lee was in Paper Dolls.", "supported", film, "Ann Lee")
    assert "entity" in kinds_of("Vale is in Norway.", "supported", "Vale is in Norway.", "Vale")
    town = "Vale is a town in Jamaica. It has a harbor."
    assert edited("entity", "Vale is in Norway.", "refuted", town, "Vale") == (
        "Vale is in Jamaica.",
        "supported",
    )


# --- negation


@pytest.mark.parametrize(
    ("claim", "denied"),
    [
        ("Low Tide is a car.", "Low Tide is not a car."),
        ("Low Tide stars Meg Ray.", "Low Tide does not star Meg Ray."),
        ("Low Tide won a prize in 1990.", "Low Tide did not win a prize in 1990."),
        ("Low Tide has been banned.", "Low Tide has not been banned."),
        ("Low Tide's director is Meg Ray.", "Low Tide's director is not Meg Ray."),
        # To deny these says something else.
        ("Low Tide is only a car.", None),
        ("Low Tide was always banned.", None),
        ("Low Tide never won a prize.", None),
        ("Low Tide has nothing to do with it.", None),
        ("In 1990, Low Tide won a prize.", None),
    ],
)
def test_not_goes_behind_the_first_verb(claim, denied):
    assert edited("negation", claim, "refuted", FILM) == ((denied, "supported") if denied else None)


def test_an_article_fits_the_word_behind_it():
    assert replaced("It is a Swedish film.", (8, 15), "American") == "It is an American film."
    assert replaced("It is an American film.", (9, 17), "European") == "It is a European film."


# --- the choice among them


def claims(n_pairs):
    """Claims of films, half of them refuted, in units of a film each."""
    samples = []
    for number in range(n_pairs):
        year = 1930 + number % 60
        text = f"Tide {number} is a {year} American film directed by Ann Lee."
        right = ["is an American film", f"is a {year} film", "was directed by Ann Lee", "is a film"]
        wrong = ["is a Danish film", f"is a {year + 9} film", "was directed by Al Roe", "is a car"]
        verdict = ("supported", "refuted")[number % 2]
        said = (right if verdict == "supported" else wrong)[number // 2 % 4]
        sample = claim_sample(f"Tide {number} {said}.", verdict, text, number)
        sample["evidence_chunks"][1]["title"] = f"Tide {number}"
        samples.append(sample)
    return samples


def test_of_each_kind_as_many_are_supported_as_refuted():
    making = contrast_rows(claims(81), seed=3)
    counts = Counter((row["metadata"]["made"], row["answer"]) for row in making.rows)
    assert {kind.removeprefix("contrast: ") for kind, _ in counts} <= set(KINDS)
    assert len(making.rows) >= 60
    for kind, verdict in counts:
        assert counts[kind, verdict] == counts[kind, "refuted"] == counts[kind, "supported"]
    denied = Counter(row["answer"] for row in making.rows if denies(row["metadata"]["claim"]))
    assert denied["supported"] == denied["refuted"]
    assert sum(making.skipped.values()) == 81 - len(making.rows)


def test_an_edit_that_is_a_claim_already_is_not_made():
    pair = claims(2)
    pair[0]["metadata"]["claim"] = "Tide 0 is not an American film."
    making = contrast_rows([claims(2)[0], pair[0]], seed=3)
    asked = {row["metadata"]["claim"] for row in making.rows}
    assert not asked & {"Tide 0 is not an American film.", "Tide 0 is an American film."}


def test_an_edit_on_the_evidence_of_its_claims_twin_is_refused():
    samples = claims(8)
    twins = [twin_of(sample) for sample in samples]
    for twin in twins:
        twin["evidence_chunks"] = [{"title": "Otto Hahn", "text": "He was a chemist."}] * 2
    edits = contrast_rows(samples + twins, seed=3).rows
    making = contrast_twin_rows(samples + twins, seed=3)
    assert [row["question"] for row in making.rows] == [row["question"] for row in edits]
    for row, edit in zip(making.rows, edits):
        assert sample_problem(row) is None and not row["answerable"]
        assert row["metadata"]["unit"] == edit["metadata"]["unit"]
        assert row["id"] == f"{edit['metadata']['made_from']}:unanswerable#contrast-twin"

    # A chunk with what the edit says in place of the claim's words may decide it.
    assert edits[0]["metadata"]["made"] == "contrast: entity"
    nationality = edits[0]["question"].split()[-2]
    twins[0]["evidence_chunks"] = [{"title": "Otto Hahn", "text": f"He was {nationality}."}] * 2
    fewer = contrast_twin_rows(samples + twins, seed=3)
    assert fewer.skipped["a chunk has the new value"] == 1
    no_twins = contrast_twin_rows(samples, seed=3)
    assert no_twins.rows == [] and no_twins.skipped["no twin of its claim"] == len(edits)


def test_the_claim_alone_tells_the_verdict_no_better_with_the_edits():
    samples = claims(120)
    rows = contrast_rows(samples, seed=3).rows
    n_train = 80
    train = [*samples[:n_train], {**samples[0], "id": "fever:none", "answerable": False}]
    held_out = samples[n_train:]
    later = {sample["id"] for sample in held_out}

    def share_right(extra, tested):
        model = QuestionModel().fit([*train, *extra])
        supported = model.verdicts(tested) > 0.5
        return np.mean(supported == [is_positive(sample["answer"]) for sample in tested])

    # A claim and its edit share all words but one.
    extra = [row for row in rows if row["metadata"]["made_from"] not in later]
    tested = held_out + [row for row in rows if row["metadata"]["made_from"] in later]
    assert share_right(extra, tested) <= share_right([], held_out)
