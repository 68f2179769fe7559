"""The page of `assay drift report`: one file of HTML, nothing fetched, no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from assay.cli.drift_svg import NOW_COLOUR, THEN_COLOUR, Bin, bars, bin_labels
from assay.cli.drift_words import alert_verdict, bins_verdict, duration_text, score_verdict, why_nothing

if TYPE_CHECKING:
    from assay.v1.drift_pb2 import BinsDrift, GetDriftResponse

# Bins of the score that are drawn a second time, larger: those above this share of the baseline.
_TAIL_SHARE = 0.05

_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }}
body {{ max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }} h2 {{ font-size: 1.15rem; margin: 2rem 0 .3rem; }} h3 {{ font-size: 1rem; margin: 0; }}
p {{ margin: .3rem 0; }} .small {{ color: #555; font-size: .87rem; }}
table {{ border-collapse: collapse; margin: .5rem 0; }}
th, td {{ text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e3e6ea; }}
th:first-child, td:first-child, td:last-child {{ text-align: left; }}
figure {{ margin: 1.2rem 0; overflow-x: auto; }} svg {{ max-width: 100%; height: auto; }}
.quiet {{ color: #2a6b45; }} .notable {{ color: #8a5a00; font-weight: 600; }} .loud {{ color: #b3261e; font-weight: 600; }}
.key {{ display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; }}
.then {{ background: {THEN_COLOUR}; }} .now {{ background: {NOW_COLOUR}; }}
.inputs {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 0 2rem; }}
@media (max-width: 620px) {{ .inputs {{ grid-template-columns: 1fr; }} }}
"""


def drift_page(answer: GetDriftResponse) -> str:
    """The whole file. Everything that a server said is shown as text."""
    made_by = answer.provenance
    title = escape(f"Drift of {made_by.model} {made_by.version}")
    seconds = answer.window_duration.ToNanoseconds() / 1e9
    ends = answer.window_end_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="small">{answer.window_scores:,} scores in the {duration_text(seconds)} before {ends}, '
        f"against a baseline of {answer.baseline_rows:,} rows</p>",
    ]
    if missing := why_nothing(answer):
        parts.append(f'<p class="notable">No values yet: {escape(missing)}.</p>')
    else:
        parts.append(_summary(answer))
    if answer.baseline_rows and answer.window_scores:
        parts += [_score(answer), _inputs(answer)]
    return "\n".join([*parts, "</body></html>\n"])


# --- implementation ---


def _summary(answer: GetDriftResponse) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.decision)}</td><td>{one.baseline_rate:.3%}</td>"
        f"<td>{one.window_alerts / answer.window_scores:.3%}</td><td>{one.ratio:.2f}</td>"
        f"<td>{one.ratio_low:.2f} to {one.ratio_high:.2f}</td><td>{_said(*alert_verdict(one))}</td></tr>"
        for one in answer.alerts
    )
    both = f"PSI {answer.score_psi:.3f} over all bins, {answer.score_decile_psi:.3f} over the deciles"
    return (
        f"<p><b>Prediction drift {answer.prediction_drift_score:.3f}</b>: {_said(*score_verdict(answer))} "
        f'<span class="small">({both})</span></p>'
        "<h2>Decisions</h2>"
        '<p class="small">Share of scores at or above each threshold. By chance: 99.9 % of windows this large, '
        "if nothing had changed.</p>"
        "<table><tr><th>decision</th><th>baseline</th><th>now</th><th>ratio</th><th>by chance</th><th></th></tr>"
        f"{rows}</table>"
    )


def _score(answer: GetDriftResponse) -> str:
    bins = _bins(answer.score, answer)
    tail = [one for index, one in enumerate(bins) if sum(rest.then for rest in bins[index:]) < _TAIL_SHARE]
    figures = f"<figure>{bars(bins, 'score')}</figure>"
    if 0 < len(tail) < len(bins):
        figures += f"<h3>Its upper end, larger</h3><figure>{bars(tail, 'the highest scores')}</figure>"
    return f'<h2>Score</h2><p class="small">Share of rows in each bin.{_KEY}</p>{figures}'


def _inputs(answer: GetDriftResponse) -> str:
    """The loudest first; those that follow the clock last."""
    ordered = sorted(answer.inputs, key=lambda one: (one.follows_clock, -one.psi))
    figures = "".join(
        f"<div><h3>{escape(one.name)}</h3><p>{_psi(one)} {_said(*bins_verdict(one))}</p>"
        f'<p class="small">{_absent(one, answer)}</p><figure>{bars(_bins(one, answer), one.name)}</figure></div>'
        for one in ordered
    )
    return f'<h2>Inputs of the model</h2><p class="small">The furthest first.{_KEY}</p><div class="inputs">{figures}</div>'


_KEY = '<span class="key then"></span>baseline<span class="key now"></span>now'


def _psi(one: BinsDrift) -> str:
    return f"PSI {one.psi:.3f}:" if one.HasField("psi") else ""


def _absent(one: BinsDrift, answer: GetDriftResponse) -> str:
    """Of values that are not there."""
    said = []
    if one.window_nulls or one.baseline_nulls:
        then, now = one.baseline_nulls / answer.baseline_rows, one.window_nulls / answer.window_scores
        said.append(f"null in {now:.2%} of rows, {then:.2%} of the baseline's")
    if one.window_imputed:
        said.append(f"imputed in {one.window_imputed / answer.window_scores:.2%} of rows")
    return "; ".join(said)


def _said(loudness: str, words: str) -> str:
    return f'<span class="{loudness}">{escape(words)}</span>'


def _bins(one: BinsDrift, answer: GetDriftResponse) -> list[Bin]:
    """Those that hold anything, then or now; nulls last."""
    labels = [*bin_labels(one.edges), "null"]
    then, now = [*one.baseline_counts, one.baseline_nulls], [*one.window_counts, one.window_nulls]
    return [
        Bin(label, count_then / answer.baseline_rows, count_now / answer.window_scores)
        for label, count_then, count_now in zip(labels, then, now, strict=True)
        if count_then or count_now
    ]
