"""What `assay explain` shows on a terminal. Names and texts of others move no cursor and are no markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from assay.cli.explain_bars import Bar, Chart, Kind, cut, importance_chart, waterfall
from assay.cli.explain_told import METHOD_WORDS, STATUS_WORDS, Importance, Told, method_word
from assay.cli.output import answers, plain, plain_text

if TYPE_CHECKING:
    from assay.v1.scoring_pb2 import Explanation, Reason

_BAR_WIDTHS: Final = (12, 56)  # least and most letters of a bar's column
_STYLES: Final = {Kind.LEVEL: "bold", Kind.RAISES: "red", Kind.LOWERS: "green", Kind.MATTERS: "cyan"}
_DECISION_STYLES: Final = {"approve": "green", "challenge": "yellow", "review": "yellow", "decline": "red"}


def print_told(told: Told) -> None:
    """The waterfall, the reasons and where they come from. Of a score without an explanation: what became of it."""
    found = told.explanation
    table = _facts()
    table.add_row("of", plain_text(told.subject))
    score = Text("none (no model scored)" if told.score is None else repr(told.score), "bold")
    if told.decision:
        score.append(f"  {plain(told.decision).upper()}", f"bold {_DECISION_STYLES.get(told.decision, 'default')}")
    table.add_row("score", score)
    table.add_row("model", plain_text(f"{told.model} {told.version}".strip() or "none"))
    if found is not None:
        _add_origin(table, method_word(found.method), found.background_sha256)
        table.add_row("residual", f"{found.residual:.2g} [dim](by which base and contributions miss the margin)[/]")
    answers.print(table)
    if found is None:
        return
    print_chart(waterfall(told))
    _print_reasons(found, is_by_input=told.is_by_input)


def print_importance(importance: Importance) -> None:
    table = _facts()
    of = f"{importance.rows:,} of {importance.rows_in_file:,} rows of {importance.file}"
    table.add_row("of", plain_text(of))
    table.add_row("model", plain_text(f"{importance.model} {importance.version}"))
    _add_origin(table, importance.method, importance.background_sha256)
    if importance.rows_withheld:
        table.add_row(
            "withheld", f"[yellow]{importance.rows_withheld:,} rows[/], whose explanations did not add up to their scores"
        )
    answers.print(table)
    print_chart(importance_chart(importance))


def status_line(told: Told) -> str:
    """What became of the explanation, where there is none."""
    unknown = f"its status is {told.status}, which this version does not know"
    return f"there is no explanation: {STATUS_WORDS.get(told.status, unknown)}"


def print_chart(chart: Chart) -> None:
    """Each bar on a line, its numbers beside it. A bar that is not nothing is seen, however short."""
    low, high = chart.span
    labels = [cut(bar.label) for bar in chart.bars]
    width = _bar_width(chart, labels)
    table = Table(title=plain_text(chart.title, "table.title"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in chart.columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(plain_text(chart.axis), no_wrap=True, width=width)
    for label, bar in zip(labels, chart.bars, strict=True):
        style = "bold" if bar.kind is Kind.LEVEL else ""
        table.add_row(Text(label, style), *(Text(cell, style) for cell in bar.cells), _drawn(bar, low, high, width))
    answers.print()
    answers.print(table)


# --- implementation ---


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _add_origin(table: Table, method: str, background_sha256: str) -> None:
    table.add_row("method", plain_text(METHOD_WORDS.get(method, f"{method or 'not said'}, which this version does not know")))
    table.add_row("background", plain_text(f"sha256 {background_sha256[:16] or 'not said'}", "dim"))


def _bar_width(chart: Chart, labels: list[str]) -> int:
    """What the other columns leave of the terminal."""
    taken = max(map(cell_len, labels), default=0) + 4
    for index, column in enumerate(chart.columns):
        taken += max(cell_len(column), *(cell_len(bar.cells[index]) for bar in chart.bars)) + 2
    least, most = _BAR_WIDTHS
    return max(least, min(most, answers.width - taken))


def _drawn(bar: Bar, low: float, high: float, width: int) -> Text:
    """In halves of a letter, where the terminal has such letters."""
    has_blocks = answers.encoding.startswith("utf")
    halves = 2 if has_blocks else 1
    places = halves * width
    begin, end = sorted(round((place - low) / (high - low) * (places - 1)) for place in (bar.start, bar.end))
    if bar.kind is Kind.LEVEL:
        return Text(" " * (begin // halves) + ("│" if has_blocks else "|"), _STYLES[bar.kind])
    if bar.start == bar.end:
        return Text()
    end = max(end, begin + 1)
    if not has_blocks:
        return Text(" " * begin + "#" * (end - begin), _STYLES[bar.kind])
    left, right = begin % 2, end % 2
    full = (end - right - begin - left) // 2
    return Text(" " * (begin // 2) + "▐" * left + "█" * full + "▌" * right, _STYLES[bar.kind])


def _print_reasons(found: Explanation, *, is_by_input: bool) -> None:
    answers.print()
    if not found.reasons:
        answers.print(Text(f"no reasons: {_why_no_reasons(found, is_by_input=is_by_input)}", "dim"))
        return
    answers.print(plain_text(f"Reasons, the strongest first (table {found.reasons_version})", "table.title"))
    for reason in found.reasons:
        _print_reason(reason)


def _print_reason(reason: Reason) -> None:
    whose = f"  {reason.player} {reason.contribution:+.3g}" if reason.player else ""
    answers.print(plain_text(reason.code, "bold").append_text(plain_text(whose, "dim")))
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(
        "for analysts",
        plain_text(reason.analyst_text) if reason.analyst_text else Text("not known: the bundle has the texts (--bundle)", "dim"),
    )
    if reason.analyst_text:
        may_be_told = plain_text(reason.customer_text) if reason.customer_text else Text("nothing", "yellow")
        table.add_row("may be told to the customer", may_be_told)
    answers.print(table)


def _why_no_reasons(found: Explanation, *, is_by_input: bool) -> str:
    if is_by_input:
        return "they are told of groups (--players groups)"
    if not found.reasons_version:
        return "the bundle has no table of reasons"
    return "nothing that the table has words for pushes the risk up"
