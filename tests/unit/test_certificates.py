"""PEM files before a server uses them: what is proved, what is said, who may read the key."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.config import TlsConfig
from assay.errors import ConfigError
from assay.transport.certificates import Certificates, key_warning
from tests.support.certificates import SERVER_NAMES, TlsFolder


@pytest.fixture
def folder(tmp_path: Path) -> TlsFolder:
    return TlsFolder(tmp_path)


def load(folder: TlsFolder) -> Certificates:
    return Certificates(TlsConfig(**folder.config()["tls"]))


def test_a_good_pair_says_until_when(folder: TlsFolder) -> None:
    certificates = load(folder)
    assert timedelta(days=29) < certificates.expires_at - datetime.now(UTC) < timedelta(days=31)
    assert certificates.wants_clients
    assert not Certificates(TlsConfig(**folder.config(mtls=False)["tls"])).wants_clients


def test_a_bad_pair_stops_the_start_and_names_the_file(folder: TlsFolder) -> None:
    folder.put(folder.authority.issue(*SERVER_NAMES, days=(-3, -2)))
    with pytest.raises(ConfigError, match=r"tls\.certificate: .*server\.pem: certificate has expired"):
        load(folder)
    folder.put(folder.authority.issue(*SERVER_NAMES))
    folder.key.write_bytes(folder.authority.issue("x").key)
    with pytest.raises(ConfigError, match=r"tls\.key: .*server\.key is not the key of .*server\.pem"):
        load(folder)


def test_an_authority_that_is_past_is_no_authority(folder: TlsFolder) -> None:
    folder.client_ca.write_bytes(folder.authority.issue("x").certificate)
    with pytest.raises(ConfigError, match=r"tls\.client_ca: .*none of an authority"):
        load(folder)
    folder.client_ca.write_text("é")
    with pytest.raises(ConfigError, match=r"tls\.client_ca: .*no PEM block"):
        load(folder)


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True)])
def test_a_key_that_others_may_read_is_warned_about(
    folder: TlsFolder, mode: int, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder.key.chmod(mode)
    with caplog.at_level(logging.WARNING, logger="assay"):
        load(folder)
    assert any(f"chmod 600 {folder.key}" in record.getMessage() for record in caplog.records) is is_warned


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a file away")
def test_roots_key_may_be_read_by_a_group(folder: TlsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.key.chmod(0o640)
    assert key_warning(folder.key)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # the key is root's, and we are not
    assert not key_warning(folder.key)
    folder.key.chmod(0o644)
    assert "mode 0644" in key_warning(folder.key)
