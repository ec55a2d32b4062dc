"""Tokens and rights, over the wire on both transports."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from inference import open_inference_pb2, open_inference_pb2_grpc

from server.calls.auth import TokenAuth, TokenFileError, read_tokens
from server.config import Config
from server.errors import PermissionDeniedError, UnauthenticatedError
from server.settings import SettingsError
from tests.server.conftest import GOLDEN, TRANSPORTS, Served, metric, serving

INFER, ADMIN, BOTH = "inference-token-0001", "admin-token-00000001", "both-token-000000001"
LINES = f"# callers\ninference {INFER}\n\nadmin {ADMIN}\ninference,admin {BOTH}\n"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("security") / "tokens"
    file.write_text(LINES)
    return file


@pytest.fixture(scope="module", params=TRANSPORTS)
def guarded(tokens: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    settings = {"transport": request.param, "model_control": True, "poll_seconds": 0}
    with serving(GOLDEN, token_file=tokens, **settings) as served:
        yield served


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def listing(served: Served, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    return code_of(lambda: served.stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=10))


def unloading(served: Served, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode:
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    request = open_inference_pb2.RepositoryModelUnloadRequest(model_name="nobody")
    return code_of(lambda: stub.RepositoryModelUnload(request, metadata=metadata, timeout=10))


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (bearer(INFER), "OK"),
        (bearer(BOTH), "OK"),
        ((("authorization", f"bearer {INFER}"),), "OK"),
        (bearer(ADMIN), "PERMISSION_DENIED"),
        ((), "UNAUTHENTICATED"),
        (bearer(""), "UNAUTHENTICATED"),
        (bearer(INFER[:-1]), "UNAUTHENTICATED"),
        (bearer(INFER + "0"), "UNAUTHENTICATED"),
        ((("authorization", INFER),), "UNAUTHENTICATED"),
        ((("authorization", f"Basic {INFER}"),), "UNAUTHENTICATED"),
        ((("authorization", "Bearer wrong"), *bearer(INFER)), "UNAUTHENTICATED"),
    ],
)
def test_inference_needs_its_right(guarded: Served, metadata: tuple[tuple[str, str], ...], code: str) -> None:
    before = metric(guarded, "autoencoder_requests_total", method="ListModels", code=code)
    assert listing(guarded, metadata).name == code
    assert metric(guarded, "autoencoder_requests_total", method="ListModels", code=code) == before + 1


def test_admin_needs_its_right(guarded: Served) -> None:
    codes = [unloading(guarded, metadata).name for metadata in ((), bearer(INFER), bearer(ADMIN), bearer(BOTH))]
    assert codes == ["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "NOT_FOUND"]


def test_health_needs_nothing(guarded: Served) -> None:
    assert health_pb2_grpc.HealthStub(guarded.channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(guarded.channel)
    assert stub.ServerLive(open_inference_pb2.ServerLiveRequest(), timeout=10).live
    assert stub.ServerReady(open_inference_pb2.ServerReadyRequest(), timeout=10).ready


def test_tokens_rotate_without_a_gap(guarded: Served, tokens: Path) -> None:
    new = "inference-token-0002"
    assert listing(guarded, bearer(new)) is grpc.StatusCode.UNAUTHENTICATED
    tokens.write_text(LINES + f"inference {new}\n")
    guarded.app.reload()
    assert listing(guarded, bearer(new)) is grpc.StatusCode.OK
    assert listing(guarded, bearer(INFER)) is grpc.StatusCode.OK
    tokens.write_text(f"inference {new}\n")
    guarded.app.reload()
    assert listing(guarded, bearer(new)) is grpc.StatusCode.OK
    assert listing(guarded, bearer(INFER)) is grpc.StatusCode.UNAUTHENTICATED
    tokens.write_text("nonsense\n")
    guarded.app.reload()
    assert listing(guarded, bearer(new)) is grpc.StatusCode.OK
    tokens.write_text(LINES)
    guarded.app.reload()
    assert listing(guarded, bearer(INFER)) is grpc.StatusCode.OK


def test_a_changed_file_is_read_without_a_signal(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(LINES)
    auth = TokenAuth(tokens)
    auth.start()
    auth.check(bearer(INFER), "inference")
    tokens.write_text(f"inference {BOTH}\n")
    time.sleep(1.1)
    auth.check(bearer(BOTH), "inference")
    with pytest.raises(UnauthenticatedError):
        auth.check(bearer(INFER), "inference")


def test_reflection_is_for_those_who_may_call(guarded: Served) -> None:
    method = guarded.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")

    def services(metadata: tuple[tuple[str, str], ...]) -> list[bytes]:
        # ServerReflectionRequest.list_services, field 7.
        return list(method(iter([b"\x3a\x00"]), metadata=metadata, timeout=10))

    assert code_of(lambda: services(())) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(lambda: services(bearer(ADMIN))) is grpc.StatusCode.PERMISSION_DENIED
    assert b"AutoencoderService" in services(bearer(INFER))[0]


def test_without_a_file_everybody_may_infer_and_nobody_control(server: Served) -> None:
    assert listing(server, ()) is grpc.StatusCode.OK
    assert unloading(server) is grpc.StatusCode.PERMISSION_DENIED


def test_the_admin_port_controls_models_and_the_other_does_not(tokens: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server")
    with serving(GOLDEN, token_file=tokens, admin_port=0) as served:
        assert unloading(served, bearer(ADMIN)) is grpc.StatusCode.PERMISSION_DENIED
        address = re.search(r"admin port: listening on (\S+)", caplog.text)[1]
        with grpc.insecure_channel(address) as channel:
            stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = open_inference_pb2.RepositoryModelUnloadRequest(model_name="vae")
            assert code_of(lambda: stub.RepositoryModelUnload(request, timeout=10)) is grpc.StatusCode.UNAUTHENTICATED
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            stub.RepositoryModelUnload(request, metadata=bearer(ADMIN), timeout=10)
        left = served.stub.ListModels(pb.ListModelsRequest(), metadata=bearer(INFER), timeout=10)
        assert "vae" not in {model.name for model in left.models}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"token_file": "tokens", "host": "0.0.0.0"}, "unencrypted: set --tls-certificate"),  # noqa: S104 (refused)
        ({"token_file": "tokens", "admin_port": 1, "admin_host": "10.0.0.1"}, "unencrypted: set --tls-certificate"),
        ({"admin_port": 1, "admin_host": "10.0.0.1"}, "any client on the network"),
        ({"admin_port": 1, "admin_host": "::"}, "any client on the network"),
        ({"model_control": True, "host": "0.0.0.0"}, "any client on the network"),  # noqa: S104
        (
            {"admin_port": 1, "admin_host": "10.0.0.1", "tls_certificate": "a", "tls_key": "b"},
            "any client on the network",
        ),
        ({"tls_certificate": "server.crt"}, "both"),
        ({"tls_key": "server.key"}, "both"),
        ({"tls_client_ca": "ca.crt"}, "needs --tls-certificate"),
        ({"tls_certificate": "a", "tls_key": "b", "transport": "native"}, "no TLS"),
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Config(repository="models", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"admin_port": 1},
        {"admin_port": 1, "host": "0.0.0.0"},  # noqa: S104 (not the admin port's)
        {"admin_host": "10.0.0.1"},
        {"model_control": True},
        {"admin_port": 1, "admin_host": "10.0.0.1", "tls_certificate": "a", "tls_key": "b", "token_file": "tokens"},
        {"admin_port": 1, "admin_host": "10.0.0.1", "tls_certificate": "a", "tls_key": "b", "tls_client_ca": "ca"},
    ],
)
def test_safe_settings_are_taken(settings: dict[str, object]) -> None:
    assert Config(repository="models", **settings)


@pytest.mark.parametrize("form", ["{}\r\n", "\ufeff{}\n", "{}"])
def test_files_of_any_editor_are_read(form: str, tmp_path: Path) -> None:
    file, plain = tmp_path / "tokens", tmp_path / "plain"
    file.write_text(form.format("inference some-long-enough-token"), encoding="utf-8", newline="")
    plain.write_text("inference some-long-enough-token\n")
    assert read_tokens(file) == read_tokens(plain)


def test_a_token_has_the_rights_of_all_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"inference {INFER}\nadmin {ADMIN}\nadmin {INFER}\n")
    auth = TokenAuth(file)
    auth.start()
    auth.check(bearer(INFER), "inference")
    auth.check(bearer(INFER), "admin")
    auth.check(bearer(ADMIN), "admin")
    with pytest.raises(PermissionDeniedError):
        auth.check(bearer(ADMIN), "inference")
    file.write_text(f"admin {INFER}\n")
    auth.reload()
    with pytest.raises(PermissionDeniedError):
        auth.check(bearer(INFER), "inference")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "got no token"),
        ("# nothing\n", "got no token"),
        ("inference\n", "line 1: expected `RIGHT TOKEN`, got 1 words"),
        ("inference a-token-of-16-chars twice\n", "got 3 words"),
        ("root a-token-of-16-chars\n", "expected the rights inference or admin, got 'root'"),
        ("inference short\n", "16 characters"),
        ("inference a-token-of-16-chars\n" * 3000, "expected at most 65536 bytes of tokens"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(TokenFileError, match=re.escape(complaint)) as refused:
        read_tokens(file)
    assert "a-token-of-16-chars" not in str(refused.value)


@given(st.binary(max_size=200))
def test_no_authorization_that_is_not_a_token_lets_anybody_in(
    tmp_path_factory: pytest.TempPathFactory, value: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-tokens"
    if not file.exists():
        file.write_text(LINES)
    auth = TokenAuth(file)
    auth.start()
    for form in (value, value.decode("latin-1"), f"Bearer {value.decode('latin-1')}"):
        with pytest.raises(UnauthenticatedError):
            auth.check((("authorization", form),), "inference")
