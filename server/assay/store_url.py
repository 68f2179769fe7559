"""URLs of remote stores: what may be shown of one that carries a password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

PASSWORD_MEND = "In a password / @ : # ? % are written %2F %40 %3A %23 %3F %25"


def split_store_url(url: str) -> SplitResult | None:
    """Its parts, with user and password in netloc alone. None: not SCHEME://HOST:PORT/DB. A password that was not encoded ends up
    in any part of the URL, so nothing of such a URL may be shown."""
    try:
        parts = urlsplit(url)
        is_whole = bool((parts.hostname or "").encode("idna")) and (parts.port is None or parts.port > 0)
    except ValueError:  # of the brackets, of the name or of the port
        return None
    is_whole = is_whole and "@" not in parts.path + parts.query + parts.fragment and not parts.fragment
    return parts if is_whole and re.fullmatch(r"(/[0-9]*)?", parts.path) else None


def location_of(parts: SplitResult) -> str:
    """The URL without user, password and query."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
