"""`assay audit ship`: brings records to their sink, until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from assay.cli.audit_options import ConfigOption, SpoolOption
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_USAGE, fail, print_json
from assay.cli.stop_signals import stop_signals
from assay.errors import AssayError

GIVE_UP_S = 10.0  # of --once, and of what is left when the server has ended

log = logging.getLogger("assay.audit")


def ship(
    sink: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="jsonl:DIRECTORY, redis://HOST:PORT/DB?stream=NAME or kafka://HOST:PORT,HOST:PORT/TOPIC. Default: audit.sink of "
            "the configuration, also as ASSAY_AUDIT__SINK: the places for one with a password.",
        ),
    ] = None,
    spool: SpoolOption = None,
    config: ConfigOption = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on until SIGTERM, or end with what stands there now.")
    ] = True,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End when standard input is closed, once all is shipped: for servers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the records of all servers of a directory to a sink, at least once each.

    A server with audit.sink does this by itself. One process ships a directory's records at a time: another one waits for its
    turn, or ends with --once. SIGTERM and Ctrl-C end it after the batch that is under way; killed at any moment, it goes on
    where the sink had confirmed.

    Examples:

        assay audit ship --sink jsonl:/var/lib/assay/archive --once

        ASSAY_AUDIT__SINK='redis://:PASSWORD@redis:6379/0?stream=assay' assay audit ship
    """
    from assay.audit.opening import spool_directory
    from assay.audit.shipping import Shipper, become_shipper
    from assay.audit.sinks import open_sink, sink_location
    from assay.cli.config import load
    from assay.observe.logs import log_event, set_up
    from assay.store_url import has_password

    if sink is not None and has_password(sink):
        fail("--sink: other users see command lines; a URL with a password goes into ASSAY_AUDIT__SINK or a file", EXIT_USAGE)
    loaded = load(config, None).config
    url = sink if sink is not None else loaded.audit.sink.get_secret_value()
    if url in ("auto", "none"):
        fail("say where to ship to: --sink URL, or audit.sink", EXIT_USAGE)
    directory = spool if spool is not None else spool_directory(loaded.audit)
    set_up(loaded.log_level, loaded.log_format)
    stop, parent_gone = threading.Event(), threading.Event()
    with stop_signals(stop.set):
        if with_parent:
            # Ctrl-C in a terminal reaches the server too, which still has records to write.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _watch_parent(stop, parent_gone)
        shipper = Shipper(directory, open_sink(url), stop)
        try:
            if (lock := become_shipper(directory, stop, waits=follow)) is None:
                return
            with lock:
                log_event(log, logging.INFO, "shipping audit records", directory=directory, sink=sink_location(url))
                if follow:
                    shipper.run()
                if parent_gone.is_set():
                    stop.clear()  # the server's last records came after the last look
                if not follow or parent_gone.is_set():
                    shipper.run_once(GIVE_UP_S)
        except OSError as error:
            raise AssayError(f"the spool cannot be used: {error.filename}: {error.strerror}") from None
        finally:
            shipper.close()
    if not follow and shipper.unreadable:
        raise AssayError(f"not shipped, for they cannot be read: {', '.join(shipper.unreadable)}; the log says why")
    counts = shipper.counts
    log_event(log, logging.INFO, "ended", records=counts.records, bytes=counts.bytes, retries=counts.retries)
    if as_json:
        print_json({"records": counts.records, "bytes": counts.bytes, "retries": counts.retries})


# --- implementation ---


def _watch_parent(stop: threading.Event, gone: threading.Event) -> None:
    def watch() -> None:
        # Not sys.stdin.buffer: a thread that waits in it holds its lock, and the interpreter's end would wait for that.
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        gone.set()
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
