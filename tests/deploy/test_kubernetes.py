"""The manifests of Kubernetes: every one is valid, and what it names is there."""

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.prometheus_operator import v1 as operator

from tests.deploy.dockerfile import ROOT
from tests.deploy.kubernetes import (
    KUBERNETES,
    OPERATOR,
    OVERLAYS,
    Manifest,
    kustomize,
    of_kind,
    overlay,
    selects,
    templates,
    with_component,
)
from tests.deploy.rules import FILE, RULES, groups, written

DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
# `kubectl apply` keeps what it applied in an annotation, which may have so much.
APPLIED_BYTES_MAX = 256 * 1024
PART = "app.kubernetes.io/part-of"


@pytest.fixture(scope="module", params=[*OVERLAYS, "sqlite and monitoring"])
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    name, _, component = str(request.param).partition(" and ")
    return with_component(tmp_path_factory.mktemp("added"), name, component) if component else overlay(name)


@pytest.fixture
def pods(manifests: list[Manifest]) -> list[dict[str, str]]:
    """Return the labels of every pod."""
    return [template["metadata"]["labels"] for template in templates(manifests).values()]


def problem(manifest: Manifest, version: str) -> str:
    """Return what is wrong with a manifest; one of a kind that is not known is wrong, too."""
    try:
        if manifest["apiVersion"] == OPERATOR:
            # The model leaves out what it does not know.
            model = getattr(operator, manifest["kind"]).model_validate(manifest)
            dumped = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
            return "" if dumped == manifest else f"only {dumped} is known"
        kubernetes_validate.validate(manifest, version, strict=True)
    except (AttributeError, ValueError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{type(error).__name__}: {error}"
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_every_manifest_is_valid(manifests: list[Manifest], version: str) -> None:
    assert len(manifests) > 5
    assert [found for one in manifests if (found := problem(one, version))] == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", {"kind": "Deploymnet"}),
        ("Deployment", {"apiVersion": "apps/v1beta1"}),
        ("Deployment", {"spek": {}}),
        ("HorizontalPodAutoscaler", {"apiVersion": "autoscaling/v2beta2"}),
        ("ServiceMonitor", {"apiVersion": "monitoring.coreos.com/v2"}),
        ("ServiceMonitor", {"kind": "ServiceMonitr"}),
        ("ServiceMonitor", {"spec": {"selector": {}, "endpoints": [{"prot": "metrics"}]}}),
    ],
)
def test_what_is_mistyped_is_not_valid(kind: str, change: dict[str, Any]) -> None:
    manifest, *_ = of_kind(overlay("postgresql"), kind).values()
    assert problem(manifest, "1.37") == ""
    assert problem({**manifest, **change}, "1.37") != ""


def test_every_overlay_is_tested() -> None:
    assert sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir()) == sorted(OVERLAYS)


def test_the_base_is_valid_by_itself() -> None:
    assert [problem(one, "1.37") for one in kustomize(KUBERNETES / "base")] == [""] * 5


def test_everything_is_in_one_namespace_and_has_one_label(manifests: list[Manifest]) -> None:
    found = {(one["metadata"]["namespace"], one["metadata"]["labels"][PART]) for one in manifests}
    assert found == {("items", "items")}


def test_every_pod_has_the_label_that_nothing_is_selected_by(
    manifests: list[Manifest], pods: list[dict[str, str]]
) -> None:
    assert {labels[PART] for labels in pods} == {"items"}
    specs = [one["spec"] for one in manifests if "spec" in one]
    assert [selector for spec in specs for selector in selectors(spec) if PART in str(selector)] == []


def selectors(part: Any) -> Iterator[Any]:
    """Yield every selector in a part of a manifest."""
    if isinstance(part, list):
        for one in part:
            yield from selectors(one)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name.lower().endswith("selector"):
                yield value
            yield from selectors(value)


def test_a_service_selects_pods_and_names_their_ports(manifests: list[Manifest]) -> None:
    for service in of_kind(manifests, "Service").values():
        selected = [
            template
            for template in templates(manifests).values()
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ]
        assert len(selected) == 1  # clients of the service do not get to a migration
        named = {port["name"] for one in selected[0]["spec"]["containers"] for port in one["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_a_deployment_a_budget_and_a_policy_select_pods(manifests: list[Manifest], pods: list[dict[str, str]]) -> None:
    for one in of_kind(manifests, "Deployment").values():
        assert selects(one["spec"]["selector"], one["spec"]["template"]["metadata"]["labels"])
    for one in of_kind(manifests, "PodDisruptionBudget").values():
        assert sum(selects(one["spec"]["selector"], labels) for labels in pods) == 1
    for one in of_kind(manifests, "NetworkPolicy").values():
        assert any(selects(one["spec"]["podSelector"], labels) for labels in pods)


def test_every_pod_s_traffic_is_limited_in_both_directions(
    manifests: list[Manifest], pods: list[dict[str, str]]
) -> None:
    policies = [one["spec"] for one in of_kind(manifests, "NetworkPolicy").values()]
    for labels in pods:
        types = {kind for spec in policies if selects(spec["podSelector"], labels) for kind in spec["policyTypes"]}
        assert types == {"Ingress", "Egress"}


def test_the_autoscaler_decides_alone_how_many_there_are(manifests: list[Manifest]) -> None:
    deployments = of_kind(manifests, "Deployment")
    for one in of_kind(manifests, "HorizontalPodAutoscaler").values():
        target = one["spec"]["scaleTargetRef"]
        assert target["kind"] == "Deployment"
        assert "replicas" not in deployments[target["name"]]["spec"]  # which each `kubectl apply` would go back to


def test_prometheus_finds_the_metrics(manifests: list[Manifest]) -> None:
    for monitor in of_kind(manifests, "ServiceMonitor").values():
        [service] = [
            one
            for one in of_kind(manifests, "Service").values()
            if selects(monitor["spec"]["selector"], one["metadata"]["labels"])
        ]
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "items"
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_a_migration_has_the_name_of_its_version() -> None:
    for name in ("postgresql", "pgbouncer"):
        [[job, manifest]] = of_kind(overlay(name), "Job").items()
        [container] = manifest["spec"]["template"]["spec"]["containers"]
        deployment = of_kind(overlay(name), "Deployment")["items"]
        version = deployment["metadata"]["labels"]["app.kubernetes.io/version"]
        assert (job, container["image"]) == (f"items-migrate-{version}", f"items:{version}")


def test_the_operator_has_every_alert_rule() -> None:
    assert FILE.read_text(encoding="utf-8") == written()  # `python -m tests.deploy.rules` writes it
    for name in ("postgresql", "pgbouncer"):
        [rule] = of_kind(overlay(name), "PrometheusRule").values()
        assert rule["spec"]["groups"] == groups()
        assert len(groups()) >= len(list(RULES.glob("*.yml"))) > 1


def test_grafana_has_every_dashboard() -> None:
    files = {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS.glob("*.json")}
    assert files
    for name in ("postgresql", "pgbouncer"):
        made = of_kind(overlay(name), "ConfigMap")["items-dashboards"]
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert made["data"] == files
        assert sum(map(len, files.values())) < APPLIED_BYTES_MAX
