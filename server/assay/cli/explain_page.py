"""The page of `assay explain --html`: one file of HTML, nothing fetched, no script. What others said is text."""

from __future__ import annotations

from html import escape
from typing import Final

from assay.cli.explain_bars import Chart, importance_chart, waterfall
from assay.cli.explain_svg import drawing
from assay.cli.explain_told import METHOD_WORDS, Importance, Told, method_word
from assay.cli.output import plain

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
p { margin: .3rem 0; } .small { color: #555; font-size: .87rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } td, dd, h1, h3 { overflow-wrap: anywhere; }
.facts th { white-space: nowrap; } .facts td { text-align: left; }
figure { margin: 1.2rem 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
dl { margin: .2rem 0; } dt { color: #555; } dd { margin: 0 0 .4rem 1.2rem; } .told { font-weight: 600; }
"""


def told_page(told: Told) -> str:
    """The whole file. REQUIRES: told.explanation."""
    found = told.explanation
    assert found is not None
    score = "none" if told.score is None else repr(told.score)
    facts = {
        "score": f"{score} {told.decision.upper()}",
        "model": f"{told.model} {told.version}",
        "method": METHOD_WORDS.get(method_word(found.method), method_word(found.method)),
        "background": f"sha256 {found.background_sha256}",
        "residual": f"{found.residual:.2g} (by which base and contributions miss the margin)",
    }
    read = (
        "A bar is what one player, an input or a group of inputs, adds to the model's score of this transaction, against the "
        "mean of the background rows. It says what the model looked at, and not what caused a fraud."
    )
    return _page(f"Why {told.subject} scores as it does", facts, waterfall(told), read, _reasons(told))


def importance_page(importance: Importance) -> str:
    """The whole file."""
    facts = {
        "rows": f"{importance.rows:,} explained of {importance.rows_in_file:,} in {importance.file}",
        "model": f"{importance.model} {importance.version}",
        "method": METHOD_WORDS.get(importance.method, importance.method),
        "background": f"sha256 {importance.background_sha256}",
    }
    if importance.rows_withheld:
        facts["withheld"] = f"{importance.rows_withheld:,} rows, whose explanations did not add up to their scores"
    read = (
        "A bar is the mean, over the rows, of what one player, an input or a group of inputs, adds to a score or takes from it. "
        "It says what the model looks at, and not what makes a fraud."
    )
    title = f"What matters to {importance.model} {importance.version}"
    return _page(title, facts, importance_chart(importance), read, "")


# --- implementation ---


def _page(title: str, facts: dict[str, str], chart: Chart, read: str, more: str) -> str:
    title = escape(plain(title))
    rows = "".join(f"<tr><th scope='row'>{name}</th><td>{escape(plain(value))}</td></tr>" for name, value in facts.items())
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{title}</h1><table class="facts">{rows}</table>',
        f'<h2>{escape(chart.title)}</h2><p class="small">{read}</p><figure>{drawing(chart)}</figure>',
        more,
        f"<h2>The same in numbers</h2>{_numbers(chart)}",
    ]
    return "\n".join([*filter(None, parts), "</main></body></html>\n"])


def _numbers(chart: Chart) -> str:
    """For those who do not see the picture, and to copy from."""
    heads = "".join(f"<th scope='col'>{escape(name)}</th>" for name in ("", *chart.columns))
    rows = "".join(
        f"<tr><td>{escape(bar.label)}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in bar.cells)}</tr>" for bar in chart.bars
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _reasons(told: Told) -> str:
    found = told.explanation
    assert found is not None
    if not found.reasons:
        return ""
    parts = [f"<h2>Reasons, the strongest first (table {escape(plain(found.reasons_version))})</h2>"]
    for reason in found.reasons:
        whose = f" {reason.player} {reason.contribution:+.3g}" if reason.player else ""
        parts.append(f"<h3>{escape(plain(reason.code))} <span class='small'>{escape(plain(whose))}</span></h3>")
        if reason.analyst_text:
            customer = reason.customer_text or "nothing"
            parts.append(f"<dl><dt>for analysts</dt><dd>{escape(plain(reason.analyst_text))}</dd>")
            parts.append(f"<dt>may be told to the customer</dt><dd class='told'>{escape(plain(customer))}</dd></dl>")
    return "".join(parts)
