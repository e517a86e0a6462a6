"""The librdkafka options that this installation passes through, in Faust's terms."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from services.common.settings import LIBRDKAFKA_PREFIX, SettingsError, librdkafka_options

#: What decides whom librdkafka trusts or who we are, and Python's TLS cannot be told: better refused than left out.
_UNKNOWN = (
    "ssl.certificate.pem",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.crl.location",
    "ssl.engine.location",
    "ssl.providers",
    "sasl.oauthbearer.method",
)


def broker_credentials() -> Any:
    """Faust's `broker_credentials`; None for a plain connection.

    Raises:
        SettingsError: a protocol, mechanism or option that Faust does not speak, or a file that is no PEM.
    """
    from faust import GSSAPICredentials, SASLCredentials, SSLCredentials

    options = librdkafka_options()
    protocol = options.get("security.protocol", "plaintext").upper()
    if protocol == "PLAINTEXT":
        return None
    for name in _UNKNOWN:
        if name in options:
            raise SettingsError(f"{_variable(name)}: the cobuy service cannot do this; name PEM files instead")
    context = _context(options) if protocol in ("SSL", "SASL_SSL") else None
    if protocol == "SSL":
        return SSLCredentials(context=context)
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism == "GSSAPI":
        service = options.get("sasl.kerberos.service.name", "kafka")
        return GSSAPICredentials(kerberos_service_name=service, ssl_context=context)
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise SettingsError(f"{_variable('sasl.mechanism')}: the cobuy service does not speak {mechanism}")
    return SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        mechanism=mechanism,
        ssl_context=context,
    )


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl.ca.location"), cadata=options.get("ssl.ca.pem", "").replace("\\n", "\n") or None
        )
    except OSError as error:  # Those of `ssl` are among them; none names the file.
        named = options.get("ssl.ca.location", "")
        raise SettingsError(f"{_variable('ssl.ca.location')}: {named}: {error.strerror or error}") from None
    if "ssl.certificate.location" in options:
        files = options["ssl.certificate.location"], options.get("ssl.key.location")
        try:
            # Not None: OpenSSL would ask whoever sits at the terminal.
            context.load_cert_chain(*files, options.get("ssl.key.password", ""))
        except OSError as error:
            line = f"{' and '.join(filter(None, files))}: {error.strerror or error}"
            raise SettingsError(f"{_variable('ssl.certificate.location')}: {line}") from None
    if options.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    if options.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _variable(option: str) -> str:
    return LIBRDKAFKA_PREFIX + option.replace(".", "_").upper()
