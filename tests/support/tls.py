"""A proxy on 127.0.0.1 that plays every host over https, with certificates of its own."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.hub import Hub, Request, run_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class TlsRequest(Request):
    """A request through the proxy; its `path` is the whole URL."""

    server: TlsHub

    def do_CONNECT(self) -> None:  # noqa: N802 - the name that the library calls
        """Answer as the host itself; the client goes on with TLS on the same connection."""
        host = self.path.removesuffix(":443")
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate)
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            context.wrap_socket(self.connection, server_side=True) as secured,
            secured.makefile("rb") as self.rfile,
            secured.makefile("wb") as self.wfile,
        ):
            self.host = host
            self.close_connection = False
            while not self.close_connection:
                self.handle_one_request()

    def do_GET(self) -> None:  # noqa: N802
        """Keep the headers of each request by its whole URL."""
        if host := getattr(self, "host", ""):
            self.path = f"https://{host}{self.path}"
        self.server.headers[self.path] = dict(self.headers)
        super().do_GET()


class TlsHub(Hub):
    """A server; `headers` has those of every request by its URL, `certificate` is a PEM file."""

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self.RequestHandlerClass = TlsRequest
        self.certificate = certificate
        self.headers: dict[str, dict[str, str]] = {}


@contextlib.contextmanager
def serve(folder: Path, hosts: Sequence[str]) -> Iterator[TlsHub]:
    """Serve as these hosts; clients have to trust `folder / "certificate.pem"`."""
    with run_server(TlsHub(write_certificate(folder / "certificate.pem", hosts))) as hub:
        yield hub


def write_certificate(path: Path, hosts: Sequence[str]) -> Path:
    """Write a certificate for hosts, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
