"""TLS between workers and model servers, from PEM files by settings: the server's certificate against the CA, and where
both sides have one, each against the CA (mTLS).
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.common.settings import Settings, SettingsError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pems:
    authority: bytes | None
    certificate: bytes | None
    key: bytes | None


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Of a worker; None for plain text. Read once: a worker starts anew to use a renewed certificate of its own.

    Raises:
        SettingsError: a file is missing, or no PEM of its kind, or the key is another certificate's.
    """
    if settings.grpc_tls_ca is None:
        return None
    pems = _read(settings)
    return grpc.ssl_channel_credentials(pems.authority, pems.key, pems.certificate)


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Of a model server; None for plain text. With a CA only clients with a certificate of it are answered.

    The files are looked at again for every connection, so that renewed ones count at once; ones that are not whole
    yet do not count.

    Raises:
        SettingsError: as for channels, or there is a CA and no certificate to serve with.
    """
    if settings.grpc_tls_cert is None:
        if settings.grpc_tls_ca is not None:
            raise SettingsError(
                "MINDSTREAM_GRPC_TLS_CA is set, but no certificate to serve with (MINDSTREAM_GRPC_TLS_CERT)"
            )
        return None
    used = _read(settings)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        try:
            found = _read(settings)
        except SettingsError as error:
            _log.warning("the certificate that was loaded before is used on: %s", error)
            return None
        if found == used:
            return None
        used = found
        _log.info("certificates of %s are loaded anew", settings.grpc_tls_cert)
        return _configuration(used)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        renewed,  # type: ignore[arg-type]  # None keeps what is in use.
        require_client_authentication=used.authority is not None,
    )


def _configuration(pems: _Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key or b"", pems.certificate or b"")], pems.authority)


def _read(settings: Settings) -> _Pems:
    """The files' contents, tried on Python's TLS first: gRPC would not say which is wrong, nor why."""
    context, ca = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.grpc_tls_ca
    certificate, key = settings.grpc_tls_cert, settings.grpc_tls_key
    try:
        pems = _Pems(_bytes(ca), _bytes(certificate), _bytes(key))
    except OSError as error:
        raise SettingsError(f"MINDSTREAM_GRPC_TLS_*: {error.filename}: {error.strerror}") from None
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except OSError as error:  # Those of `ssl` are among them.
        raise SettingsError(f"MINDSTREAM_GRPC_TLS_CA: {ca}: {error.strerror or error}") from None
    try:
        if certificate is not None and key is not None:
            # Not without a password: OpenSSL would ask whoever sits at the terminal.
            context.load_cert_chain(certificate, key, "")
    except OSError as error:
        line = f"{certificate} and {key}: {error.strerror or error}"
        raise SettingsError(f"MINDSTREAM_GRPC_TLS_CERT: {line}") from None
    return pems


def _bytes(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None
