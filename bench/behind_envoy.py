"""This server, on the native transport, behind Envoy with TLS: `python -m bench.behind_envoy MODELS FOLDER PORT`.

The configuration is that of deploy/envoy, but for the port and the limits by caller, which a benchmark exceeds.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVOY = Path(sys.executable).with_name("envoy")
LISTENING = re.compile(r"listening grpc=(\S+):(\d+)")
_BUCKET = re.compile(r"token_bucket: \{[^}]*\}")
_NO_LIMIT = "token_bucket: {max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 1s}"


def certificate(folder: Path) -> Path:
    """Where the certificate of the listener is, once it runs in this folder."""
    return folder / "tls" / "tls.crt"


def main(models: str, folder: Path, port: str) -> None:
    """Run until a signal ends the process group."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "endpoints").mkdir(parents=True)
    (folder / "tls").mkdir()
    _certify(folder)
    flags = ["--repository", models, "--port", "0", "--metrics-port", "0", "--transport", "native"]
    with subprocess.Popen([sys.executable, "-m", "server", *flags], stdout=subprocess.PIPE, text=True) as server:
        found = LISTENING.search(server.stdout.readline() if server.stdout else "")
        if found is None:
            sys.exit("the server did not listen")
        _configure(folder, found[1], int(found[2]), port)
        command = [str(ENVOY), "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
        subprocess.run(command, cwd=folder, check=True)


def _certify(folder: Path) -> None:
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    files = ("-keyout", folder / "tls" / "tls.key", "-out", certificate(folder))
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *names], check=True, capture_output=True)


def _configure(folder: Path, host: str, server_port: int, port: str) -> None:
    source = ROOT / "deploy" / "envoy"
    shutil.copy(source / "secrets.yaml", folder)
    text = (source / "envoy.yaml").read_text()
    text = text.replace("port_value: 8443", f"port_value: {port}").replace("port_value: 9901", "port_value: 0")
    (folder / "envoy.yaml").write_text(_BUCKET.sub(_NO_LIMIT, text))
    listed = json.loads((source / "endpoints.json").read_text())
    address = {"socket_address": {"address": host, "port_value": server_port}}
    listed["resources"][0]["endpoints"][0]["lb_endpoints"] = [{"endpoint": {"address": address}}]
    (folder / "endpoints" / "endpoints.json").write_text(json.dumps(listed))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
