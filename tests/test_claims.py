"""Claims: what their evidence must say, which sentences of their page may be negatives, and the easy ones."""

import random
from collections import Counter

import pytest

from evidence.balance import choose_samples
from evidence.chunks import PagePool
from evidence.claims import is_judgeable, may_decide
from evidence.drops import DroppedRows
from evidence.negatives import ranked_negatives
from evidence.paraphrase import stems
from evidence.samples import build_sample, build_twin
from evidence.support import find_support
from tests.test_build_data import record


@pytest.mark.parametrize(
    ("claim", "evidence", "judgeable"),
    [
        ("The Colosseum is in a city in Italy.", "Colosseum. It is in the center of the city of Rome.", True),
        ("The Colosseum is not in Rome.", "Colosseum. It is in the center of the city of Rome.", True),
        ("Julie Bowen's birthday is November 3.", "Julie Bowen (born March 3, 1970) is an actress.", True),
        ("Mohra is a truck.", "Mohra is a 1994 film.", True),
        # A politician may be a poet too: the sentence neither states nor refutes it.
        ("Ann Lee is a poet.", "Ann Lee (born 1964) is a politician.", False),
        ("Ann Lee is a politician.", "Ann Lee (born 1964) is a politician.", True),
        # Evidence about something else altogether.
        ("Donald Duck was a friend of everyone.", "Lesh was the last member to join.", False),
    ],
)
def test_a_claim_is_judged_by_evidence_about_it(claim, evidence, judgeable):
    assert is_judgeable(claim, stems(evidence)) is judgeable


@pytest.mark.parametrize(
    ("claim", "sentence", "decides"),
    [
        (
            "Barbarella was directed by Roger Vadim.",
            "Dino De Laurentiis bought the rights to the comic.",
            False,
        ),
        # The same relation with another name, or the same name with another relation.
        ("Barbarella was directed by Roger Vadim.", "Its director had made two films before.", True),
        ("Barbarella was directed by Roger Vadim.", "Vadim married its star.", True),
        ("Julie Bowen was born in 1979.", "She has been nominated for six awards.", False),
        ("Julie Bowen was born in 1979.", "She is the youngest of three children.", True),
        ("Julie Bowen was born in 1979.", "In 1979 her family moved to Boston.", True),
        # Of what something is, or only is, any other fact may tell.
        ("Cary Elwes is an actor.", "He is best known for The Princess Bride.", True),
        ("Spider-Man 2 has yet to be a film.", "It grossed $783 million.", True),
        ("Theresa May worked.", "She has been the Member of Parliament for Maidenhead.", True),
        ("Yvonne Strahovski is a Latvian actress.", "Her parents are from Poland.", True),
        ("Matt Bomer is from America.", "He won a Golden Globe.", False),
        ("Java is in Bermuda.", "The Indonesian capital is on western Java.", True),
    ],
)
def test_a_sentence_of_the_page_decides_a_claim_unless_it_is_about_something_else(claim, sentence, decides):
    names = {"Barbarella", "Julie Bowen", "Cary Elwes", "Spider-Man 2", "Theresa May", "Java", "Matt Bomer"}
    own = tuple(name for name in names if claim.startswith(name)) or ("Yvonne Strahovski",)
    assert may_decide(claim, own, sentence) is decides


BARBARELLA = [
    "Barbarella is a 1968 film directed by Roger Vadim.",
    "Dino De Laurentiis bought the rights to the comic.",
    "It is set in the 41st century.",
]
OTHERS = {
    "Love Train": ["Love Train was directed by Roger Vadim in Paris."],
    "Jane Fonda": ["Jane Fonda had the main part in Barbarella."],
    "Vadim (name)": ["Vadim is a given name."],
    "Paris": ["Paris is a city."],
    "Roger": ["Roger is a given name."],
}


def claim_of(verdict="supported", text="Barbarella was directed by Roger Vadim.", **changes):
    fields = {
        "question": f"Is it so? {text}",
        "answers": (verdict,),
        "subject": (),
        "gold_sets": ((("Barbarella", 0),),),
        "page_titles": ("Barbarella",),
        "names": ("Barbarella",),
        "metadata": {"claim": text},
    }
    return record(**{**fields, **changes})


def built(claim, pool, n_chunks=4, seed=0):
    """(sample, twin) of a claim."""
    support = find_support(claim, pool)
    rng = random.Random(seed)
    ranked = ranked_negatives(support, pool, frozenset(), rng)
    sample = build_sample(support, ranked, n_chunks, "g", rng)
    return sample, build_twin(support, sample, ranked, rng)


def test_a_twin_shows_the_claims_page_as_often_as_its_original():
    # 80 words would make one chunk of the page, whose other sentences could not be shown without the support.
    pool = PagePool({"Barbarella": BARBARELLA, **OTHERS}, 80)
    for seed in range(8):
        sample, twin = built(claim_of(), pool, seed=seed)
        titles = [chunk["title"] for chunk in sample["evidence_chunks"]]
        twin_titles = [chunk["title"] for chunk in twin["evidence_chunks"]]
        assert twin_titles.count("Barbarella") == titles.count("Barbarella") == 2
        assert BARBARELLA[0] not in [chunk["text"] for chunk in twin["evidence_chunks"]]
        assert twin["metadata"]["difficulty"] == "hard"


def test_a_chunk_of_another_subject_may_say_all_the_rest_of_a_claim():
    pool = PagePool({"Barbarella": BARBARELLA, **OTHERS}, 80)
    sample, _ = built(claim_of(), pool, n_chunks=6)
    titles = {chunk["title"] for chunk in sample["evidence_chunks"]}
    # "Jane Fonda had the main part in Barbarella" names the page, so it may prove something about it.
    assert "Love Train" in titles and "Jane Fonda" not in titles


def test_a_claim_without_another_sentence_on_its_page_is_labeled_easy():
    pool = PagePool({"Barbarella": BARBARELLA[:1], **OTHERS, "Blue": ["Roger liked blue."]}, 80)
    sample, twin = built(claim_of(), pool, n_chunks=3)
    assert sample["metadata"]["difficulty"] == "easy"
    titles = {chunk["title"] for chunk in twin["evidence_chunks"]}
    assert "Barbarella" not in titles
    # A page of which the claim has the name is near enough: its title alone does not tell.
    near = "Vadim (name)" in titles
    assert twin["metadata"]["difficulty"] == ("hard" if near else "easy")


def test_supports_and_refutes_pass_the_same_filter():
    pool = PagePool({"Barbarella": BARBARELLA, **OTHERS}, 80)
    texts = [
        "Barbarella was directed by Roger Vadim.",
        "Barbarella was directed by Orson Welles.",
        "Dogs bark.",
    ]
    for text in texts:
        found = [
            isinstance(find_support(claim_of(verdict, text), pool), str)
            for verdict in ("supported", "refuted")
        ]
        assert found[0] == found[1]


def pair(number, difficulty, twin=None, answerable=True, claim=True, verdict="supported"):
    metadata = {"difficulty": difficulty, **({"claim": "Mills burn."} if claim else {})}
    evidence = {"question": "A?", "evidence_chunks": [{"title": "", "text": "Mills."}], "hard_negatives": []}
    evidence |= {"support_spans": [0], "support_sets": [[0]], "answer": verdict}
    sample = {"id": f"s:{number}", "source": "s", "answerable": answerable, "metadata": metadata, **evidence}
    if not twin:
        return sample, None
    twin_metadata = {**metadata, "difficulty": twin, "twin_of": sample["id"]}
    return sample, {
        **sample,
        "id": f"s:{number}:unanswerable",
        "answerable": False,
        "metadata": twin_metadata,
    }


def test_easy_claims_are_kept_up_to_the_number_of_hard_ones_and_counted():
    built_pairs = [pair(i, "hard", "easy") for i in range(24)] + [pair(i, "easy") for i in range(24, 52)]
    built_pairs += [pair(i, "easy", "hard") for i in range(52, 55)]
    drops = {"s": DroppedRows()}
    chosen = choose_samples(built_pairs, 0.0, 1, drops)
    assert Counter(sample["metadata"]["difficulty"] for sample in chosen) == {"hard": 24, "easy": 24}
    # Easy claims with a hard twin are kept first.
    assert {f"s:{i}" for i in range(52, 55)} <= {sample["id"] for sample in chosen}
    assert drops["s"]["surplus easy rows"] == 7

    # A few are always kept, for a quick look; so are all questions without a claim.
    few = [pair(i, "easy") for i in range(9)]
    assert len(choose_samples(few, 0.0, 1, drops)) == 9
    questions = [pair(i, "easy", "easy", claim=False) for i in range(99)]
    assert len(choose_samples(questions, 0.0, 1, drops)) == 99


def test_a_third_of_the_easy_claims_have_a_verdict_that_missing_words_do_not_tell():
    hard = [pair(i, "hard") for i in range(30)]
    # Nothing of the claim is missing in the evidence: "supported" is told by that, "refuted" is not.
    told = [pair(i, "easy") for i in range(30, 90)]
    untold = [pair(i, "easy", verdict="refuted") for i in range(90, 150)]
    chosen = choose_samples(hard + told + untold, 0.0, 1, {"s": DroppedRows()})
    easy = [sample for sample in chosen if sample["metadata"]["difficulty"] == "easy"]
    assert Counter(sample["answer"] for sample in easy) == {"supported": 20, "refuted": 10}


def test_hard_twins_come_before_easy_rows_of_the_source():
    answerable = [pair(i, "hard", "hard") for i in range(8)]
    own = [pair(i, "hard" if i < 10 else "easy", answerable=False) for i in range(8, 16)]
    chosen = choose_samples(answerable + own, 0.5, 1, {"s": DroppedRows()})
    unanswerable = [sample for sample in chosen if not sample["answerable"]]
    assert len(unanswerable) == 8
    assert all(sample["metadata"]["difficulty"] == "hard" for sample in unanswerable)
