"""The manifests of Kubernetes, as kustomize builds them."""

import os
import subprocess
import sys
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import yaml

from service.cgroup import Limits
from service.settings import WORKERS_MAX, Settings
from service.settings_reader import read_settings
from service.variables import variable_of
from service.worker_count import AUTO, auto_workers
from tests.deploy.dockerfile import ROOT, environment

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ["sqlite", "postgresql", "pgbouncer"]
OPERATOR = "monitoring.coreos.com/v1"
TEMPLATED = {"Deployment", "Job"}

Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    """Return the manifests of a folder; what kustomize warns of is an error."""
    kubectl = Path(sys.executable).with_name("kubectl")
    built = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert (built.returncode, built.stderr) == (0, "")
    return list(yaml.safe_load_all(built.stdout))


@cache
def overlay(name: str) -> list[Manifest]:
    """Return the manifests of an overlay."""
    return kustomize(KUBERNETES / "overlays" / name)


def with_component(folder: Path, name: str, component: str) -> list[Manifest]:
    """Return the manifests of an overlay to which a component is added, in an empty folder."""
    paths = {"resources": KUBERNETES / "overlays" / name, "components": KUBERNETES / "components" / component}
    content = {key: [os.path.relpath(path, folder.resolve())] for key, path in paths.items()}
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"kind": "Kustomization", "namespace": "items", **content})
    )
    return kustomize(folder)


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the manifests of a kind, by name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the templates of all pods, by the kind and name of what makes them."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"]
        for one in manifests
        if one["kind"] in TEMPLATED
    }


def of_the_service(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the templates of pods that run the service's image."""
    return {
        name: template
        for name, template in templates(manifests).items()
        if all(one["image"].startswith("items:") for one in template["spec"]["containers"])
    }


def variables(manifests: list[Manifest], template: Manifest) -> dict[str, str]:
    """Return the environment of a template's only container, which has that of the image, too."""
    [container] = template["spec"]["containers"]
    maps = of_kind(manifests, "ConfigMap")
    environ = environment()
    for source in container.get("envFrom", []):
        environ |= maps[source["configMapRef"]["name"]]["data"]
    return environ | {one["name"]: one["value"] for one in container.get("env", [])}


def settings_of(manifests: list[Manifest], template: Manifest, folder: Path) -> Settings:
    """Return the settings of a template's container, which has to be given only those that there are."""
    environ = variables(manifests, template)
    file = f"{variable_of('database_url')}_FILE"
    if file in environ:
        secret(template, Path(environ[file]))
        (folder / "url").write_text("postgresql://items:password@postgresql/items\n")
        environ[file] = str(folder / "url")
        if environ.get(variable_of("workers")) == AUTO:  # which this machine must not decide
            environ[variable_of("workers")] = str(auto_workers(limits_of(template), 64, WORKERS_MAX))
    return read_settings(environ)


def limits_of(template: Manifest) -> Limits:
    """Return what the control group of a template's only container allows."""
    [container] = template["spec"]["containers"]
    allowed = container["resources"]["limits"]
    return Limits(float(allowed.get("cpu", inf)), int(allowed["memory"].removesuffix("Mi")) * 2**20)


def secret(template: Manifest, path: Path) -> str:
    """Return the name of the Secret that is mounted where a file is looked for."""
    [container] = template["spec"]["containers"]
    [mount] = [one for one in container["volumeMounts"] if Path(one["mountPath"]) == path.parent]
    [volume] = [one for one in template["spec"]["volumes"] if one["name"] == mount["name"]]
    return str(volume["secret"]["secretName"])


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Return whether a selector, of the kind that has labels and expressions, selects something with these labels."""
    expressions = selector.get("matchExpressions", [])
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    assert all(one["operator"] == "In" for one in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )
