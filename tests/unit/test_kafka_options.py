"""Options of librdkafka: which are ours, where secrets may stand, and that no error shows a value."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from assay.errors import ConfigError
from assay.kafka.connection import Connection
from assay.kafka.options import FILE_BYTES_MAX, OURS, merge_options, parse_options, read_options
from tests.support.mock_kafka import options_of_librdkafka

SECRET = "hunter2hunter2"


def secret_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "kafka.conf"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_options_come_from_the_command_line_and_a_file(tmp_path: Path) -> None:
    path = secret_file(tmp_path, f"# of the cluster\n\nsasl.password = {SECRET}=\nsasl.username=fraud\n")
    options = merge_options(["security.protocol=SASL_SSL", "fetch.wait.max.ms=20"], path)
    assert options == {
        "security.protocol": "SASL_SSL",
        "fetch.wait.max.ms": "20",
        "sasl.password": f"{SECRET}=",
        "sasl.username": "fraud",
    }
    connection = Connection("b:9092", options)
    assert SECRET not in repr(connection)
    config = connection.consumer_config("fraud", "host-1")
    assert config["sasl.password"] == f"{SECRET}="
    assert config["partition.assignment.strategy"] == "cooperative-sticky"
    assert config["group.instance.id"] == "host-1"  # static membership: the mock cluster has no rejoin to test it with
    assert config["enable.auto.commit"] is False
    assert "group.instance.id" not in connection.consumer_config("fraud", None)
    assert "group.id" not in connection.producer_config()


@pytest.mark.parametrize("key", sorted(OURS))
def test_what_is_ours_is_refused_with_its_reason(key: str, tmp_path: Path) -> None:
    for parse in (lambda text: parse_options([text]), lambda text: read_options(secret_file(tmp_path, text))):
        with pytest.raises(ConfigError) as caught:
            parse(f"{key}={SECRET}")
        assert OURS[key] in str(caught.value)
        assert SECRET not in str(caught.value)


SECRETS = (
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
)


@pytest.mark.parametrize("key", SECRETS)
def test_secrets_have_no_place_on_a_command_line(key: str) -> None:
    with pytest.raises(ConfigError, match="--kafka-config FILE") as caught:
        parse_options([f"{key}={SECRET}"])
    assert SECRET not in str(caught.value)


# Options whose names sound like a secret and that hold none: certificates, paths and names.
NO_SECRETS = {
    "enable.ssl.certificate.verification",
    "https.ca.pem",
    "sasl.kerberos.keytab",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.client.credentials.client.id",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl_key",  # set by a call, by no text
}


def test_every_option_of_librdkafka_that_sounds_like_a_secret_is_known(tmp_path: Path) -> None:
    """An alias of one was once taken."""
    found = {key for key in options_of_librdkafka(tmp_path) if re.search("secret|pass|pem$|key|private|credential", key)}
    assert found >= set(SECRETS)
    taken = set()
    for key in found:
        with contextlib.suppress(ConfigError):
            taken |= parse_options([f"{key}=x"]).keys()
    assert taken <= NO_SECRETS


def test_an_option_that_is_ours_is_so_by_all_its_names(tmp_path: Path) -> None:
    aliases = {(key, other) for key, other in options_of_librdkafka(tmp_path).items() if other}
    assert ("acks", "request.required.acks") in aliases
    assert all((key in OURS) == (other in OURS) for key, other in aliases)


@pytest.mark.parametrize("text", [SECRET, f"={SECRET}", "sasl.password=", "a=1\na=2"])
def test_a_broken_line_is_named_and_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line [12]: ") as caught:
        read_options(secret_file(tmp_path, text))
    assert SECRET not in str(caught.value)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can be read by others \(mode 0644\): chmod 600"):
        read_options(secret_file(tmp_path, f"sasl.password={SECRET}", 0o644))


def test_files_at_the_limit(tmp_path: Path) -> None:
    assert read_options(secret_file(tmp_path, "#" * FILE_BYTES_MAX)) == {}
    with pytest.raises(ConfigError, match="longer than 1 MiB"):
        read_options(secret_file(tmp_path, "#" * (FILE_BYTES_MAX + 1)))
    with pytest.raises(ConfigError, match="No such file"):
        read_options(tmp_path / "none")


def test_an_option_stands_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give it once"):
        merge_options(["sasl.username=a"], secret_file(tmp_path, "sasl.username=b"))
