"""Manifests against the schemas of Kubernetes, and against the server that they start."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from server.__main__ import LAST_SECONDS
from server.config import Config
from tests.deploy.conftest import DEPLOY
from tests.deploy.monitoring import RULES

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
MANIFESTS = [document for path in FILES for document in yaml.safe_load_all(path.read_text())]
CORE = [each for each in MANIFESTS if each["apiVersion"].partition("/")[0] in {"v1", "apps", "policy", "autoscaling"}]
CORE += [each for each in MANIFESTS if each["apiVersion"].startswith("networking.k8s.io/")]
LATEST = "1.37"
CUSTOM = [each for each in MANIFESTS if each not in CORE]
SCHEMAS = yaml.safe_load(Path(__file__).with_name("custom_resources.yml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())


def label(manifest: dict) -> str:
    return manifest["kind"]


def kind(name: str, called: str = "hourglass") -> dict:
    """The manifest of a kind; of several the one with a name, the application's unless given."""
    found = [manifest for manifest in MANIFESTS if manifest["kind"] == name]
    (only,) = found if len(found) == 1 else (each for each in found if each["metadata"]["name"] == called)
    return only


def pod_specs() -> list[dict]:
    """Pod specs of the Deployment and of the ServingRuntime, which embeds one."""
    runtime = kind("ServingRuntime")["spec"]
    return [kind("Deployment")["spec"]["template"]["spec"], {name: runtime[name] for name in ("containers", "volumes")}]


@pytest.mark.parametrize("manifest", CORE, ids=label)
@pytest.mark.parametrize("version", ["1.29", LATEST])
def test_manifest_matches_the_schema(manifest: dict, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = {**kind("PodDisruptionBudget"), "spec": {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, LATEST, strict=True)


def check_custom(manifest: dict) -> None:
    """Raise what a schema of tests/deploy/custom_resources.yml has against a manifest."""
    kind = manifest["kind"]
    schema = {
        "definitions": SCHEMAS["definitions"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": SCHEMAS["API"][kind]},
            "kind": {"const": kind},
            "metadata": {"$ref": "#/definitions/metadata"},
            "spec": {"$ref": f"#/definitions/{kind}"},
        },
    }
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(manifest, schema, jsonschema.Draft7Validator)


@pytest.mark.parametrize("manifest", CUSTOM, ids=label)
def test_custom_resource_matches_its_schema(manifest: dict) -> None:
    check_custom(manifest)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update({"for": "1m"})),
        ("PrometheusRule", lambda spec: spec["groups"][1]["rules"][0].pop("expr")),
        ("PrometheusRule", lambda spec: spec["groups"][1]["rules"][0].update({"for": "a minute"})),
        ("GRPCRoute", lambda spec: spec["rules"][0]["matches"][0]["method"].update({"service": "a/b"})),
        ("Gateway", lambda spec: spec["listeners"][0].update({"protocol": "GRPC"})),
        ("BackendTrafficPolicy", lambda spec: spec["retry"]["retryOn"].update({"triggers": "reset"})),
        ("BackendTrafficPolicy", lambda spec: spec["healthCheck"]["active"].update({"interval": "0.5s"})),
        ("ServiceMonitor", lambda spec: spec["endpoints"][0].update({"ports": "metrics"})),
        ("ServiceMonitor", lambda spec: spec.pop("selector")),
        ("ServingRuntime", lambda spec: spec.update({"protocolVersion": "grpc-v2"})),
        ("ServingRuntime", lambda spec: spec["containers"][0].update({"name": "server"})),
        ("InferenceService", lambda spec: spec["predictor"]["model"].update({"storageURI": "pvc://a/"})),
        ("InferenceService", lambda spec: spec["predictor"].update({"minReplicas": "1"})),
    ],
)
def test_a_wrong_custom_resource_would_be_found(name: str, spoil: Callable[[dict], object]) -> None:
    manifest = copy.deepcopy(kind(name))
    spoil(manifest["spec"])
    with pytest.raises(jsonschema.ValidationError):
        check_custom(manifest)


def test_the_serving_runtimes_containers_match_the_schema() -> None:
    for spec in pod_specs():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}
        kubernetes_validate.validate(pod, LATEST, strict=True)


def test_everything_is_there() -> None:
    assert {manifest["kind"] for manifest in MANIFESTS} >= {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "Gateway",
        "GRPCRoute",
        "BackendTrafficPolicy",
        "ServiceMonitor",
        "PrometheusRule",
        "ConfigMap",
        "ServingRuntime",
        "InferenceService",
    }


def parsed(arguments: list[str], environment: dict[str, str] | None = None) -> Config:
    return Config.parse("server", ["--repository", "models", *arguments], environment or {})


def test_the_servers_arguments_are_settings() -> None:
    for spec in pod_specs():
        arguments = spec["containers"][0]["args"]
        assert parsed(arguments)


def test_containers_have_no_privileges() -> None:
    for spec in pod_specs():
        context = spec["containers"][0]["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"]
    assert pod_specs()[0]["securityContext"]["runAsNonRoot"]
    server = COMPOSE["services"]["server"]
    assert server["read_only"]
    assert server["cap_drop"] == ["ALL"]


def seconds_to_stop(config: Config) -> float:
    """The longest time a server takes to stop; no platform may kill it earlier."""
    return config.lame_duck_seconds + config.drain_seconds + LAST_SECONDS


def test_there_is_time_to_stop() -> None:
    predictor = kind("InferenceService")["spec"]["predictor"]
    for spec, owner in zip(pod_specs(), (pod_specs()[0], predictor), strict=True):
        arguments = parsed(spec["containers"][0]["args"])
        assert owner["terminationGracePeriodSeconds"] > seconds_to_stop(arguments)
        # The load balancer must have noticed before calls are rejected.
        probe = spec["containers"][0]["readinessProbe"]
        assert arguments.lame_duck_seconds > 2 * probe["periodSeconds"] * probe["failureThreshold"]
    server = COMPOSE["services"]["server"]
    grace = server["stop_grace_period"]
    assert grace.endswith("s")
    assert float(grace[:-1]) > seconds_to_stop(parsed([], server["environment"]))


def test_one_lost_probe_removes_no_pod() -> None:
    for spec in pod_specs():
        for name in ("readinessProbe", "livenessProbe"):
            assert spec["containers"][0][name]["failureThreshold"] >= 2


def test_a_pod_without_models_is_not_restarted_for_it() -> None:
    for spec in pod_specs():
        for name in ("startupProbe", "livenessProbe"):
            assert spec["containers"][0].get(name, {"httpGet": {"path": "/livez"}})["httpGet"]["path"] == "/livez"


def test_the_autoscaler_alone_says_how_many() -> None:
    assert "replicas" not in kind("Deployment")["spec"]
    assert kind("HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2


def test_the_adapter_offers_what_the_autoscaler_asks_for() -> None:
    (rule,) = yaml.safe_load(kind("ConfigMap", "hourglass-adapter")["data"]["config.yaml"])["rules"]
    (metric,) = kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].startswith(rule["name"]["as"])
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_the_rules_are_those_of_the_rule_files() -> None:
    groups = [yaml.safe_load(path.read_text())["groups"] for path in RULES]
    assert kind("PrometheusRule")["spec"]["groups"] == [group for file in groups for group in file]


def test_one_command_says_where_the_runbooks_are(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    page = "https://wiki.example/hourglass/operations"
    script = tmp_path / "deploy" / "rules.py"
    before = {path: path.read_text() for path in script.parent.rglob("*") if path.is_file()}
    subprocess.run([sys.executable, str(script)], check=True)
    assert {path: path.read_text() for path in before} == before, "run make rules"
    subprocess.run([sys.executable, str(script), "--runbooks", page], check=True)
    for name in ("prometheus/alerts.yml", "kubernetes/rules.yaml"):
        text = (tmp_path / "deploy" / name).read_text()
        assert text.count(f"runbook_url: {page}#") == text.count("- alert:") > 0
        assert text.count("runbook_url:") == text.count("- alert:")


def test_there_is_a_place_for_sockets() -> None:
    for spec in pod_specs():
        mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert "emptyDir" in volumes[mounts["/tmp"]]  # noqa: S108 (the container's own)


def test_selectors_select() -> None:
    labels = kind("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        kind("Deployment")["spec"]["selector"]["matchLabels"],
        kind("Service")["spec"]["selector"],
        kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    assert (
        kind("ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
        <= kind("Service")["metadata"]["labels"].items()
    )
    assert kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == kind("Deployment")["metadata"]["name"]


def test_the_inference_service_uses_the_runtime() -> None:
    runtime, service = kind("ServingRuntime"), kind("InferenceService")["spec"]["predictor"]["model"]
    assert service["runtime"] == runtime["metadata"]["name"]
    assert service["modelFormat"]["name"] in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    assert service["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_compose_mounts_what_exists() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source == "../models" or (DEPLOY / source).is_dir(), source
    assert (DEPLOY / COMPOSE["services"]["server"]["build"]["context"] / "deploy" / "Dockerfile").is_file()
