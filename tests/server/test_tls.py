"""TLS: by Granian, or in front of it where the certificates of clients count."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.server.test_drain import LAMP, Clients, pids, replaced
from tests.support.certificates import DAY, Authority, Files
from tests.support.issued import change_user, issue, store_user
from tests.support.serving import ROOT, ServiceProcess
from tests.support.tokens import bearer
from tests.support.waiting import LIMIT_S, until, wait_until

pytestmark = pytest.mark.anyio

MTLS: Final = "mtls"
TOKENS: Final = "tokens"
CURL = shutil.which("curl")


class TLSService(ServiceProcess):
    """A service that speaks TLS with a certificate of a CA, and clients that trust this CA."""

    def __init__(
        self, database_url: str, trusted: Authority | ssl.SSLContext, settings: Mapping[str, str], *, workers: int = 1
    ) -> None:
        super().__init__(database_url, workers=workers, **settings)
        self.verify = trusted.trusting() if isinstance(trusted, Authority) else trusted


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a CA."""
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Files:
    """Return the service's own certificate."""
    return authority.server()


def tls(authority: Authority, auth: str = MTLS, **settings: str) -> dict[str, str]:
    """Return the settings of a service with the certificate `server`."""
    folder = authority.path.parent
    files = {"ITEMSVC_TLS_CERT": str(folder / "server.crt"), "ITEMSVC_TLS_KEY": str(folder / "server.key")}
    clients = {"ITEMSVC_TLS_CLIENT_CA": str(authority.path)} if MTLS in auth else {}
    more = {f"ITEMSVC_{name.upper()}": value for name, value in settings.items()}
    return {"ITEMSVC_AUTH": auth, **files, **clients, **more}


@pytest.fixture
def service(
    database_url: str, authority: Authority, server: Files, request: pytest.FixtureRequest
) -> Iterator[ServiceProcess]:
    """Return a service with mTLS, with the settings that a test was parametrized with."""
    options = {"workers": 1, **getattr(request, "param", {})}
    assert server.cert.exists()
    workers = int(options.pop("workers"))
    settings = tls(authority, **options)
    with TLSService(database_url, authority, settings, workers=workers) as service:
        yield service


both_numbers = pytest.mark.parametrize("service", [{"workers": 1}, {"workers": 2}], indirect=True, ids=["one", "two"])
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@both_numbers
async def test_a_client_with_a_certificate_has_the_scopes_of_its_user(
    service: ServiceProcess, authority: Authority, database_url: str
) -> None:
    id = await store_user(database_url, "batch.example.org", "writer")
    await store_user(database_url, "reader", "reader")
    writer = authority.client("writer", hosts=["batch.example.org"])
    reader = authority.client("reader", emails=["Reader@example.org"])
    for _ in range(8):  # connections, of which each worker gets some
        with service.client(verify=authority.trusting(writer)) as client:
            assert client.post("/items", json=LAMP).json()["owner_id"] == id
        with service.client(verify=authority.trusting(reader)) as client:
            assert client.get("/items").status_code == 200
            assert client.post("/items", json=LAMP).status_code == 403
        with service.client() as client:
            response = client.get("/items")
            assert (response.status_code, client.get("/livez").status_code) == (401, 200)
            assert response.json()["detail"] == "A client certificate is needed."


async def test_a_user_who_may_not_sign_in_any_more_is_refused_on_an_open_connection(
    service: ServiceProcess, authority: Authority, database_url: str
) -> None:
    id = await store_user(database_url, "ada", "admin")
    with service.client(verify=authority.trusting(authority.client(common_name="ada"))) as client:
        assert client.get("/users").status_code == 200
        await change_user(database_url, id, role="reader")
        await until(lambda: client.get("/users").status_code == 403)
        await change_user(database_url, id, is_active=False)
        await until(lambda: client.get("/items").status_code == 401)
        response = client.get("/items")
    assert response.json()["code"] == "unauthenticated"
    assert response.json()["detail"].startswith("The names in the client certificate")


@pytest.mark.parametrize("service", [{"auth": "mtls,tokens"}], indirect=True)
async def test_beside_tokens_a_client_may_have_either_and_a_token_counts_first(
    service: ServiceProcess, authority: Authority, database_url: str
) -> None:
    await store_user(database_url, "reader", "reader")
    token = bearer(await issue(database_url, await store_user(database_url, "admin", "admin")))
    with service.client() as client:
        assert client.get("/users", headers=token).status_code == 200
        assert client.get("/items").status_code == 401
    with service.client(verify=authority.trusting(authority.client(common_name="reader"))) as client:
        assert client.get("/users").status_code == 403
        assert client.get("/users", headers=token).status_code == 200
        assert client.get("/items", headers=bearer("lamp")).status_code == 401
        assert client.get("/items").status_code == 200


def is_refused(service: ServiceProcess, context: ssl.SSLContext) -> bool:
    """Return whether a client has no response, as its certificate is refused."""
    try:
        with service.client(verify=context) as client:
            client.get("/livez")
    except httpx.TransportError:
        return True
    return False


@on_sqlite
def test_a_client_whose_certificate_is_none_of_the_ca_does_not_get_as_far_as_a_request(
    service: ServiceProcess, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    others = Authority(folder)
    assert is_refused(service, authority.trusting(others.client(common_name="admin")))
    assert is_refused(service, authority.trusting(authority.client(common_name="admin", is_self_signed=True)))
    assert is_refused(service, authority.trusting(authority.client(common_name="admin", begins=-2 * DAY, ends=-DAY)))
    assert is_refused(service, authority.trusting(authority.client(common_name="admin", begins=DAY, ends=2 * DAY)))
    assert is_refused(service, authority.trusting(authority.server("another")))  # which is for no client
    with service.client() as client:
        assert client.get("/livez").is_success
    assert "TLS handshakes failed" in service.log
    assert "127.0.0.1" in service.log


def health(service: ServiceProcess, **environ: str) -> int:
    """Return the exit code of the image's check of its health."""
    [line] = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("HEALTHCHECK")]
    _, *arguments = json.loads(line[line.index("[") :])
    environ["PORT"] = str(httpx.URL(service.url).port)
    return subprocess.run([sys.executable, *arguments], env=environ, check=False, timeout=LIMIT_S).returncode


@on_sqlite
@pytest.mark.parametrize("service", [{"auth": MTLS}, {"auth": TOKENS}], indirect=True)
def test_the_image_finds_out_that_it_is_healthy_under_tls(service: ServiceProcess) -> None:
    assert health(service, ITEMSVC_TLS_CERT="server.crt") == 0
    assert health(service) != 0


@on_sqlite
def test_the_image_finds_out_that_it_is_healthy(database_url: str) -> None:
    with ServiceProcess(database_url) as service:
        assert health(service) == 0
    assert health(service) != 0


@on_sqlite
def test_a_certificate_that_is_revoked_is_refused_from_the_next_sighup_on(
    database_url: str, authority: Authority, server: Files
) -> None:
    one, two = authority.client("one", "one"), authority.client("two", "two")
    settings = tls(authority, tls_client_crl=str(authority.revoke(one)))
    assert server.cert.exists()
    with TLSService(database_url, authority, settings) as service:
        assert is_refused(service, authority.trusting(one))
        assert not is_refused(service, authority.trusting(two))
        authority.revoke(one, two)
        service.send(signal.SIGHUP)
        wait_until(lambda: is_refused(service, authority.trusting(two)))


@on_sqlite
@pytest.mark.parametrize("auth", [MTLS, TOKENS])
@pytest.mark.parametrize("lowest", ["1.2", "1.3"])
def test_a_client_with_an_old_version_of_tls_is_refused(
    database_url: str, authority: Authority, server: Files, auth: str, lowest: str
) -> None:
    context = authority.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert server.cert.exists()
    settings = tls(authority, auth, tls_version_min=lowest)
    with TLSService(database_url, authority, settings) as service:
        assert is_refused(service, context) == (lowest == "1.3")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.path)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        assert is_refused(service, context)


@on_sqlite
async def test_without_client_certificates_tokens_come_over_granians_own_tls(
    database_url: str, authority: Authority, server: Files
) -> None:
    token = bearer(await issue(database_url, await store_user(database_url, "admin", "admin")))
    assert server.cert.exists()
    with (
        TLSService(database_url, authority, workers=2, settings=tls(authority, TOKENS)) as service,
        service.client(headers=token) as client,
    ):
        assert service.url.startswith("https://")
        assert client.post("/items", json=LAMP).status_code == 201


def own_certificate(service: ServiceProcess, authority: Authority) -> bytes:
    """Return the certificate that a service shows."""
    url = httpx.URL(service.url)
    address = (url.host, url.port or 0)
    with (
        socket.create_connection(address, LIMIT_S) as connection,
        authority.trusting().wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


@on_sqlite
@pytest.mark.parametrize("auth", [MTLS, TOKENS])
def test_sighup_reads_the_certificates_anew_and_files_that_are_wrong_replace_nobody(
    database_url: str, authority: Authority, server: Files, auth: str
) -> None:
    settings = tls(authority, auth)
    with TLSService(database_url, authority, settings, workers=2) as service:
        before, shown = pids(service), own_certificate(service, authority)
        with service.client() as client:
            assert client.get("/livez").is_success
            kept = server.key.read_bytes()
            authority.server()
            renewed = server.key.read_bytes()
            server.key.write_bytes(kept)  # of the certificate before
            service.send(signal.SIGHUP)
            wait_until(lambda: "worker-1 is not replaced, as its successor cannot serve" in service.log)
            assert f"ITEMSVC_TLS_KEY: {server.key} does not belong to the certificate" in service.log
            assert client.get("/livez").is_success
            assert own_certificate(service, authority) == shown
            assert len(pids(service) & before) == 2
            server.key.write_bytes(renewed)
            wait_until(lambda: replaced(service, before))
        assert {own_certificate(service, authority) for _ in range(8)} == {
            ssl.PEM_cert_to_DER_cert(server.cert.read_text())
        }
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log


@on_sqlite
@pytest.mark.parametrize("auth", [MTLS, TOKENS])
async def test_no_request_fails_while_workers_are_replaced_and_the_service_stops(
    database_url: str, authority: Authority, server: Files, auth: str
) -> None:
    admin = authority.client(common_name="admin")
    token = bearer(await issue(database_url, await store_user(database_url, "admin", "admin")))
    context = authority.trusting(admin if auth == MTLS else None)
    settings = tls(authority, auth, drain_delay_ms="1000")
    assert server.cert.exists()
    with TLSService(database_url, authority, settings, workers=2) as service:
        before = pids(service)
        headers = {} if auth == MTLS else token
        with Clients(service.url, verify=context, headers=headers) as clients:
            wait_until(lambda: clients.served > 50)
            service.send(signal.SIGHUP)
            wait_until(lambda: replaced(service, before))
            enough = clients.served + 50
            wait_until(lambda: clients.served > enough)
        assert not clients.failures
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log
        assert "Killing" not in service.log
        assert '"level":"error"' not in service.log


@on_sqlite
@pytest.mark.parametrize("service", [{"workers": 2}], indirect=True)
async def test_a_worker_that_is_killed_takes_no_certificate_along(
    service: ServiceProcess, authority: Authority, database_url: str
) -> None:
    await store_user(database_url, "reader", "reader")
    context = authority.trusting(authority.client(common_name="reader"))
    service.workers[0].kill()
    wait_until(lambda: "Unexpected exit" in service.log and service.log.count("Started worker-") == 3)
    for _ in range(16):
        with service.client(verify=context) as client:
            assert client.get("/items").status_code == 200


@on_sqlite
def test_who_comes_to_granian_behind_tls_is_sent_away(service: ServiceProcess) -> None:
    port = httpx.URL(service.url).port
    found = {one.laddr.port for one in service.workers[0].net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    [behind] = found - {port}
    assert httpx.get(f"http://127.0.0.1:{behind}/livez").status_code == 421


@on_sqlite
@pytest.mark.skipif(CURL is None, reason="there is no curl")
async def test_curl_comes_in_with_a_certificate(
    service: ServiceProcess, authority: Authority, database_url: str
) -> None:
    await store_user(database_url, "ada", "reader")
    ada = authority.client(common_name="ada")
    options = ["--silent", "--fail-with-body", "--cacert", str(authority.path), "--cert", str(ada.cert)]
    command = [str(CURL), *options, "--key", str(ada.key), f"{service.url}/items"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"[]"  # noqa: ASYNC221 - it is short
