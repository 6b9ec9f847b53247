"""Manifests and rules under the real tools: kubectl's kustomize, Kubernetes' schemas, promtool.

Run by `make deploy-check`, which installs the first two; promtool comes with Prometheus.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
TOOLS = Path(sys.executable).parent


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("variant", ["cpu", "gpu", "full"])
def test_variants_build_and_are_what_kubernetes_takes(variant, tmp_path):
    """No unknown field, every kind of Kubernetes' own known."""
    built = run(TOOLS / "kubectl", "kustomize", KUBERNETES / variant)
    (tmp_path / "built.yaml").write_text(built)
    said = run(TOOLS / "kubernetes-validate", "--strict", tmp_path / "built.yaml")
    print(said)
    kinds = [document["kind"] for document in yaml.safe_load_all(built)]
    unknown = {"ServiceMonitor", "PrometheusRule"} & {*kinds}
    assert said.count(" passed ") == len(kinds) - len(unknown)
    (deployment,) = (d for d in yaml.safe_load_all(built) if d["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (variant != "cpu")
    assert ("replicas" in deployment["spec"]) == (variant != "full")


def test_kserves_pods_are_what_kubernetes_takes(tmp_path):
    """The parts of KServe's kinds that become a pod, as that pod."""
    built = run(TOOLS / "kubectl", "kustomize", KUBERNETES / "kserve")
    found = {document["kind"]: document["spec"] for document in yaml.safe_load_all(built)}
    predictor = dict(found["InferenceService"]["predictor"])
    assert predictor.pop("minReplicas") == 2
    assert predictor.pop("model")["runtime"] == "tessera"
    runtime = found["ServingRuntime"]
    assert runtime["protocolVersions"] == ["v2"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tessera"},
        "spec": {"containers": runtime["containers"], **predictor},
    }
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    print(run(TOOLS / "kubernetes-validate", "--strict", tmp_path / "pod.yaml"))


def test_rules_and_scrape_configuration_are_what_prometheus_takes():
    """Checked, and the alerts' own tests run."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not there; on Debian it comes with prometheus"
    monitoring = ROOT / "deploy" / "monitoring"
    print(run(promtool, "check", "rules", monitoring / "alerts.yml"))
    print(run(promtool, "check", "config", monitoring / "prometheus.yml"))
    print(run(promtool, "test", "rules", monitoring / "alerts.test.yml"))


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait(address: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{address} did not answer")


@pytest.fixture
def scraped(tmp_path):
    """A real Prometheus that scrapes a real service, with our rules, after 20 s of load."""
    prometheus = shutil.which("prometheus")
    assert prometheus is not None, "prometheus is not there; on Debian: apt install prometheus"
    service, port = _port(), _port()
    alerts = ROOT / "deploy" / "monitoring" / "alerts.yml"
    target = {"job_name": "tessera", "static_configs": [{"targets": [f"127.0.0.1:{service}"]}]}
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": [str(alerts)],
        "scrape_configs": [target],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TESSERA_")} | {
        "TESSERA_HOST": "127.0.0.1",
        "TESSERA_PORT": str(service),
        "TESSERA_MODELS_DIR": str(ROOT / "tests" / "data" / "bundles"),
    }
    quiet = {"cwd": ROOT, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([sys.executable, "-m", "app", "serve"], env=environment, **quiet),
        subprocess.Popen(
            [
                prometheus,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            **quiet,
        ),
    ]
    try:
        _wait(f"http://127.0.0.1:{service}/readyz")
        _wait(f"http://127.0.0.1:{port}/-/ready")
        _load(f"http://127.0.0.1:{service}", 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)


def _load(address: str, seconds: float) -> None:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    headers = {"content-type": "application/x-npy"}
    deadline = time.monotonic() + seconds
    with httpx.Client(base_url=address) as client:
        while time.monotonic() < deadline:
            assert client.post("/v1/encode", content=file.getvalue(), headers=headers).is_success
            client.post("/v1/encode", content=b"?", headers=headers)
            time.sleep(0.02)


def test_every_panel_shows_data_of_a_real_prometheus(scraped):
    """Each query of the dashboard answers, but those of what didn't happen or isn't there."""
    path = ROOT / "deploy" / "monitoring" / "grafana" / "dashboards" / "tessera.json"
    empty = []
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "15s").replace("$instance", ".*")
            answer = httpx.get(f"{scraped}/api/v1/query", params={"query": query}).json()
            assert answer["status"] == "success", answer
            results = answer["data"]["result"]
            values = ", ".join(
                f"{'/'.join(v for k, v in r['metric'].items() if k not in {'job', 'instance'})} "
                f"{float(r['value'][1]):.4g}"
                for r in results[:4]
            )
            print(f"{panel['title']}: {values or 'nothing'}")
            if not results:
                empty.append(panel["title"])
    # No refusal happened, and there is no GPU here.
    assert set(empty) <= {"Refusals by code", "Memory"}
    rules = httpx.get(f"{scraped}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert all(rule["health"] in {"ok", "unknown"} for rule in rules)
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
