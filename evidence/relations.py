"""The words by which questions ask for a relation and texts state it, as groups of stems.

Short and by hand: a relation that is missing costs a question its support, a wrong one gives a wrong support.
"""

from evidence.paraphrase import stem

# Words of questions that the sentence with the answer need not contain, beyond those of `asked_stems`: what
# kind of thing the page is about, and words that only shape the question.
_FILLER_WORDS = (
    "movie song show film tv s r out up about both going supposed real different used mean meaning term over "
    "after original originally take based purpose"
)

# Words by which questions ask for a relation, and those by which texts state it: one of a group says all.
# Those of the first groups a page states as a whole, too: "a 1967 film by ..." tells who made it, and when.
_GROUPS_OF_PAGE = (
    "write wrote written author pen compose lyrics",
    "sing sang sung perform record vocals vocalist singer cover",
    "release premiere debut air publish open launch broadcast",
    "found establish create form start begin begun commence invent devise introduce make made develop work",
    "direct director produce producer",
    "build built construct",
    "own owner owned belong subsidiary",
    "locate situate",
)
_OTHER_GROUPS = (
    "play portray star cast role voice act actor actress character",
    "place set occur locate situate hold held host",
    "win won winner defeat victory champion beat",
    "end finish conclude last",
    "kill die died death murder",
    "marry married wife husband spouse",
    "lead leader head president captain chair",
    "us usa united american",
    "first 1st earliest oldest",
    "second 2nd 2",
    "third 3rd 3",
    "fourth 4th 4",
    "fifth 5th 5",
    "sixth 6th 6",
    "seventh 7th 7",
    "eighth 8th 8",
    "most largest highest record tallest biggest",
)


def _stems_of(group: str) -> frozenset[str]:
    return frozenset(stem(word) for word in group.split())


def _same_relation(groups: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Stem -> the stems of all its groups."""
    same: dict[str, frozenset[str]] = {}
    for parts in map(_stems_of, groups):
        for part in parts:
            same[part] = same.get(part, frozenset()) | parts
    return same


FILLERS = _stems_of(_FILLER_WORDS)
STATED_BY_PAGE = _stems_of(f"{' '.join(_GROUPS_OF_PAGE)} book novel album series band group game episode")

_SAME = _same_relation(_GROUPS_OF_PAGE + _OTHER_GROUPS)


def is_said(part: str, said: frozenset[str]) -> bool:
    """Whether a stem, or one by which texts state the same relation, is among the stems of a text."""
    return part in said or not said.isdisjoint(_SAME.get(part, frozenset()))
