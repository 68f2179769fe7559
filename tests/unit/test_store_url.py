"""URLs of remote stores, form by form."""

from __future__ import annotations

import pytest

from assay.store_url import Place, StoreKind, has_password, parse_store_url


def test_every_form() -> None:
    forms = {
        "redis://h": (StoreKind.ONE, False, (("h", 6379),), Place()),
        "redis://h:1/15": (StoreKind.ONE, False, (("h", 1),), Place(15)),
        "rediss://[::1]:7/": (StoreKind.ONE, True, (("::1", 7),), Place()),
        "redis+unix:///run/redis.sock": (StoreKind.SOCKET, False, (), Place(0, path="/run/redis.sock")),
        "redis+unix:///a%20b?db=3": (StoreKind.SOCKET, False, (), Place(3, path="/a b")),
        "redis+sentinel://a,b:2,[::1]/main.db_1-x": (
            StoreKind.SENTINEL,
            False,
            (("a", 26379), ("b", 2), ("::1", 26379)),
            Place(0, service="main.db_1-x"),
        ),
        "rediss+sentinel://a/s/2": (StoreKind.SENTINEL, True, (("a", 26379),), Place(2, service="s")),
        "redis+cluster://a:1,b": (StoreKind.CLUSTER, False, (("a", 1), ("b", 6379)), Place()),
        "rediss+cluster://a/0": (StoreKind.CLUSTER, True, (("a", 6379),), Place()),
    }
    for url, expected in forms.items():
        found = parse_store_url(url)
        assert found is not None, url
        assert (found.kind, found.is_tls, found.addresses, found.place) == expected, url
        assert (found.location, found.username, found.password, found.has_user) == (url.partition("?")[0], None, None, False)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://a/1",  # a cluster has one database
        "redis+cluster://a,,b",
        "redis+cluster://",
        "redis+cluster://" + ",".join(f"h{i}" for i in range(65)),
        "redis+sentinel://a",  # which service?
        "redis+sentinel://a/",
        "redis+sentinel://a/s/x",
        "redis+sentinel://a/s/1/2",
        "redis+unix://",
        "redis+unix:///",
        "redis+unix://host/path",
        "redis+unix:///path?db=x",
        "redis://a,b",
        "redis://h:0",
        "redis://h:70000",
        "redis://h/x",
        "redis://h/123456",
        "redis://h#f",
        "rediss+unix:///path",
        "embedded:",
        "http://h",
    ],
)
def test_anything_else_is_none_of_them(url: str) -> None:
    assert parse_store_url(url) is None


def test_user_and_password_are_decoded_and_stay_out_of_what_is_shown() -> None:
    for scheme, rest in (("redis", "h/1"), ("redis+sentinel", "h,i/s"), ("redis+cluster", "h,i"), ("redis+unix", "/run/x")):
        found = parse_store_url(f"{scheme}://us%40er:p%2Cw%2F%3A@{rest}?x=hidden")
        assert found is not None
        assert (found.username, found.password, found.has_user, found.options) == ("us@er", "p,w/:", True, {"x": "hidden"})
        assert found.location == f"{scheme}://{rest}"
        assert "p,w" not in repr(found)
        assert "hidden" not in repr(found)
        no_user = parse_store_url(f"{scheme}://:word@{rest}")
        assert no_user is not None
        assert (no_user.username, no_user.password) == (None, "word")


def test_a_password_that_was_not_encoded_makes_it_none() -> None:
    for url in ("redis+cluster://:12/34word@h,i", "redis+sentinel://:a#word@h/s", "redis+unix://:a?word@/run/x"):
        assert parse_store_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p@h/0?stream=s",
        "redis://u@h/0",
        "kafka://u:p@h/t",
        "mysql://u:p@h",
        "redis+unix://:a?word@/run/x",
        "redis://h/0?password=p&stream=s",
        "rediss://h/0?stream=s&ssl_password=p",
        "redis+sentinel://h/s?sentinel_password=p",
        "redis://h/0?stream=s&PassWord=p",
        "redis://h/0?pass%77ord=p",
        "redis://h:x/0?password=",
        "kafka://h/t?sasl.password=p",
    ],
)
def test_a_url_with_a_password_is_known_for_one(url: str) -> None:
    assert has_password(url)


@pytest.mark.parametrize(
    "url",
    [
        "none",
        "auto",
        "embedded:",
        "embedded:/a@b?password=x",
        "jsonl:/a@b",
        "redis://password/0?stream=passwords",
        "rediss://h/0?ssl_ca_certs=password.pem",
        "kafka://h/t?config=/run/password",
    ],
)
def test_a_url_without_one_too(url: str) -> None:
    assert not has_password(url)
