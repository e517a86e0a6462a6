"""The librdkafka options that this installation passes through, in Faust's terms."""

from __future__ import annotations

import ssl
from typing import Any

from services.common.settings import SettingsError, librdkafka_options


def broker_credentials() -> Any:
    """Faust's `broker_credentials`; None for a plain connection.

    Raises:
        SettingsError: a protocol or mechanism that Faust does not speak.
    """
    from faust import GSSAPICredentials, SASLCredentials, SSLCredentials

    options = librdkafka_options()
    protocol = options.get("security.protocol", "plaintext").upper()
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol in ("SSL", "SASL_SSL"):
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if "ssl.certificate.location" in options:
            context.load_cert_chain(
                options["ssl.certificate.location"], options.get("ssl.key.location"), options.get("ssl.key.password")
            )
        if options.get("ssl.endpoint.identification.algorithm") == "none":
            context.check_hostname = False
    if protocol == "SSL":
        return SSLCredentials(context=context)
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism == "GSSAPI":
        service = options.get("sasl.kerberos.service.name", "kafka")
        return GSSAPICredentials(kerberos_service_name=service, ssl_context=context)
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise SettingsError(f"MINDSTREAM_LIBRDKAFKA_SASL_MECHANISM: the cobuy service does not speak {mechanism}")
    return SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        mechanism=mechanism,
        ssl_context=context,
    )
