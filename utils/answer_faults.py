"""When an answer is right although it is not the accepted one word for word: what must not differ.

Enough shared words make an answer right unless a number, a date or a denial differs, an alternative is added,
one part is replaced by another, or the question is repeated. It sees two short texts, not the evidence:
"Warsaw, Krakow" reads like "Warsaw, Poland" (docs/metrics.md lists such limits).
"""

import re
from collections.abc import Iterable, Sequence

from utils.answer_forms import COORDINATORS, HARD, SOFT, AnswerForm, answer_form
from utils.numerals import is_number

# Forms of address: one of them added or left out changes no name, and does not count as a name's other part.
_TITLES = frozenset("mr mrs ms dr sir dame lord lady prof president senator st".split())
# Words that tell no two answers apart. Pronouns are not among them: titles use them ("Mad About You").
_FILLERS = frozenset(
    "a an and are as at be been being but by did do does for from had has have in into is of on or so than "
    "that the these this those to was were with about around approximately circa roughly year date".split()
)
# In front of a name they make another name: New Mexico is not Mexico, a vice president is no president.
_RENAMING = frozenset(
    "north south east west northern southern eastern western upper lower greater new vice deputy".split()
)
_RELATIVES = frozenset("wife husband father mother son daughter brother sister widow child parent".split())
# From the start of a word: tried from each letter of a very long one, it would take hours.
_OWNED = re.compile(r"(?<![^\W\d_])([^\W\d_]+)'s\s+([^\W\d_]+)", re.IGNORECASE)
_AROUND = ".,;:!?\"'“”‘’ "
_ASKING = frozenset("what when where which who whom whose why how".split())


def is_same(answer: str, alias: str) -> bool:
    """True for two spellings of one answer."""
    # Where capitals alone differ, none of them tells a numeral from a word.
    if _caseless(answer) == _caseless(alias) != "":
        return True
    given, wanted = _forms(answer, alias)
    # Signs alone ("∞") have no normal form.
    if not wanted.key:
        return answer.strip() == alias.strip()
    return given.key == wanted.key and _qualifier_fault(given, wanted) is None


def fault(answer: str, alias: str) -> str | None:
    """What makes an answer wrong whatever words it shares with an accepted one; None if nothing does."""
    given, wanted = _forms(answer, alias)
    problem = _qualifier_fault(given, wanted)
    if problem is None and _adds_alternative(given, wanted):
        problem = "an alternative is added"
    if problem is None and _replaces_part(given, wanted):
        problem = "a part is replaced"
    if problem is None and (_renames(given, wanted) or _renames(wanted, given)):
        problem = "one has an extra new, vice or north"
    is_possessive = "'s" in alias.replace("’", "'")
    if problem is None and not is_possessive and _is_of_another(answer, given, wanted):
        problem = "something or somebody of it is named"
    first = given.tokens[0] if given.tokens else ""
    if problem is None and first in _ASKING and first not in wanted.tokens:
        problem = "the question is repeated"
    return problem


def lists_only(answer: str, accepted: Sequence[str]) -> bool:
    """True if an answer joins several texts and each is an accepted one: "JFK or John F. Kennedy"."""
    parts = [" ".join(words) for words, _ in _parts(answer_form(answer).tokens) if words]
    if len(parts) < 2:
        return False
    return all(_is_accepted(part, accepted) for part in parts)


def _is_accepted(part: str, accepted: Sequence[str]) -> bool:
    return any(is_same(part, alias) for alias in accepted)


def _caseless(text: str) -> str:
    """Without capitals, spaces in a row, and marks around it."""
    return " ".join(text.casefold().split()).strip(_AROUND)


def _forms(answer: str, alias: str) -> tuple[AnswerForm, AnswerForm]:
    """Both normal forms. If one text has no capitals, or no others, the other's must not tell it more."""
    if any(text.islower() or (text.isupper() and " " in text) for text in (answer, alias)):
        return answer_form(answer.lower()), answer_form(alias.lower())
    return answer_form(answer), answer_form(alias)


def _qualifier_fault(given: AnswerForm, wanted: AnswerForm) -> str | None:
    """Numbers, dates and denials must be the same on both sides."""
    if given.numbers != wanted.numbers or given.bounds != wanted.bounds:
        return "the numbers differ"
    # A month is more than "1867" asks for; another month than the accepted one is another date.
    if wanted.months and given.months != wanted.months:
        return "the dates differ"
    return "only one of them denies" if given.denials != wanted.denials else None


def _content(tokens: Iterable[str]) -> list[str]:
    """Words that name something, each once, in order. Numbers are compared on their own."""
    found = []
    for token in dict.fromkeys(tokens):
        if not (token in _FILLERS or is_number(token) or token in COORDINATORS or token in (HARD, SOFT)):
            found.append(token)
    return found


# --- alternatives


def _parts(tokens: Sequence[str]) -> list[tuple[list[str], bool]]:
    """(words, whether a coordinator or a list mark joins this part to the one before) of each part."""
    parts: list[tuple[list[str], bool]] = [([], False)]
    for token in tokens:
        if token in COORDINATORS or token in (HARD, SOFT):
            # ", or" is one joint: the stronger of its two marks counts.
            was_hard = parts.pop()[1] if len(parts) > 1 and not parts[-1][0] else False
            parts.append(([], was_hard or token != SOFT))
        else:
            parts[-1][0].append(token)
    return parts


def _adds_alternative(given: AnswerForm, wanted: AnswerForm) -> bool:
    """True if a part of the answer is something else than the accepted answer, beside it.

    After a comma an addition usually says more about the same thing ("Warsaw, Poland"), so it must look like
    the accepted answer to count ("Barack Obama, Michelle Obama").
    """
    parts = _parts(given.tokens)
    if len(parts) == 1:
        return False
    if "or" in given.tokens and "or" not in wanted.tokens:
        return True
    accepted = set(_content(wanted.tokens))
    # Inside an accepted answer a coordinator joins two halves, and neither is an alternative.
    has_whole = any(accepted <= set(words) for words, _ in parts)
    is_list = any(is_hard for _, is_hard in parts)
    for words, _ in parts:
        content = set(_content(words))
        extra = content - accepted
        shares = bool(content & accepted)
        if extra and ((shares and has_whole and not accepted <= content) or (is_list and not shares)):
            return True
    return False


# --- replaced parts


def _replaces_part(given: AnswerForm, wanted: AnswerForm) -> bool:
    """True if each side has a word that the other lacks, and these are not the same name written shorter."""
    said = set(given.tokens)
    accepted = set(wanted.tokens)
    added = [word for word in _content(given.tokens) if word not in accepted]
    missing = [word for word in _content(wanted.tokens) if word not in said]
    if not added or not missing:
        return _replaces_a(given, wanted, added) or _replaces_a(wanted, given, missing)
    names_added = [word for word in added if word not in _forms_of_address(given)]
    names_missing = [word for word in missing if word not in _forms_of_address(wanted)]
    if not names_added or not names_missing:
        # One title for another: a lord is no lady.
        return not names_added and not names_missing
    if "".join(names_added) == "".join(names_missing):
        return False
    return not (_abbreviates(names_added, names_missing) or _abbreviates(names_missing, names_added))


def _forms_of_address(form: AnswerForm) -> frozenset[str]:
    """Titles in front of a name. The president of a country is an office, which names somebody else there.

    At the end a title is what somebody is, or a house or a street: a senator is no representative.
    """
    following = (*form.tokens[1:], "")
    before_names = (word for word, after in zip(form.tokens, following) if after not in ("of", ""))
    return _TITLES.intersection(before_names)


def _replaces_a(one: AnswerForm, other: AnswerForm, only_in_one: list[str]) -> bool:
    """True if one has a letter in place of the other's A: a B series is no A series."""
    return other.lacks_a and not one.lacks_a and any(len(word) == 1 for word in only_in_one)


def _renames(one: AnswerForm, other: AnswerForm) -> bool:
    """True if one text has a word in front of a shared one that makes it another name."""
    others = set(other.tokens)
    for word, following in zip(one.tokens, one.tokens[1:]):
        if word in _RENAMING and word not in others and following in others:
            return True
    return False


def _is_of_another(answer: str, given: AnswerForm, wanted: AnswerForm) -> bool:
    """True if the accepted answer is only whose relative or thing is named: "Barack Obama's wife"."""
    accepted = set(wanted.tokens)
    for owner, owned in _OWNED.findall(answer.replace("’", "'")):
        if owner.lower() in accepted and not accepted.issuperset(answer_form(owned).tokens):
            return True
    for word, preposition, following in zip(given.tokens, given.tokens[1:], given.tokens[2:]):
        is_relative = word in _RELATIVES and word not in accepted and preposition == "of"
        # "Michelle Obama, wife of Barack Obama" names both.
        if is_relative and following == wanted.tokens[0]:
            return True
    return False


def _abbreviates(short: list[str], long: list[str]) -> bool:
    """True if one token is the initials of the other words: `d` of `delano`, `jk` of `joanne k`."""
    return len(short) == 1 and short[0] == "".join(word[0] for word in long)
