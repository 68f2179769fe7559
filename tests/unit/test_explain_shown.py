"""What `assay explain` draws of an explanation: the numbers, in a terminal, a picture and a page; and names that mean harm."""

from __future__ import annotations

import math
import random
import re
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from assay.cli.explain_bars import Chart, Kind, importance_chart, waterfall
from assay.cli.explain_page import importance_page, told_page
from assay.cli.explain_players import TOP_K_MAX
from assay.cli.explain_server import told_of
from assay.cli.explain_svg import drawing
from assay.cli.explain_told import STATUS_WORDS, Importance, Mean, Told, document
from assay.cli.explain_view import print_chart, print_importance, print_told, status_line
from assay.cli.output import answers
from assay.errors import InputError
from assay.explain.messages import shortened
from assay.v1 import scoring_pb2
from assay.v1.scoring_pb2 import Contribution, Explanation, Reason

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "[bold red]x[/][/x]",
    "</text></svg></title><script>alert(1)</script>",
    "'\" onload=alert(1) x='",
    "$\\frac{$ $x^$",
    "\u202eback\u200b\nline\r\x9b2J",
    "数é😀" * 40,
    "&lt;img src=x onerror=alert(1)&gt;",
)


def make(values: dict[str, float], *, base: float = -4.0, is_probability: bool = True, error: float = 0.0) -> Told:
    """As a server tells it, strongest first."""
    margin = base + sum(values.values())
    score, base_score = (1 / (1 + math.exp(-margin)), 1 / (1 + math.exp(-base))) if is_probability else (margin, base)
    per_margin = (score - base_score) / (margin - base) if margin != base else 0.0
    parts = [
        Contribution(player=name, contribution=value, standard_error=error, score_contribution=value * per_margin)
        for name, value in sorted(values.items(), key=lambda item: -abs(item[1]))
    ]
    found = Explanation(
        method=scoring_pb2.EXPLANATION_METHOD_TREES,
        background_sha256="ab" * 32,
        base_margin=base,
        margin=margin,
        base_score=base_score,
        contributions=parts,
        reasons_version="1",
    )
    return Told("server", "card_fraud", "1", score, "decline", "given", found, transaction_id="t")


def random_told(rng: random.Random) -> Told:
    size = 10 ** rng.uniform(-3, 1)
    values = {f"input_{number}": rng.gauss(0, size) for number in range(rng.randint(1, 30))}
    return make(values, base=rng.gauss(0, 3), is_probability=rng.random() < 0.5)


# --- the numbers


def test_each_bar_begins_where_the_one_before_ended_and_the_last_is_at_the_score(rng: random.Random) -> None:
    for _ in range(100):
        told = random_told(rng)
        assert told.explanation is not None
        shown = shortened(told.explanation, rng.randint(1, 30))
        bars = waterfall(Told(**{**vars(told), "explanation": shown})).bars
        assert (bars[0].kind, bars[-1].kind) == (Kind.LEVEL, Kind.LEVEL)
        assert (bars[0].start, bars[-1].start) == (shown.base_margin, shown.margin)
        for before, bar in pairwise(bars[:-1]):
            assert bar.start == before.end
            assert bar.kind is (Kind.RAISES if bar.end > bar.start else Kind.LOWERS)
        assert bars[-2].end == pytest.approx(shown.margin, abs=1e-9)


def test_what_is_not_listed_is_in_the_rest() -> None:
    told = make({"a": 2.0, "b": -1.0, "c": 0.5, "d": 0.25})
    assert told.explanation is not None
    told.explanation.rest_contribution = 0.125
    told.explanation.reasons.extend(Reason(code=f"R{number}") for number in range(9))
    shown = shortened(told.explanation, 2)
    assert [one.player for one in shown.contributions] == ["a", "b"]
    assert shown.rest_contribution == 0.875
    assert len(shown.reasons) == 4  # of a server that keeps to no contract
    assert len(told.explanation.contributions) == 4  # it is left as it was
    labels = [bar.label for bar in waterfall(Told(**{**vars(told), "explanation": shown})).bars]
    assert labels == ["base: the background's mean", "a", "b", "all others together", "score"]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e308])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    for change in (
        lambda found: setattr(found, "base_margin", wrong),
        lambda found: setattr(found, "rest_contribution", wrong),
        lambda found: setattr(found.contributions[0], "contribution", wrong),
        lambda found: setattr(found.contributions[0], "standard_error", wrong),
        lambda found: found.reasons.add(contribution=wrong),
    ):
        told = make({"a": 1.0})
        change(told.explanation)
        assert told.explanation is not None
        with pytest.raises(InputError, match="no number"):
            shortened(told.explanation, 5)


def test_columns_are_those_that_say_something() -> None:
    assert waterfall(make({"a": 1.0})).columns == ("margin", "score")
    assert waterfall(make({"a": 1.0}, is_probability=False)).columns == ("margin",)
    assert waterfall(make({}, is_probability=False)).columns == ("margin",)
    estimated = waterfall(make({"a": 1.0}, error=0.25))
    assert estimated.columns == ("margin", "std. error", "score")
    assert estimated.bars[1].cells[:2] == ("+1.000", "0.25")
    assert estimated.bars[0].cells[1] == ""


def test_the_value_of_an_input_stands_with_its_name() -> None:
    told = Told(**{**vars(make({"amount": 1.0, "group": 0.5})), "values": {"amount": "57.16"}})
    assert [bar.label for bar in waterfall(told).bars[1:3]] == ["amount = 57.16", "group"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(1e-7, "+1.000e-07"), (0.001234567, "+0.001235"), (2.5, "+2.500"), (12_345.6, "+12346"), (1e12, "+1.000e+12")],
)
def test_numbers_are_written_by_their_size(size: float, text: str) -> None:
    assert waterfall(make({"a": size}, base=0.0, is_probability=False)).bars[1].cells == (text,)


def test_an_axis_has_a_length_whatever_is_on_it() -> None:
    for values, base in (({}, 0.0), ({"a": 0.0}, 3.0), ({"a": 1e-30}, 1e30), ({"a": 1e90}, 0.0)):
        low, high = waterfall(make(values, base=base, is_probability=False)).span
        assert low <= base <= high
        assert high - low > 0


# --- a terminal


def printed(show: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    show()
    text = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in text)
    return text


def drawn(chart: Chart, capsys: pytest.CaptureFixture[str]) -> list[tuple[int, int]]:
    """First and last column of each line's bar."""
    lines = printed(lambda: print_chart(chart), capsys).splitlines()[-len(chart.bars) :]
    found = [re.search("[│▐█▌|#]+", line) for line in lines]
    return [(match.start(), match.end()) if match else (0, 0) for match in found]


def test_bars_in_a_terminal_are_where_the_numbers_are(rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(50):
        chart = waterfall(random_told(rng))
        low, high = chart.span
        columns = drawn(chart, capsys)
        first, last = min(begin for begin, _ in columns), max(end for _, end in columns)
        scale = (last - first) / (high - low)
        for (begin, end), bar in zip(columns, chart.bars, strict=True):
            assert end > begin, "however short, it is seen"
            assert begin - first == pytest.approx((min(bar.start, bar.end) - low) * scale, abs=1.6)
            assert end - first == pytest.approx((max(bar.start, bar.end) - low) * scale, abs=1.6)


def test_a_terminal_without_such_letters_gets_others(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(answers), "encoding", "ascii")
    text = printed(lambda: print_chart(waterfall(make({"a": 1.0, "b": -0.5}, error=0.1))), capsys)
    assert text.isascii()
    assert "##" in text


def test_an_answer_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_width", 60)
    text = printed(lambda: print_told(make({"customer_amount_avg_30d": 1.0, "数数数": -0.5})), capsys)
    assert max(map(len, text.splitlines())) <= 60
    assert "█" in text


# --- what became of it


@pytest.mark.parametrize("number", [*scoring_pb2.ExplanationStatus.values(), 99])
def test_every_status_has_words_and_a_mend(number: int) -> None:
    answer = scoring_pb2.ScoreResponse(transaction_id="t", score=0.5, explanation_status=number)  # type: ignore[arg-type]
    told = told_of(answer, is_by_input=False, top_k=5)
    assert told.explanation is None  # also of one that is said to be given and is not there
    said = status_line(told)
    assert told.mend
    if number == 99:
        assert "number 99" in said
    else:
        assert said.endswith(STATUS_WORDS[told.status])
        assert told.status == scoring_pb2.ExplanationStatus.Name(number).removeprefix("EXPLANATION_STATUS_").lower().replace(  # type: ignore[arg-type]
            "unspecified", ""
        )


def test_numbers_of_newer_servers_are_shown_as_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    answer = scoring_pb2.ScoreResponse(transaction_id="t", decision=77, explanation_status=1)  # type: ignore[arg-type]
    answer.explanation.CopyFrom(make({"a": 1.0}).explanation)  # type: ignore[arg-type]
    answer.explanation.method = 55  # type: ignore[assignment]
    told = told_of(answer, is_by_input=False, top_k=5)
    text = printed(lambda: print_told(told), capsys)
    assert "number 55" in text
    assert "NUMBER 77" in text
    assert "none (no model scored)" in text
    assert document(told)["explanation"]["method"] == "number 55"


def test_a_customer_is_told_only_what_the_table_allows(capsys: pytest.CaptureFixture[str]) -> None:
    told = make({"amount": 1.0})
    assert told.explanation is not None
    told.explanation.reasons.add(
        code="A", player="amount", contribution=1.0, analyst_text="look here", customer_text="it was unusual"
    )
    told.explanation.reasons.add(code="B", player="risk", contribution=0.5, analyst_text="the terminal")
    text = printed(lambda: print_told(told), capsys)
    assert re.search(r"A +amount \+1\n +for analysts +look here *\n +may be told to the customer +it was unusual", text)
    assert re.search(r"B +risk \+0.5\n +for analysts +the terminal *\n +may be told to the customer +nothing", text)
    page = told_page(told)
    assert "<dt>may be told to the customer</dt><dd class='told'>it was unusual</dd>" in page
    assert "<dt>may be told to the customer</dt><dd class='told'>nothing</dd>" in page


def test_where_there_are_no_reasons_it_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    told = make({"a": 1.0})
    assert told.explanation is not None
    assert "nothing that the table has words for" in printed(lambda: print_told(told), capsys)
    assert "--players groups" in printed(lambda: print_told(Told(**{**vars(told), "is_by_input": True})), capsys)
    told.explanation.reasons_version = ""
    assert "the bundle has no table" in printed(lambda: print_told(told), capsys)


# --- pictures and pages


def test_bars_of_a_drawing_are_where_the_numbers_are(rng: random.Random) -> None:
    for _ in range(50):
        chart = waterfall(random_told(rng))
        low, high = chart.span
        tree = ElementTree.fromstring(drawing(chart))
        rects = list(tree.iter(f"{SVG}rect"))
        assert len(rects) == len(chart.bars)
        for rect, bar in zip(rects[1:-1], chart.bars[1:-1], strict=True):
            length = 440 * abs(bar.end - bar.start) / (high - low)
            assert float(rect.get("width", "")) == pytest.approx(max(length, 1.5), abs=0.06)
            assert float(rect.get("x", "")) == pytest.approx(330 + 440 * (min(bar.start, bar.end) - low) / (high - low), abs=0.06)


class Tags(HTMLParser):
    """The tags of a page and the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_told(text: str) -> Told:
    told = make({text: 1.0, "b": -0.5})
    assert told.explanation is not None
    told.explanation.background_sha256 = text
    told.explanation.reasons_version = text
    told.explanation.reasons.add(code=text, player=text, contribution=1.0, analyst_text=text, customer_text=text)
    changes = {"transaction_id": text, "model": text, "version": text, "decision": text, "values": {text: text, "b": text}}
    return Told(**{**vars(told), **changes})


def hostile_importance(text: str) -> Importance:
    return Importance(text, text, text, 2, 3, 1, text, text, 0.5, [Mean(text, 1.0, -0.5), Mean("b", 0.5, 0.5)], 0.25, 5, False)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_that_mean_harm_are_text(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    harmless = Tags(told_page(hostile_told("a")))
    told, importance = hostile_told(text), hostile_importance(text)
    for show in (lambda: print_told(told), lambda: print_importance(importance)):
        printed(show, capsys)  # looks at every letter
    for chart in (waterfall(told), importance_chart(importance)):
        assert ElementTree.fromstring(drawing(chart)).tag == f"{SVG}svg"
    for page in (told_page(told), importance_page(importance)):
        found = Tags(page)
        assert found.tags <= harmless.tags
        assert found.attributes <= harmless.attributes
        assert all(character.isprintable() or character == "\n" for character in page)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable() and len(text) <= 50])
def test_markup_stays_as_it_was_written(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in printed(lambda: print_told(hostile_told(text)), capsys)
    assert text in Tags(told_page(hostile_told(text))).text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_picture_is_made_of_any_name(text: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from assay.cli.explain_plot import write_plot

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plot(waterfall(hostile_told(text)), text, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_as_many_bars_as_there_may_be_are_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from assay.cli.explain_plot import write_plot

    told = make({f"input_{number}": (-1) ** number * 0.1 for number in range(TOP_K_MAX + 50)})
    assert told.explanation is not None
    told = Told(**{**vars(told), "explanation": shortened(told.explanation, TOP_K_MAX)})
    chart = waterfall(told)
    assert len(chart.bars) == TOP_K_MAX + 2  # with base and score; the others make up for each other
    write_plot(chart, "all", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert told_page(told).count("<rect") == len(chart.bars)
    assert len(drawn(chart, capsys)) == len(chart.bars)


def test_a_page_fetches_nothing_and_is_read_without_its_picture() -> None:
    told = make({"amount": 1.0, "risk": -0.25})
    page = told_page(told)
    found = Tags(page)
    assert not found.tags & {"script", "link", "img", "iframe"}
    assert not found.attributes & {"src", "href", "onload"}
    assert 'lang="en"' in page
    assert 'role="img"' in page
    for bar in waterfall(told).bars:  # each number of the picture stands in the table too
        assert (
            f"<tr><td>{bar.label.replace(chr(39), '&#x27;')}</td>{''.join(f'<td>{cell}</td>' for cell in bar.cells)}</tr>" in page
        )
