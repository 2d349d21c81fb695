"""Scripts without spaces between words: answers are found as runs of characters, and whole builds work."""

import re
import unicodedata

import pytest

from evidence.paraphrase import answer_parts, stems
from tests.test_identity import build, write_rows
from utils.text import answer_pattern, holds_answer, split_sentences, tokenize, usable_aliases
from utils.writing_systems import run_pattern

ZH = "甲岛灯塔由工程师王甲明于1700年设计。它涂有两种颜色。"
TH = "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย"


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        (ZH, "王甲明", True),
        (ZH, "1700", True),
        (ZH, "1700年", True),
        (ZH, "王明", False),
        (ZH, "170", False),
        ("東京タワーは東京にある。", "タワー", True),
        ("東京タワーは東京にある。", "京東", False),
        (TH, "ประเทศไทย", True),
        # Another vowel sign is another word.
        (TH, "เมืองหลวิง", False),
        ("ວຽງຈັນເປັນນະຄອນຫຼວງ", "ວຽງຈັນ", True),
        ("ភ្នំពេញជារដ្ឋធានី", "ភ្នំពេញ", True),
        ("ရန်ကုန်မြို့", "ရန်ကုန်", True),
        # Korean has spaces, and its words stay whole.
        ("서울은 한국의 수도이다", "서", False),
        ("Tokyo (東京) is a city.", "東京", True),
        ("The film 東京Story ran.", "Story", True),
    ],
)
def test_an_answer_is_found_as_a_run_of_characters(text, answer, found):
    assert holds_answer(text, [answer]) is found
    assert bool(answer_pattern([answer]).search(text)) is found


@pytest.mark.parametrize("text", ["Café Müller, 1,047 km", "Straße 5", "서울 시청", "Москва_1", "naïve_x"])
def test_texts_of_other_scripts_have_the_words_they_had(text):
    plain = unicodedata.normalize("NFKC", text).lower()
    assert tokenize(text) == re.findall(r"\w+", plain.replace("1,047", "1047"))


@pytest.mark.parametrize("text", ["हिन्दी भाषा", "தமிழ் மொழி", "বাংলা ভাষা", "cafe\u0301x"])
def test_a_sign_of_a_vowel_is_a_part_of_its_word(text):
    assert tokenize(text) == unicodedata.normalize("NFKC", text).split()


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("पाती लिखी", "पिता", False),
        ("दिल टूटा", "दुल", False),
        ("राम और रमी", "रम", False),
        ("लेखक राम हैं।", "राम", True),
        ("في القَاهِرَة.", "القاهرة", True),
        ("في القاهرة.", "القَاهِرَة", True),
        ("אמר שָׁלוֹם לכולם", "שלום", True),
        ("في القاهرتين", "القاهرة", False),
    ],
)
def test_another_vowel_is_another_word_and_points_are_none(text, answer, found):
    assert holds_answer(text, [answer]) is found
    assert bool(answer_pattern([answer]).search(text)) is found


def test_punctuation_of_these_scripts_is_no_word():
    assert tokenize("「東」・京。") == ["東", "京"]
    assert tokenize("๏ ก฿ ๚") == ["ก"]


def test_a_pattern_keeps_words_whole_only_where_there_are_spaces():
    assert re.search(run_pattern(("new", "york")), "new,\n york")
    assert not re.search(run_pattern(("new", "york")), "newyork")
    assert answer_pattern(["York"]).search("Yorkshire") is None
    assert answer_pattern(["東京"]).search("在東京的")[0] == "東京"


def test_stems_are_pairs_of_characters():
    assert stems("王甲明 x") == {"王甲", "甲明", "x"}
    assert stems("明") == {"明"}
    assert answer_parts(["王甲明"], "王甲是谁") == {"甲明"}
    # A lone vowel sign has no stem, and no text has the empty one.
    assert "" not in stems("ก ่ ข")


def test_a_name_of_two_characters_is_an_alias():
    assert usable_aliases(["北京市", "北京", "京", "US"]) == ["北京市", "北京"]


def test_sentences_end_without_a_space():
    text = "它是红色的。“真的。”他说。2010年完工。"
    assert split_sentences(text) == ["它是红色的。", "“真的。”", "他说。", "2010年完工。"]
    # Closing marks at the end are no sentence.
    assert split_sentences("他说。「好。」") == ["他说。", "「好。」"]
    # An exclamation mark may be a part of a name.
    assert len(split_sentences("Go！プリンセス is a series.")) == 1


DIGITS = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"


def chinese_row(i):
    name = DIGITS[i]
    others = [
        f"{other}港位于避风的海湾。渔船每天早晨在那里卸货。" for other in (DIGITS[i - 1], DIGITS[i - 2])
    ]
    text = f"{name}岛灯塔位于低矮的海角。{name}岛灯塔由工程师王{name}明于{1700 + i}年设计。它涂有两种颜色。"
    return {
        "question": f"{name}岛灯塔的设计师是谁？",
        "answers": [f"王{name}明"],
        "positive_ctxs": [{"title": f"{name}岛灯塔", "text": text}],
        "hard_negative_ctxs": [{"title": other[:2], "text": other} for other in others],
    }


def test_a_chinese_build_verifies_support_and_negatives(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "zh.jsonl", [chinese_row(i) for i in range(len(DIGITS))])
    splits, audit = build(tmp_path, monkeypatch, {path: "any"})
    assert audit["rules_broken"] == []
    samples = [sample for split in splits.values() for sample in split]
    answerable = [sample for sample in samples if sample["answerable"]]
    assert len(answerable) == len(DIGITS)
    for sample in answerable:
        shown = [sample["evidence_chunks"][i]["text"] for i in sample["support_spans"]]
        assert all(sample["answer"] in text for text in shown)
