"""compose.yaml: it is valid, what it names is there, and the service takes its settings."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.auth.start import refusal
from service.command_line import parser
from service.settings import Settings
from service.settings_reader import read_settings
from tests.deploy.compose import FILE, FOLDER, compose, mounts, seconds, secret_paths, services
from tests.deploy.dockerfile import environment, instruction
from tests.support.waiting import LIMIT_S

PROMTOOL = shutil.which("promtool")


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return the folder of the secrets that the script makes."""
    shutil.copy(FOLDER / "secrets.sh", tmp_path)
    done = run(tmp_path / "secrets.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return tmp_path / "secrets"


def settings(name: str, secrets: Path) -> Settings:
    """Return the settings of a service of the image."""
    service = services()[name]
    environ = dict(service["environment"])
    environ["DATABASE_URL_FILE"] = str(secrets / secret_paths(service)[environ["DATABASE_URL_FILE"]])
    return read_settings(environment() | environ)


def valid(content: dict[str, Any], folder: Path) -> bool:
    (folder / "compose.json").write_text(json.dumps(content))
    check = Path(sys.executable).with_name("check-jsonschema")
    return run(check, "--builtin-schema", "vendor.compose-spec", folder / "compose.json").returncode == 0


def test_the_file_is_valid(tmp_path: Path) -> None:
    assert valid(compose(), tmp_path)
    assert not valid({**compose(), "servces": {}}, tmp_path)
    assert not valid({**compose(), "services": {"items": {"imag": "items"}}}, tmp_path)


def test_what_is_mounted_is_there() -> None:
    files = [file for service in services().values() for file in mounts(service).values()]
    assert len(files) > 5
    assert [file for file in files if not file.exists()] == []


def test_every_name_is_defined(secrets: Path) -> None:
    content = compose()
    for service in services().values():
        assert set(service.get("depends_on", [])) <= services().keys()
        volumes = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith("./")}
        assert volumes <= content["volumes"].keys()
        assert set(secret_paths(service).values()) <= content["secrets"].keys()
    made = {f"secrets/{file.name}" for file in secrets.iterdir()}
    assert {secret["file"] for secret in content["secrets"].values()} == made


def test_every_variable_that_names_a_secret_names_one_that_its_service_has() -> None:
    named = [
        (value, secret_paths(service))
        for service in services().values()
        for value in service.get("environment", {}).values()
        if str(value).startswith("/run/secrets/")
    ]
    assert len(named) == 4
    assert all(value in paths for value, paths in named)


def test_the_service_takes_its_settings(secrets: Path) -> None:
    assert parser().parse_args(services()["migrate"]["command"]).run
    serving, migrating = settings("items", secrets), settings("migrate", secrets)
    assert (serving.pgbouncer, "@pgbouncer:6432/" in serving.database_url) == (True, True)
    assert (migrating.pgbouncer, "@postgresql:5432/" in migrating.database_url) == (False, True)
    assert serving.auth == {"tokens"}
    assert not refusal(serving, serving.host)


def test_the_service_is_published_on_this_machine_alone(secrets: Path) -> None:
    port = settings("items", secrets).port
    assert services()["items"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_service_is_killed_no_earlier_than_it_has_drained(secrets: Path) -> None:
    serving = settings("items", secrets)
    drains_s = serving.drain_delay_ms / 1000 + serving.shutdown_timeout_s
    assert seconds(services()["items"]["stop_grace_period"]) >= drains_s + 5


def test_no_service_but_the_database_has_rights_or_a_writable_root() -> None:
    restricted = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    open_to = [name for name, service in services().items() if not restricted.items() <= service.items()]
    assert open_to == ["postgresql"]  # whose image begins as root
    assert services()["pgbouncer"]["user"] == instruction("USER")


def test_secrets_are_made_once_and_are_closed_to_others(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in secrets.iterdir()} == {0o644}  # containers have other users
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    assert len(before["password"].strip()) == 48
    assert before["userlist"] == f'"items" "{before["password"].strip()}"\n'
    assert run(secrets.parent / "secrets.sh").returncode == 0
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


def test_prometheus_scrapes_the_service_where_its_metrics_are(secrets: Path) -> None:
    file = mounts(services()["prometheus"])["/etc/prometheus/prometheus.yml"]
    content = yaml.safe_load(file.read_text())
    [scraped] = content["scrape_configs"]
    port = settings("items", secrets).metrics_port
    assert [target for one in scraped["static_configs"] for target in one["targets"]] == [f"items:{port}"]
    [rules] = content["rule_files"]
    assert str(Path(rules).parent) in mounts(services()["prometheus"])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; on Debian, apt-get install prometheus")
def test_promtool_takes_prometheus_s_configuration() -> None:
    assert PROMTOOL is not None
    done = run(PROMTOOL, "check", "config", FOLDER / "compose" / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_has_prometheus_and_the_dashboards() -> None:
    mounted = mounts(services()["grafana"])
    [source] = yaml.safe_load((FILE.parent / "compose/grafana/datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((FILE.parent / "compose/grafana/dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"] in mounted
    assert {"/etc/grafana/provisioning/datasources/items.yml", "/etc/grafana/provisioning/dashboards/items.yml"} <= (
        mounted.keys()
    )
