"""TLS to a Prism: by an authority, by a pinned certificate, or by any; and what to do when a certificate is refused.

A pin is compared at the end of the handshake, before a byte of ours is sent.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import ssl

from ntxengine.errors import OptionsError, PortableError
from ntxengine.prism.http.certificate import Certificate, fingerprint_of, read_certificate
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.trust import Trust, check_only_ours, shown

_NOT_YET, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_NAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class FingerprintError(PortableError, ssl.SSLCertVerificationError):
    """The certificate is not one of those that are pinned."""


class _PinnedContext(ssl.SSLContext):
    """Trusts the certificates of these fingerprints, and no other."""

    fingerprints: tuple[str, ...] = ()


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        fingerprint = fingerprint_of(self.getpeercert(binary_form=True))
        context = self.context
        pins = context.fingerprints if isinstance(context, _PinnedContext) else ()
        if not any(hmac.compare_digest(fingerprint, pin) for pin in pins):
            raise FingerprintError("certificate is not the pinned one")


def tls_context(ca_file: str | None, *, insecure: bool, fingerprints: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return the TLS settings for every connection to a Prism.  Reads the file.

    Errors: OptionsError if `ca_file` cannot be read, holds no certificate, or can be changed by anybody.
    """
    if fingerprints:
        context: ssl.SSLContext = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        assert isinstance(context, _PinnedContext)
        context.fingerprints = fingerprints
        context.sslobject_class = _PinnedObject
        insecure = True  # of authority, name and time: the pin stands for all of them
    elif insecure and ca_file is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the system's authorities are many to read
    else:
        try:
            if ca_file is not None:
                check_only_ours(os.stat(ca_file), f"the CA file {ca_file!r}")
            context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as exc:
            cause = (exc.strerror if not isinstance(exc, ssl.SSLError) else None) or "it holds no PEM certificate"
            raise OptionsError(f"the CA file {ca_file!r} cannot be used: {cause}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def look_at(host: str, port: int, trust: Trust, *, timeout_s: float) -> Certificate | None:
    """Return what a server shows, whoever it is: nothing is sent to it.  None if it shows nothing in time."""
    context = tls_context(None, insecure=True)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=trust.name or host)
    except (OSError, TimeoutError):
        return None
    found = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return read_certificate(found.getpeercert(binary_form=True))


def certificate_error(exc: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a certificate that lies at the bottom, if one does."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


def advice(refused: ssl.SSLCertVerificationError, shown_by: Certificate | None, trust: Trust, *, prefix: str) -> str:
    """Return why a certificate was refused and what can be done, on one line."""
    why, remedy = judged(refused, shown_by, trust, prefix=prefix)
    return f"{why}. {remedy}" if isinstance(refused, FingerprintError) else f"{why}: {remedy}"


def judged(
    refused: ssl.SSLCertVerificationError, shown_by: Certificate | None, trust: Trust, *, prefix: str
) -> tuple[str, str]:
    """Return why a certificate was refused, and what can be done; `prefix` begins the options: `--` or `--element-`."""
    pin = "" if shown_by is None else f"{prefix}fingerprint {shown(shown_by.fingerprint)}"
    if isinstance(refused, FingerprintError):
        return _changed(pin, trust, prefix)
    why = one_line(refused.verify_message or "it could not be verified")
    ways = []
    if refused.verify_code in _NAME_MISMATCH:
        if shown_by is not None and shown_by.names:
            why = f"{why} (it is for {', '.join(shown_by.names)})"
        ways.append(
            "name the element as its certificate does (--element-name NAME)"
            if prefix == "--element-"
            else "use an address that stands in the certificate"
        )
    elif refused.verify_code == _EXPIRED:
        ways.append("renew it on that Prism")
    elif refused.verify_code == _NOT_YET:
        ways.append("set the clock of this machine, or of that Prism")
    else:
        ways.append(f"name the authority that signed it with {prefix}ca-file FILE")
    if pin:
        ways.append(f"compare its SHA-256 fingerprint with that Prism's own and pin it: {pin}")
    return why, "; or ".join(ways)


def _changed(pin: str, trust: Trust, prefix: str) -> tuple[str, str]:
    where = f"in {trust.trust_file!r}" if trust.trust_file else f"given with {prefix}fingerprint"
    remedy = f"correct its line {where}" if trust.trust_file else f"give {pin or f'{prefix}fingerprint anew'}"
    what = f"its SHA-256 fingerprint is {pin.rpartition(' ')[2]}" if pin else "its fingerprint is another one"
    return (
        f"{what}, not the one {where}: it was renewed, or somebody stands in between; nothing was sent to it",
        f"If you know that it was renewed, {remedy}",
    )
