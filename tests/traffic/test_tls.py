import gc
import logging
import os
import ssl
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from sidecar.runtime.runtime import Runtime
from sidecar.traffic import tls as module
from sidecar.traffic.tls import Contexts, Made, TlsSpec, contexts_of, make_context
from tests.peers.authority import Authority
from tests.sidecar_under_test import eventually


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"key_file": "k.pem"}, "key_file needs cert_file"),
        ({"min_version": "1.1"}, "min_version is"),
        ({"min_version": "TLS1.3"}, "min_version is"),
    ],
)
def test_tls_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TlsSpec(**settings)


# ── what a context is ────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_default_certificates_are_verified_and_only_http_1_1_is_offered() -> None:
    context = make_context(TlsSpec())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_lowest_version_can_be_raised() -> None:
    assert make_context(TlsSpec(min_version="1.3")).minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_ca_file_replaces_the_systems_authorities(authority: Authority) -> None:
    (only,) = make_context(TlsSpec(ca_file=authority.ca_file)).get_ca_certs()
    assert "trustme" in str(only["subject"])


def test_verification_ends_only_where_it_is_switched_off() -> None:
    context = make_context(TlsSpec(insecure_skip_verify=True))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_client_certificate_may_have_its_key_beside_it_or_in_it(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.client_files()
    make_context(TlsSpec(cert_file=cert_file, key_file=key_file))
    both = tmp_path / "both.pem"
    both.write_text(Path(cert_file).read_text() + Path(key_file).read_text())
    make_context(TlsSpec(cert_file=str(both)))
    with pytest.raises(ssl.SSLError):
        make_context(TlsSpec(cert_file=cert_file))


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
def test_a_file_that_is_not_there_or_no_certificate_is_an_error(setting: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        make_context(TlsSpec(**{setting: str(tmp_path / "none.pem")}))
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        make_context(TlsSpec(**{setting: str(broken)}))


# ── who shares one ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which contexts were made, one entry each."""
    threads: list[threading.Thread] = []

    def counted(spec: TlsSpec) -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return make_context(spec)

    monkeypatch.setattr(module, "make_context", counted)
    return threads


async def test_equal_settings_share_one_context_whatever_the_server_is_called(made_in: list[threading.Thread]) -> None:
    contexts = Contexts()
    first = await contexts.newest(TlsSpec(), None)
    second = await contexts.newest(TlsSpec(server_name="other.example"), None)
    assert first.context is second.context
    assert len(made_in) == 1
    assert made_in[0] is not threading.main_thread(), "the loop has better uses for 20 ms"


async def test_other_settings_have_a_context_of_their_own(authority: Authority, tmp_path: Path) -> None:
    contexts = Contexts()
    cert_file, key_file = authority.client_files()
    other = tmp_path / "other.pem"
    other.write_text(Path(cert_file).read_text() + Path(key_file).read_text())
    specs = (
        TlsSpec(), TlsSpec(min_version="1.3"), TlsSpec(ca_file=authority.ca_file), TlsSpec(insecure_skip_verify=True),
        TlsSpec(cert_file=cert_file, key_file=key_file), TlsSpec(cert_file=str(other)),
    )  # fmt: skip
    made = [await contexts.newest(spec, None) for spec in specs]
    assert len({id(each.context) for each in made}) == len(specs)


async def test_a_context_is_kept_no_longer_than_somebody_uses_it(made_in: list[threading.Thread]) -> None:
    contexts = Contexts()
    gone = weakref.ref((await contexts.newest(TlsSpec(), None)).context)
    await eventually(lambda: gc.collect() >= 0 and gone() is None, "the end of a context")
    await contexts.newest(TlsSpec(), None)
    assert len(made_in) == 2


async def test_files_that_changed_are_read_again_and_others_are_not(authority: Authority, made_in: list[threading.Thread]) -> None:
    contexts = Contexts()
    cert_file, key_file = authority.client_files()
    spec = TlsSpec(cert_file=cert_file, key_file=key_file)
    first = await contexts.newest(spec, None)
    assert await contexts.newest(spec, first) is first
    authority.client_files()
    os.utime(cert_file, ns=(1, 1))
    second = await contexts.newest(spec, first)
    assert second.context is not first.context
    assert (await contexts.newest(spec, None)).context is second.context
    assert len(made_in) == 2


async def test_a_certificate_without_its_key_does_not_replace_a_good_one(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    contexts = Contexts()
    cert_file, key_file = authority.client_files()
    key = Path(key_file).read_text()
    spec = TlsSpec(cert_file=cert_file, key_file=key_file)
    first = await contexts.newest(spec, None)
    authority.client_files()
    fitting = Path(key_file).read_text()
    Path(key_file).write_text(key)
    os.utime(key_file, ns=(2, 2))
    with caplog.at_level(logging.WARNING):
        second: Made = await contexts.newest(spec, first)
        assert await contexts.newest(spec, second) is second
    assert second.context is first.context
    assert len(caplog.records) == 1, "it is said once"
    Path(key_file).write_text(fitting)
    assert (await contexts.newest(spec, second)).context is not first.context


async def test_a_file_that_is_gone_is_an_error_for_whoever_has_none_yet(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Contexts().newest(TlsSpec(ca_file=str(tmp_path / "none.pem")), None)


def test_all_upstreams_of_a_runtime_have_the_same() -> None:
    runtime = Runtime()
    assert contexts_of(runtime) is contexts_of(runtime)
    assert contexts_of(runtime) is not contexts_of(Runtime())
