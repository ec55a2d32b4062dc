"""Manifests against the schemas of Kubernetes, and against the server that they start."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from server.config import Config

from .conftest import DEPLOY

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
MANIFESTS = [document for path in FILES for document in yaml.safe_load_all(path.read_text())]
CORE = [each for each in MANIFESTS if each["apiVersion"].partition("/")[0] in {"v1", "apps", "policy", "autoscaling"}]
CORE += [each for each in MANIFESTS if each["apiVersion"].startswith("networking.k8s.io/")]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())


def label(manifest: dict) -> str:
    return manifest["kind"]


def kind(name: str) -> dict:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == name)
    return found


def pod_specs() -> list[dict]:
    """Pod specs of the Deployment and of the ServingRuntime, which embeds one."""
    runtime = kind("ServingRuntime")["spec"]
    return [kind("Deployment")["spec"]["template"]["spec"], {"containers": runtime["containers"]}]


@pytest.mark.parametrize("manifest", CORE, ids=label)
@pytest.mark.parametrize("version", ["1.29", "1.33"])
def test_manifest_matches_the_schema(manifest: dict, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = {**kind("PodDisruptionBudget"), "spec": {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_the_serving_runtimes_containers_match_the_schema() -> None:
    for spec in pod_specs():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.33", strict=True)


def test_everything_is_there() -> None:
    assert {manifest["kind"] for manifest in MANIFESTS} >= {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
        "ServingRuntime",
        "InferenceService",
    }


def test_the_servers_arguments_are_settings() -> None:
    for spec in pod_specs():
        arguments = spec["containers"][0]["args"]
        assert Config(repository=Path("models"), _cli_parse_args=["--repository", "models", *arguments])


def test_containers_have_no_power() -> None:
    for spec in pod_specs():
        context = spec["containers"][0]["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"]
    assert pod_specs()[0]["securityContext"]["runAsNonRoot"]
    server = COMPOSE["services"]["server"]
    assert server["read_only"]
    assert server["cap_drop"] == ["ALL"]


def test_there_is_time_to_stop() -> None:
    spec = pod_specs()[0]
    arguments = Config(repository=Path("models"), _cli_parse_args=["--repository", "m", *spec["containers"][0]["args"]])
    assert spec["terminationGracePeriodSeconds"] > arguments.lame_duck_seconds + arguments.drain_seconds
    # The balancer must have noticed before calls are refused.
    probe = spec["containers"][0]["readinessProbe"]
    assert arguments.lame_duck_seconds > 2 * probe["periodSeconds"] * probe["failureThreshold"]


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
