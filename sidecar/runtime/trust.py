"""Whose certificates a TLS client of ours believes, and which one it shows: the same on every version of Python."""

import ssl


def verifying_context(ca_file: str | None) -> ssl.SSLContext:
    """
    Return a client's context of TLS 1.2 and newer that verifies chain and name; by the system's authorities without `ca_file`.

    From 3.13 on Python asks of certificates every formality of RFC 5280 (VERIFY_X509_STRICT), which many company-wide
    authorities fail, and which curl, Go, nginx and Envoy do not ask. The agent was served behind them without us, so it is with
    us: signatures, dates, names and who may sign are checked as before. Also from 3.13 on, an authority in `ca_file` need not be
    a root (VERIFY_X509_PARTIAL_CHAIN); that we have everywhere. Reads files: call it in a thread. Raises OSError and
    ssl.SSLError for bad ones.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def client_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None, *, insecure_skip_verify: bool
) -> ssl.SSLContext:
    """
    Return `verifying_context`, with a certificate of our own where `cert_file` names one (`key_file`: its key, if not in there).

    With `insecure_skip_verify` any certificate is believed. Reads files and raises as `verifying_context` does.
    """
    context = verifying_context(ca_file)
    if cert_file:
        context.load_cert_chain(cert_file, key_file or None)
    if insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
