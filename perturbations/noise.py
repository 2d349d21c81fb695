"""Noise in the texts of a sample. Gold and ids stay as they are.

Noise must leave the gold true. So what decides it stays: answers, names, numbers and their units, negations,
pronouns, the words that ask or compare, and, of word noise, every content word of the question and of what a
verdict is read from. These words are English, with the negations of some other languages. A word in another
script than the Latin one stays as it is: nobody mistypes it so.
"""

import random

from evidence.paraphrase import stem, stems
from evidence.queries import claim_of, query_of
from perturbations.distractors import known_answers
from utils.numerals import NUMBER_WORDS
from utils.schema import is_label_answer
from utils.text import STOP_WORDS, content_words, tokenize

# Latin letters with all their accents come before it.
_FIRST_OTHER_LETTER = "\u0250"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Small words that carry the truth of a claim or the sense of a question: changing them would change the gold.
_DECIDING = frozenset(
    # Negations.
    "not no never none neither nor without only cannot non nobody nothing nowhere hardly barely rarely yet "
    "except unless lack lacks lacked fail fails failed refuse refuses refused "
    # Quantities and order.
    "all every each any some most more less least few fewer many both either half once twice last "
    "same different other former latter hundred thousand million billion "
    # Who did it to whom, and when.
    "by from to than before after since until during into out under over up down between against for with "
    # What is asked.
    "who whom whose when where what which how why "
    # A letter makes another person of them.
    "he she him her his hers they them their theirs we us our you your "
    # Negations of other languages.
    "nicht kein keine keinen nie niemals ohne pas ne jamais sans ni nunca jamás sin não nem sem senza "
    "niet geen nooit ikke inte aldrig".split()
) | frozenset(NUMBER_WORDS)


# --- noise


def _answer_words(tokens: list[list[str]], answer: str) -> set[int]:
    """Indices of the words that together spell the answer. `tokens`: those of each word.

    One word can be several tokens, and the answer can begin inside of it: "Prussian" in "Franco-Prussian".
    """
    wanted = tokenize(answer)
    flat = [(token, i) for i, parts in enumerate(tokens) for token in parts]
    found: set[int] = set()
    for start in range(len(flat) - len(wanted) + 1):
        run = flat[start : start + len(wanted)]
        if [token for token, _ in run] == wanted:
            found |= {i for _, i in run}
    return found


def _has_capital(word: str) -> bool:
    """True for a name, and for the first word of a sentence: "May" and "Will" are names too."""
    return any(character.isupper() for character in word)


def _is_fixed(word: str, parts: list[str]) -> bool:
    """True for names, numbers, negations and other deciding words, and for other scripts.

    `parts` are the word's tokens.
    """
    if _has_capital(word) or not _DECIDING.isdisjoint(parts):
        return True
    if any(character.isalpha() and character >= _FIRST_OTHER_LETTER for character in word):
        return True
    plain = word.lower().replace("’", "'")
    return "n't" in plain or any(character.isdigit() for character in word)


def _protected(words: list[str], answers: list[str], spared: frozenset[str]) -> set[int]:
    """Indices of words that must stay: answers, deciding words, units, and those with a token in `spared`."""
    tokens = [tokenize(word) for word in words]
    kept = set()
    for i, word in enumerate(words):
        # "3 cm" is not 3 m.
        is_unit = i > 0 and words[i - 1][-1:].isdecimal()
        if is_unit or _is_fixed(word, tokens[i]) or not spared.isdisjoint(tokens[i]):
            kept.add(i)
    for answer in answers:
        kept |= _answer_words(tokens, answer)
    return kept


def _garble(word: str, rate: float, rng: random.Random) -> str:
    """Each letter with probability `rate` dropped, doubled, replaced, or swapped with the next."""
    letters = list(word)
    out = []
    i = 0
    while i < len(letters):
        if not letters[i].isalpha() or rng.random() >= rate:
            out.append(letters[i])
        else:
            # Kind 0 drops the letter.
            kind = rng.randrange(4)
            if kind == 1:
                out += [letters[i], letters[i]]
            elif kind == 2:
                out.append(rng.choice(_LETTERS))
            elif kind == 3 and i + 1 < len(letters):
                out += [letters[i + 1], letters[i]]
                i += 1
        i += 1
    return "".join(out)


def _shuffle_words(words: list[str], kept: set[int], rate: float, rng: random.Random) -> list[str]:
    """Each word that is not kept, with probability `rate`, dropped, doubled, or swapped with the next."""
    out = []
    i = 0
    while i < len(words):
        if i in kept or rng.random() >= rate:
            out.append(words[i])
        else:
            # Kind 0 drops the word; so does kind 2 where the next word must stay.
            kind = rng.randrange(3)
            if kind == 1:
                out += [words[i], words[i]]
            elif kind == 2 and i + 1 < len(words) and i + 1 not in kept:
                out += [words[i + 1], words[i]]
                i += 1
        i += 1
    return out


def _garbled_word(word: str, rate: float, rng: random.Random) -> str:
    """The word with garbled letters, but never none of them, nor another word that decides ("hot": "not")."""
    garbled = _garble(word, rate, rng)
    is_safe = bool(garbled.strip()) and _DECIDING.isdisjoint(tokenize(garbled))
    return garbled if is_safe else word


def noisy_text(
    text: str,
    kind: str,
    rate: float,
    answers: list[str],
    rng: random.Random,
    spared: frozenset[str] = frozenset(),
) -> str:
    """The text with noise of a kind, `char` (letters) or `word`, at `rate` (0-1) of what decides nothing.

    Answers, names, numbers, deciding words and the tokens in `spared` stay.
    """
    words = text.split(" ")
    kept = _protected(words, answers, spared)
    if kind == "char":
        return " ".join(w if i in kept else _garbled_word(w, rate, rng) for i, w in enumerate(words))
    noisy = " ".join(_shuffle_words(words, kept, rate, rng))
    # A text must not become empty: the rules of a sample forbid an empty chunk.
    return noisy if noisy.strip() else text


def _names(texts: list[str]) -> frozenset[str]:
    """Tokens that a text writes with a capital: questions of NQ write the same names without."""
    found: set[str] = set()
    for text in texts:
        for word in filter(_has_capital, text.split()):
            found.update(tokenize(word))
    return frozenset(found) - STOP_WORDS


def _read_from(text: str, question: str, is_verdict: bool) -> frozenset[str]:
    """Content words of a support text that a reader needs: those of the question, of a verdict's text all."""
    asked = stems(question)
    return frozenset(word for word in content_words(text) if is_verdict or stem(word) in asked)


def add_noise(sample: dict, kind: str, rate: float, seed: int) -> dict:
    """The sample with noise in its question or claim and in the text of every chunk; the gold stays true.

    Letters of names stay. In the question and, of a verdict, in the support, only function words are dropped,
    doubled or moved.
    """
    answers = known_answers(sample)
    is_verdict = bool(claim_of(sample)) or bool(answers) and is_label_answer(answers[0])
    if is_verdict:
        answers = []
    rng = random.Random(f"{seed}:{sample['id']}:{kind}")
    question = query_of(sample)
    texts = [chunk["text"] for chunk in sample["evidence_chunks"]]
    names = _names([question, *texts])

    asked = names | set(content_words(question)) if kind == "word" else names
    noisy_question = noisy_text(question, kind, rate, answers, rng, asked)
    chunks = []
    for i, chunk in enumerate(sample["evidence_chunks"]):
        is_read = kind == "word" and i in sample["support_spans"]
        spared = names | _read_from(texts[i], question, is_verdict) if is_read else names
        chunks.append({**chunk, "text": noisy_text(texts[i], kind, rate, answers, rng, spared)})
    # Of a claim, the question around it is the instruction, in which nobody makes a mistake.
    whole = sample["question"].replace(question, noisy_question)
    metadata = sample["metadata"]
    if metadata.get("claim"):
        metadata = {**metadata, "claim": noisy_question}
    return {**sample, "question": whole, "evidence_chunks": chunks, "metadata": metadata}
