"""The routes and settings of Envoy Gateway against the server that they lead to."""

import yaml
from autoencoder.v1 import autoencoder_pb2
from grpc_health.v1 import health_pb2
from inference import open_inference_pb2

from tests.deploy.conftest import DEPLOY
from tests.deploy.test_manifests import MANIFESTS, kind, parsed, pod_specs

SERVICES = [
    each
    for file in (autoencoder_pb2, open_inference_pb2, health_pb2)
    for each in file.DESCRIPTOR.services_by_name.values()
]


def test_the_gateway_leads_to_the_service_and_offers_what_the_server_has() -> None:
    service, gateway = kind("Service"), kind("Gateway")
    listeners = {listener["name"] for listener in gateway["spec"]["listeners"]}
    ports = {(service["metadata"]["name"], port["port"]) for port in service["spec"]["ports"]}
    routes = [each["spec"] for each in MANIFESTS if each["kind"] == "GRPCRoute"]
    served = {f"{each.full_name}/{method.name}" for each in SERVICES for method in each.methods}
    offered: set[str] = set()
    for route in routes:
        assert {(each["name"], each["sectionName"]) for each in route["parentRefs"]} <= {
            (gateway["metadata"]["name"], listener) for listener in listeners
        }
        for rule in route["rules"]:
            assert {(each["name"], each["port"]) for each in rule["backendRefs"]} <= ports
            for match in (each["method"] for each in rule["matches"]):
                prefix = f"{match['service']}/{match['method']}/" if "method" in match else f"{match['service']}/"
                names = {name for name in served if f"{name}/".startswith(prefix)}
                assert names, match
                offered |= names
    assert {name.partition("/")[2] for name in served - offered} == {
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    }


def test_what_the_gateway_does_about_failures_fits_the_server() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in MANIFESTS if each["kind"] == "BackendTrafficPolicy"}
    named = {(each["kind"], each["metadata"]["name"]) for each in MANIFESTS}
    assert {(ref["kind"], ref["name"]) for spec in policies.values() for ref in spec["targetRefs"]} <= named
    check = policies["hourglass"]["healthCheck"]["active"]
    assert (check["interval"], check["timeout"]) == ("500ms", "1s")
    noticed = (0.5 + 1) * check["unhealthyThreshold"]
    assert all(parsed(spec["containers"][0]["args"]).lame_duck_seconds > noticed for spec in pod_specs())
    envoy = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())
    (ours,) = envoy["static_resources"]["clusters"][0]["circuit_breakers"]["thresholds"]
    breaker = policies["hourglass"]["circuitBreaker"]
    assert breaker["maxParallelRequests"] == ours["max_requests"]
    assert breaker["retryBudget"]["percent"]["numerator"] == ours["retry_budget"]["budget_percent"]["value"]


def test_replicas_behind_the_gateway_have_the_settings_that_envoy_needs() -> None:
    settings = kind("ConfigMap", "hourglass-gateway")
    (server,) = pod_specs()[0]["containers"]
    # Without the gateway there is no such map, and the server starts as before.
    assert server["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"], "optional": True}}]
    config = parsed(server["args"], settings["data"])
    assert config.trusted_proxies
    assert config.max_address_connections == config.max_connections
    assert config.max_connection_unsent_bytes == config.max_unsent_bytes
    # `auto` is grpcio where other machines reach the server. Streams of the native transport would need `unix` too.
    assert config.transport == "auto"
    assert "unix" not in config.trusted_proxies
