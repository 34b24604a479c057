"""The pods of the service: their settings, probes, rights and connections are what the code and the image want."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from service.auth.start import refusal
from service.command_line import parser
from service.resources.health import READINESS_TIMEOUT_S
from service.routes import ROUTES
from service.settings import Settings
from service.worker_count import memory_shortage
from tests.deploy.dockerfile import ROOT, instruction
from tests.deploy.kubernetes import (
    OVERLAYS,
    Manifest,
    limits_of,
    of_kind,
    of_the_service,
    overlay,
    secret,
    settings_of,
    templates,
    variables,
)

PGBOUNCER = ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini"
# What a PostgreSQL that nobody has configured allows roles that are no superusers.
CONNECTIONS_MAX = 100 - 3


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return overlay(request.param)


@pytest.fixture
def pod(manifests: list[Manifest]) -> Manifest:
    """Return the template of the pods that serve."""
    return of_the_service(manifests)["Deployment/items"]


@pytest.fixture
def container(pod: Manifest) -> dict[str, Any]:
    [container] = pod["spec"]["containers"]
    return dict(container)


@pytest.fixture
def settings(manifests: list[Manifest], pod: Manifest, tmp_path: Path) -> Settings:
    return settings_of(manifests, pod, tmp_path)


def test_every_command_is_one_and_takes_its_settings(manifests: list[Manifest], tmp_path: Path) -> None:
    for template in of_the_service(manifests).values():
        [container] = template["spec"]["containers"]
        assert parser().parse_args(container["args"]).run
        assert settings_of(manifests, template, tmp_path).host == "0.0.0.0"  # noqa: S104 - the image's


def test_only_callers_with_a_token_come_in(settings: Settings) -> None:
    assert settings.auth == {"tokens"}
    assert not refusal(settings, settings.host)


def test_the_service_is_killed_no_earlier_than_it_has_drained(settings: Settings, pod: Manifest) -> None:
    drains_s = settings.drain_delay_ms / 1000 + settings.shutdown_timeout_s
    assert pod["spec"]["terminationGracePeriodSeconds"] >= drains_s + 5


def test_the_probes_are_answered_by_the_service(settings: Settings, container: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"{settings.port}" == f"{ports['http']}" == instruction("EXPOSE")
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    assert set(paths.values()) <= {route.path for route in ROUTES}
    assert probes["readiness"]["timeoutSeconds"] > READINESS_TIMEOUT_S  # or nobody would hear why it is not ready


def test_the_metrics_are_where_their_setting_says(
    manifests: list[Manifest], settings: Settings, container: dict[str, Any]
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports.get("metrics", Settings().metrics_port) == settings.metrics_port
    assert ("metrics" in ports) == bool(of_kind(manifests, "ServiceMonitor"))


def test_every_pod_has_no_more_rights_than_it_needs(manifests: list[Manifest]) -> None:
    for template in templates(manifests).values():
        spec = template["spec"]
        assert not spec["automountServiceAccountToken"]
        assert not spec["enableServiceLinks"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == instruction("USER")
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_every_secret_is_a_file_that_the_user_of_the_pod_may_read(manifests: list[Manifest]) -> None:
    names = {"Deployment": "items-database", "Job": "items-database-owner"}
    for name, template in of_the_service(manifests).items():
        environ = variables(manifests, template)
        assert "DATABASE_URL" not in environ
        if file := environ.get("DATABASE_URL_FILE"):
            assert secret(template, Path(file)) == names[name.partition("/")[0]]
        modes = [one["secret"]["defaultMode"] for one in template["spec"].get("volumes", []) if "secret" in one]
        assert set(modes) <= {0o440}
        assert not modes or template["spec"]["securityContext"]["fsGroup"] == 65532


def test_the_workers_have_enough_memory(settings: Settings, pod: Manifest) -> None:
    assert settings.workers == (1 if settings.database_url.startswith("sqlite") else 2)
    assert memory_shortage(limits_of(pod), settings.workers) == ""


def test_sqlite_has_one_instance_whose_file_is_on_the_volume() -> None:
    spec = of_kind(overlay("sqlite"), "Deployment")["items"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    [container] = spec["template"]["spec"]["containers"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [instruction("VOLUME")]
    assert not of_kind(overlay("sqlite"), "HorizontalPodAutoscaler")


def connections(name: str, folder: Path) -> int:
    """Return how many connections of an overlay's instances there may be, while one more than all takes over."""
    manifests = overlay(name)
    settings = settings_of(manifests, of_the_service(manifests)["Deployment/items"], folder)
    [scaled] = of_kind(manifests, "HorizontalPodAutoscaler").values()
    surge = of_kind(manifests, "Deployment")["items"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    instances = scaled["spec"]["maxReplicas"] + surge
    return int(instances * settings.workers * (settings.batch_connections + settings.pool_size))


def test_the_instances_open_no_more_connections_than_postgresql_allows(tmp_path: Path) -> None:
    assert connections("postgresql", tmp_path) + 1 <= CONNECTIONS_MAX  # and that of the migration


def test_the_instances_open_no_more_connections_than_pgbouncer_allows(tmp_path: Path) -> None:
    ini = ConfigParser()
    ini.read(PGBOUNCER)
    settings = settings_of(overlay("pgbouncer"), of_the_service(overlay("pgbouncer"))["Deployment/items"], tmp_path)
    assert settings.pgbouncer == (ini["pgbouncer"]["pool_mode"] == "transaction")
    assert connections("pgbouncer", tmp_path) <= ini.getint("pgbouncer", "max_client_conn")
    replicas = of_kind(overlay("pgbouncer"), "Deployment")["items-pgbouncer"]["spec"]["replicas"]
    pools = ini.getint("pgbouncer", "default_pool_size")
    assert replicas * pools + 1 <= CONNECTIONS_MAX


def test_the_readme_makes_every_secret_that_a_pod_mounts() -> None:
    readme = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    made = set(re.findall(r"create secret generic ([\w-]+) --from-file=([\w.]+)", readme))
    assert made == {("items-database", "url"), ("items-database-owner", "url"), ("items-pgbouncer", "userlist.txt")}
    mounted = {
        volume["secret"]["secretName"]
        for name in OVERLAYS
        for template in templates(overlay(name)).values()
        for volume in template["spec"].get("volumes", [])
        if "secret" in volume
    }
    assert mounted == {name for name, _ in made}
