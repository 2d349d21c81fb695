"""How many rows are drawn and verified: as many as are wanted, in an order that no file decides."""

from collections import defaultdict

from evidence.chunks import PagePool
from evidence.drops import SPARE_REASON, DroppedRows
from evidence.records import Passage, Record
from evidence.verification import draw_rank, verify_support
from sources import draw

PAGE = {"Moon": ["The moon is made of rock."]}


def row(i, answer="rock"):
    passages = (Passage("Moon", ("The moon is made of rock.",), is_gold=True),)
    return Record(f"own:{i}", "own", "what is the moon made of", (answer,), True, "any", passages=passages)


def verify(records, n_wanted):
    drops = defaultdict(DroppedRows)
    supports, short = verify_support(records, PagePool(PAGE, 80), n_wanted, 42, drops)
    return [support.record.id for support in supports], short, drops["own"]


def test_rows_that_fail_are_replaced_by_spare_ones():
    records = [row(i, "cheese" if i % 2 else "rock") for i in range(40)]
    ids, short, drops = verify(records, 10)
    assert len(ids) == 10
    assert short == []
    assert drops[SPARE_REASON] + drops["answer not verified in any chunk"] == 30
    # The first ones in the random order, returned in file order.
    good = sorted(ids, key=lambda row_id: draw_rank(42, row_id))
    wanted = sorted(
        (r.id for r in records if r.answers == ("rock",)), key=lambda row_id: draw_rank(42, row_id)
    )
    assert good == wanted[:10]
    assert ids == sorted(ids, key=lambda row_id: int(row_id.split(":")[1]))


def test_a_source_with_too_few_verified_rows_says_so_with_its_reasons():
    _, short, _ = verify([row(i, "cheese" if i % 3 else "rock") for i in range(30)], 20)
    assert short == ["own: only 10 of 30 rows verified (dropped: answer not verified in any chunk 20)"]


def test_a_short_file_that_loses_a_few_rows_is_no_news():
    ids, short, drops = verify([row(i, "rock" if i else "cheese") for i in range(10)], 2500)
    assert len(ids) == 9
    assert short == []
    assert SPARE_REASON not in drops


def test_all_rows_are_tried_without_a_limit():
    ids, _, drops = verify([row(i) for i in range(10)], 0)
    assert len(ids) == 10
    assert not drops


def test_more_rows_are_drawn_where_evidence_has_to_be_found(tmp_path, monkeypatch):
    for with_evidence, n_drawn in ((True, 20), (False, 40)):
        passages = (Passage("Moon", ("Rock.",)),) if with_evidence else ()
        rows = []
        for i in range(100):
            rows.append(Record(f"own:{i}", "own", f"what is {i}", (f"a{i}",), True, "any", passages=passages))
        monkeypatch.setattr(
            draw, "reader_of", lambda source, rows=rows: lambda path, split, on_bad: iter(rows)
        )
        drawn = draw.draw_records("own", [(tmp_path, {})], 10, 42, print, DroppedRows())
        assert len(drawn) == n_drawn
        first = sorted(rows, key=lambda record: draw_rank(42, record.id))[:10]
        assert {record.id for record in first} <= {record.id for record in drawn}
