"""Questions made of training pages: what sentences state, what an evidence answers, and what it does not."""

import pytest

from evidence.check import file_faults
from evidence.made import make_rows
from evidence.questions.checks import ShownChunk, is_unanswered, support_of
from evidence.questions.clauses import infinitive
from evidence.questions.cloze import cloze_facts
from evidence.questions.definitions import gap_facts
from evidence.questions.index import FactIndex
from evidence.questions.rows import question_rows
from evidence.questions.sentences import page_sentences
from evidence.questions.works import by_name
from utils.jsonl import write_jsonl
from utils.schema import read_samples
from utils.text import REFUSAL

FILM = (
    "The Long Road is a 1999 American comedy film written by Ann Lee and directed by Bo Marsh, "
    "starring Cy Orr."
)
ACTOR = "Cyril Orr (born 3 May 1970 in Paris, Texas) is an American actor and director."


def facts_of(title, text):
    """Relation -> accepted answers, of the facts that templates find in one chunk."""
    sample = {"evidence_chunks": [{"title": title, "text": text}]}
    chunk = FactIndex([sample]).shown[0][0]
    return {fact.relation: fact.answers for fact in chunk.facts if fact.kind == "template"}


def asked(title, text, style="web"):
    """Question -> answer, of the facts that the syntax gives."""
    words = {"move": 3, "open": 2}
    facts = [fact for sentence in page_sentences(title, text) for fact in cloze_facts(sentence, words)]
    return {question: fact.answers[0] for fact in facts for question in fact.questions[style]}


# --- sentences


@pytest.mark.parametrize(
    ("title", "text", "subject", "predicate"),
    [
        ("Ugly (film)", "Ugly is a film of 2013.", "Ugly", "is a film of 2013"),
        (
            "Ugly (film)",
            "... by him. Ugly (film) Ugly is a 2013 film. Cut in the",
            "Ugly",
            "is a 2013 film",
        ),
        (
            "Cyril Orr",
            "Cyril B. Orr (1900-1950) was a very good actor.",
            "Cyril Orr",
            "was a very good actor",
        ),
        ("Cyril Orr", "Orr played Bob in the film.", "Cyril Orr", "played Bob in the film"),
        ("Cyril Orr", "He was born in Paris in 1900.", "Cyril Orr", "was born in Paris in 1900"),
        ("Ugly (film)", '" Ugly " is a film that was made.', "Ugly", "is a film that was made"),
        # Somebody else was named before "he".
        ("Ugly (film)", "Many people admired Ann Lee a lot. He was born in Paris in 1900.", "", ""),
    ],
)
def test_a_sentence_says_its_predicate_of_the_subject_of_its_page(title, text, subject, predicate):
    last = page_sentences(title, text)[-1]
    assert (last.subject, last.predicate) == (subject, predicate)


def test_cut_sentences_say_nothing():
    assert page_sentences("Ugly", "and so he did it again. Ugly is a film that") == ()


# --- facts


def test_a_definition_of_a_work_states_its_makers_kind_and_year():
    facts = facts_of("The Long Road", FILM)
    assert facts["screenwriter"] == ("Ann Lee",)
    assert facts["director"] == ("Bo Marsh",)
    assert facts["star"] == ("Cy Orr",)
    assert facts["year"] == ("1999",)
    assert facts["film genre"] == ("comedy film", "comedy")


def test_a_definition_of_a_person_states_life_and_occupation():
    facts = facts_of("Cyril Orr", ACTOR)
    assert facts["birth"] == ("3 May 1970",)
    assert facts["birthplace"] == ("Paris, Texas", "Paris")
    assert facts["occupation"] == ("actor", "director")
    assert facts["nationality"] == ("American",)


@pytest.mark.parametrize(
    ("text", "relation", "answer"),
    [
        ("Nym is a city in Lower Saxony, Germany.", "country", "Germany"),
        ("Nym is the capital and largest city of Somalia.", "capital of", "Somalia"),
        ("Nym is the capital and largest city of Somalia.", "capital", "Nym"),
        ("Nym was released on May 3, 1999 by Columbia Records.", "release", "May 3, 1999"),
        ("Nym was released on May 3, 1999 by Columbia Records.", "label", "Columbia Records"),
        (
            "Nym is a song by the English rock band Pink Floyd from their album The Wall.",
            "performer",
            "Pink Floyd",
        ),
        ("Nym is a song by the English rock band Pink Floyd from their album The Wall.", "album", "The Wall"),
        ("Nym plays as a striker for Everton.", "team", "Everton"),
        ("Nym is best known for her role as Ann Lee in the BBC sitcom Hot Road.", "work of role", "Hot Road"),
        ("Nym is best known for her role as Ann Lee in the BBC sitcom Hot Road.", "actor", "Nym"),
    ],
)
def test_a_phrase_states_its_relation(text, relation, answer):
    assert facts_of("Nym", text)[relation][0] == answer


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        # The clause is about another work, or names two people.
        ("Nym is a film based on a story that was written by Ann Lee.", "screenwriter"),
        ("Nym is a 1999 film directed by Ann Lee and Bo Marsh.", "director"),
        ("Nym is known for her role as Raquel in the BBC sitcom Only Fools and Horses.", "role"),
        ("Nym was a goddess of love, who was married to Hephaestus.", "spouse"),
        ("Nym, a Canadian-born actor, is a Canadian-born film producer.", "nationality"),
    ],
)
def test_what_a_phrase_does_not_say_of_the_subject_is_left_out(text, relation):
    assert relation not in facts_of("Nym", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("English rock band Pink Floyd, in 1999", "Pink Floyd"),
        ("J. K. Rowling", "J. K. Rowling"),
        ("the American singer-songwriter Ann Lee for Epic", "Ann Lee"),
        ("Ann Lee and Bo Marsh", None),
        ("Ann's brother", None),
        ("various architects including Bo Marsh", None),
    ],
)
def test_the_name_behind_its_roles(text, name):
    assert by_name(text) == name


# --- cloze


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("Nym was built in brick in 1926.", "what year was Nym built in brick", "1926"),
        ("Nym was held at Wembley Stadium, London.", "where was Nym held", "Wembley Stadium, London"),
        ("Nym was designed by the architect Ann Lee in 1926.", "who was Nym designed by", "Ann Lee"),
        ("Nym moved to Rome on 3 May 1926.", "when did Nym move to Rome", "3 May 1926"),
        ("In 1926, Ann Lee moved to Rome.", "what year did Ann Lee move to Rome", "1926"),
        ("Nym has 32 active members in Rome.", "how many active members does Nym have in Rome", "32"),
        ("Nym is a small rock band based in Rome, Italy.", "which small rock band is based in Rome", "Nym"),
        (
            "Nym is the third studio album by Pink Floyd.",
            "what is the third studio album by Pink Floyd",
            "Nym",
        ),
        ("The libretto was written by Ann Lee.", "who was the libretto of Nym written by", "Ann Lee"),
    ],
)
def test_the_syntax_gives_a_question(text, question, answer):
    assert asked("Nym", text)[question] == answer


def test_a_part_ends_before_its_verb_and_a_pronoun_is_of_a_person():
    part = asked("Phaeno Science Center", "The centre was finished and welcomed its guests in 2005.", "long")
    assert all("centre was of" not in question for question in part) and part
    assert asked("Terbium", "He published the result in 1843.", "long") == {}
    novel = "Jenny is a novel about a young woman painter and her search for love."
    assert "occupation" not in facts_of("Jenny", novel)


def test_of_several_names_none_is_asked_for():
    text = "Nym is a song by the American recording artists Ann Lee, Bo Marsh and Cy Orr."
    assert "Ann Lee" not in asked("Nym", text).values()


def test_a_question_refers_to_nothing_outside_it():
    assert asked("Nym", "Nym was then moved there in 1926.") == {}


def test_the_infinitive_is_a_word_that_occurs():
    words = {"move": 3, "stop": 1, "play": 1}
    verbs = ("moved", "stopped", "played", "wrote", "studied", "xyzzed")
    assert [infinitive(verb, {**words, "study": 1}) for verb in verbs] == [
        *("move", "stop", "play", "write", "study"),
        None,
    ]


def test_a_gap_takes_the_place_of_the_last_date_and_name():
    sentence = page_sentences("Nym", "Nym moved to Rome in 1926.")[0]
    assert {fact.answers[0]: fact.questions["web"][0] for fact in gap_facts(sentence)} == {
        "1926": "Fill in: Nym moved to Rome in ____.",
        "Rome": "Fill in: Nym moved to ____ in 1926.",
    }


# --- what an evidence answers


def shown(*chunks):
    sample = {"evidence_chunks": [{"title": title, "text": text} for title, text in chunks]}
    return FactIndex([sample]).shown[0]


def fact_of(chunk, relation):
    return next(fact for fact in chunk.facts if fact.relation == relation)


def support(*others):
    """What supports "when was Cyril Orr born" beside other chunks."""
    chunks = shown(("Cyril Orr", ACTOR), *others)
    return support_of(fact_of(chunks[0], "birth"), "when was cyril orr born", chunks, 0)


def test_support_is_every_chunk_that_states_the_fact():
    other = ("Cyril Orr", "Orr (born 3 May 1970) is an actor who lives in Rome.")
    assert support(("Rome", "Rome is a city.")) == [0]
    assert support(other) == [0, 1]


@pytest.mark.parametrize(
    ("title", "text", "reason"),
    [
        ("Cyril Orr", "Orr (born 4 May 1971) is an actor who lives in Rome.", "two answers"),
        ("Bo Marsh", "It opened on 3 May 1970 in Rome.", "answer in another chunk"),
        ("Bo Marsh", "It opened on May 3rd, 1970 in Rome.", "another chunk may answer"),
        ("Cyril Orr", "Orr, by birth a Texan, came to Rome on 9 June 1980.", "another chunk may answer"),
        ("Cyril Orr (poet)", "Orr wrote poems in Rome.", "two pages of the name"),
    ],
)
def test_what_another_chunk_makes_doubtful_is_not_asked(title, text, reason):
    assert support((title, text)) == reason


@pytest.mark.parametrize(
    ("text", "is_free"),
    [
        ("Orr lives in Rome.", True),
        ("Orr was in Rome on 3 May 1970.", False),
        ("Orr, born in 1971, lives in Rome.", False),
        ("Orr lived in Rome for 1970 days.", False),
    ],
)
def test_unanswered_is_what_no_chunk_may_state(text, is_free):
    fact = fact_of(shown(("Cyril Orr", ACTOR))[0], "birth")
    chunks = [ShownChunk("Cyril Orr", text, ()), ShownChunk("Rome", "It is a city.", ())]
    assert is_unanswered(fact, "when was cyril orr born", chunks) == is_free


# --- rows


def sample_of(number, chunks, source="nq_open"):
    return {
        "id": f"{source}:{number}",
        "source": source,
        "question": f"what is question {number}",
        "evidence_chunks": [{"title": title, "text": text} for title, text in chunks],
        "answer": "Rome",
        "answer_aliases": ["Rome"],
        "answerable": True,
        "support_sets": [[0]],
        "support_spans": [0],
        "hard_negatives": list(range(1, len(chunks))),
        "group": f"{source}:{number}",
        "metadata": {"licence": "CC BY-SA 3.0", "difficulty": "easy"},
    }


def test_rows_ask_of_the_evidence_of_their_origin():
    sample = sample_of(1, [("Rome", "It is old."), ("Cyril Orr", ACTOR)])
    rows = question_rows([sample], seed=1).rows
    birth = next(row for row in rows if row["metadata"]["relation"] == "birth")
    assert birth["answer"] == "3 May 1970"
    assert birth["support_sets"] == [[1]]
    assert birth["evidence_chunks"] == sample["evidence_chunks"]
    assert birth["question"] == birth["question"].lower()
    assert birth["metadata"]["made"] == "question: template"
    # What is said of the origin's question is not said of the row's.
    assert "difficulty" not in birth["metadata"]


def test_only_sources_whose_questions_rest_on_one_chunk_are_asked_more():
    chunks = [("Rome", "It is old."), ("Cyril Orr", ACTOR)]
    asking = sample_of(1, chunks)
    two_hops = {**sample_of(2, chunks, source="hotpotqa"), "support_sets": [[0, 1]], "support_spans": [0, 1]}
    claim = sample_of(3, chunks, source="fever")
    claim["metadata"]["claim"] = "Rome is a city."
    rows = question_rows([asking, two_hops, claim], seed=1).rows
    assert rows
    assert {row["source"] for row in rows} == {"nq_open"}


def test_no_more_rows_than_asked_for_and_no_words_of_another_unit():
    chunks = [("Cyril Orr", ACTOR), ("The Long Road", FILM)]
    making = question_rows([sample_of(1, chunks), sample_of(2, chunks)], seed=1)
    answered = [row for row in making.rows if row["answerable"]]
    per_origin = [row["metadata"]["made_from"] for row in answered]
    assert max(map(per_origin.count, per_origin)) <= 4
    questions = [row["question"] for row in answered]
    assert len(questions) == len(set(questions))
    assert making.skipped["enough of its sample"]


def test_a_twin_is_asked_what_its_original_states():
    titles = [f"Orr{i} Lee{i}" for i in range(8)]
    pairs = []
    for i, title in enumerate(titles):
        states = (title, f"{title} (born {i + 1} May 19{10 + i}) is an American actor.")
        sample = sample_of(i, [states, ("Rome", "It is an old place.")])
        twin = {**sample_of(i, [(title, "Some like the voice."), ("Rome", "It is an old place.")])}
        twin |= {"id": f"nq_open:{i}:unanswerable", "metadata": {"twin_of": sample["id"]}}
        pairs += [sample, twin]
    rows = question_rows(pairs, seed=1).rows
    unanswered = [row for row in rows if not row["answerable"]]
    assert unanswered
    assert all(row["answer"] == REFUSAL and row["support_sets"] == [] for row in unanswered)
    near = [row for row in unanswered if row["metadata"]["made_from"].endswith(":unanswerable")]
    assert near
    asked_of_originals = {row["question"] for row in rows if row["answerable"]}
    assert any(row["question"] in asked_of_originals for row in near)


def test_made_questions_are_valid_samples(samples, data_home, tmp_path):
    folder = data_home / "data/processed"
    splits = {name: read_samples(folder / f"{name}.jsonl") for name in ("train", "val", "test")}
    made = make_rows(["questions"], splits, seed=42)
    assert made.rows
    write_jsonl(tmp_path / "made.jsonl", made.rows)
    assert file_faults(tmp_path / "made.jsonl") == (len(made.rows), [])
    assert made.rows == make_rows(["questions"], splits, seed=42).rows
