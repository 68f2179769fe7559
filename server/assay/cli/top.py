"""`assay top`: what a server does right now, from its metrics listener: /metrics and, for percentiles, /latencies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.options import JsonOption
from assay.cli.output import EXIT_UNHEALTHY, answers, fail, print_json

if TYPE_CHECKING:
    from assay.cli.top_page import Page

HINT = (
    "is a server running there? Its log line 'serving' says where its metrics are (metrics=...); "
    "it has none with metrics_listen=off, or if the port was busy when it started"
)


def top(
    metrics: Annotated[
        str, typer.Option(metavar="URL", help="The server's page of metrics: a URL, or HOST:PORT.")
    ] = "http://127.0.0.1:9464/metrics",
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=3600, help="Time between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a running server: rates, latencies by stage, batches, refusals, store, drift, audit, GPUs.

    Everything is read from the server's metrics listener: nothing else is asked of it. What is shown happened between two looks.
    With --json each look is one document, to standard output. Ctrl-C ends it.

    Examples:

        assay top

        assay top --metrics 10.0.0.5:9464 --interval 10

        assay top --once --json
    """
    from assay.cli.top_page import UnreachableError, fetch, page_url

    url = page_url(metrics)
    try:
        first = fetch(url)
    except UnreachableError as error:
        fail(str(error), EXIT_UNHEALTHY, HINT)
    if once:
        _once(url, first, interval, as_json)
    elif as_json or not answers.is_terminal:
        _lines(url, first, interval, as_json)
    else:
        _live(url, first, interval)


# --- implementation ---


def _looks(url: str, page: Page, interval_s: float) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """A look an interval; where the page cannot be read (None, why)."""
    from assay.cli.top_look import look
    from assay.cli.top_page import Interval, UnreachableError, fetch

    while True:
        time.sleep(interval_s)
        try:
            after = fetch(url)
        except UnreachableError as error:
            yield None, str(error)
            continue
        yield look(Interval(page, after)), ""
        page = after


def _once(url: str, page: Page, interval_s: float, as_json: bool) -> None:
    found, why = next(_looks(url, page, interval_s))
    if found is None:
        fail(why, EXIT_UNHEALTHY, HINT)
    _print(found, url, as_json)


def _lines(url: str, page: Page, interval_s: float, as_json: bool) -> None:
    for found, why in _looks(url, page, interval_s):
        if found is None:
            fail(why, EXIT_UNHEALTHY, HINT)
        _print(found, url, as_json)


def _print(found: dict[str, Any], url: str, as_json: bool) -> None:
    from assay.cli.top_view import draw

    if as_json:
        print_json(found)
    else:
        answers.print(draw(found, url))


def _live(url: str, page: Page, interval_s: float) -> None:
    """Until Ctrl-C. A server that goes away may come back: its last look stays, and a line says so."""
    from rich.live import Live

    from assay.cli.top_view import draw, waiting

    last: dict[str, Any] | None = None
    with Live(waiting(url, ""), console=answers, screen=True, auto_refresh=False) as live:
        for found, why in _looks(url, page, interval_s):
            last = found or last
            live.update(draw(last, url, why) if last else waiting(url, why), refresh=True)
