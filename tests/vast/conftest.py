import importlib.util
import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from tests.vast_emulator import Emulator, EmulatorProcess, Options


class _WithoutSdk(pytest.Module):
    def collect(self) -> Iterable[NoReturn]:
        pytest.skip("vastdb is not installed: pip install -e '.[vast,vast-tests]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip where the SDK is missing; in CI it has to be there, and its import fails loudly."""
    if importlib.util.find_spec("vastdb") is None and os.environ.get("CI") != "true":
        return _WithoutSdk.from_parent(parent, path=module_path)
    return None


@pytest.fixture
def start() -> "Iterator[Callable[..., Emulator]]":
    """Starts emulators with the options given and stops them at the end."""
    from tests.vast_emulator import Emulator, Options

    with ExitStack() as stack:

        def started(**given: Any) -> Emulator:
            return stack.enter_context(Emulator(Options(**given)))

        yield started


@pytest.fixture
def emulator(start: "Callable[..., Emulator]") -> "Emulator":
    return start()


@pytest.fixture
def start_process() -> "Iterator[Callable[[Options], EmulatorProcess]]":
    """Starts emulators in processes of their own and kills them at the end."""
    from tests.vast_emulator import EmulatorProcess, Options

    with ExitStack() as stack:

        def started(options: Options) -> EmulatorProcess:
            return stack.enter_context(EmulatorProcess(options))

        yield started


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Connects the real SDK to an emulator; by default with three tries and a timeout of 10 s."""
    from tests.vast.support import closing_session

    with ExitStack() as stack:

        def connected(emulator: "Emulator | EmulatorProcess", **given: Any) -> Any:
            return stack.enter_context(closing_session(emulator, **given))

        yield connected


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The files of a certificate for 127.0.0.1, its own authority, and of its key.

    The environment names no other authorities, since `requests` would prefer them.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    paths[0].write_bytes(made.public_bytes(encoding))
    paths[1].write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return paths
