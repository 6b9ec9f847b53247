"""What deploy/ says of the service is true of it. The manifests themselves: `make deploy-check`."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.observability import tracing
from app.observability.metrics import Metrics
from app.server import process
from app.service.lifecycle import Service
from app.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MONITORING = DEPLOY / "monitoring"
KUBERNETES = DEPLOY / "kubernetes"


def load(path: Path):
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def published() -> set[str]:
    """Names of all samples that /metrics can hold."""

    async def exposed() -> str:  # tasks are counted on an event loop
        return metrics.exposition().decode()

    metrics = Metrics()
    Service(read_settings({}), metrics)
    metrics.code_usage.add("tiny", 4, [np.arange(4)])
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        family.name + suffix
        for family in text_string_to_metric_families(asyncio.run(exposed()))
        for suffix in suffixes.get(family.type, [""])
    }


def expressions() -> dict[str, str]:
    """Every query of the dashboard and the rules, by where it is."""
    dashboard = load_dashboard()
    found = {
        f"panel {panel['title']}": " ".join(target["expr"] for target in panel["targets"])
        for panel in dashboard["panels"]
    }
    for group in load(MONITORING / "alerts.yml")["groups"]:
        found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    hpa = load(KUBERNETES / "autoscaling" / "hpa.yaml")
    found["hpa"] = hpa["spec"]["metrics"][0]["pods"]["metric"]["name"]
    found["adapter"] = (KUBERNETES / "autoscaling" / "adapter-values.yaml").read_text()
    return found


def load_dashboard():
    return json.loads((MONITORING / "grafana" / "dashboards" / "tessera.json").read_text())


@pytest.mark.parametrize("place", expressions())
def test_every_metric_that_is_asked_for_is_published(place, published):
    """A metric that is renamed shows here, not as an empty panel."""
    expression = expressions()[place]
    asked = set(re.findall(r"\b(?:tessera|process)_\w+", expression)) - {"tessera_keys"}
    assert asked <= published | {"process_resident_memory_bytes"}
    assert asked or expression.startswith("up{")


def test_the_dashboard_shows_what_an_operator_needs():
    """Rate, stages, queue, batches, refusals, perplexity, GPU memory; panels don't overlap."""
    shown = " ".join(expressions().values())
    for metric in ("requests_total", "stage_duration", "queue_items", "batch_items", "rejections"):
        assert f"tessera_{metric}" in shown
    assert "tessera_code_perplexity" in shown
    assert "DCGM_FI_DEV_FB_USED" in shown
    cells = [
        (x, y)
        for panel in load_dashboard()["panels"]
        for g in [panel["gridPos"]]
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_operators_rules_are_prometheus_rules():
    """One text in two wrappings."""
    rule = load(KUBERNETES / "monitoring" / "prometheusrule.yaml")
    assert rule["spec"] == load(MONITORING / "alerts.yml")


def container(path: Path):
    spec = load(path)["spec"]
    return (spec["template"]["spec"] if "template" in spec else spec)["containers"][0]


@pytest.mark.parametrize(
    "path", [KUBERNETES / "base" / "deployment.yaml", KUBERNETES / "kserve" / "runtime.yaml"]
)
def test_settings_in_manifests_are_settings(path):
    """The service refuses names that it doesn't know."""
    env = {entry["name"]: entry.get("value", "key") for entry in container(path)["env"]}
    assert read_settings(env).drain_timeout_s == 20


@pytest.mark.parametrize(
    "path", [KUBERNETES / "base" / "deployment.yaml", KUBERNETES / "kserve" / "runtime.yaml"]
)
def test_containers_run_with_the_least_they_need(path):
    """Not root, nothing written but /tmp, no capability."""
    security = container(path)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_lives_long_enough_to_drain():
    """What comes one after the other on SIGTERM fits into the grace period."""
    spec = load(KUBERNETES / "base" / "deployment.yaml")["spec"]["template"]["spec"]
    own = container(KUBERNETES / "base" / "deployment.yaml")
    env = {entry["name"]: entry.get("value", "key") for entry in own["env"]}
    needed = (
        own["lifecycle"]["preStop"]["sleep"]["seconds"]
        + process._SHUTDOWN_GRACE_S
        + read_settings(env).drain_timeout_s
        + tracing._FLUSH_S
    )
    assert needed < spec["terminationGracePeriodSeconds"] <= needed + 5


def test_kubernetes_sets_no_settings_of_its_own():
    """A Service called tessera would make TESSERA_PORT=tcp://… of itself in every pod."""
    deployment = load(KUBERNETES / "base" / "deployment.yaml")["spec"]["template"]["spec"]
    kserve = load(KUBERNETES / "kserve" / "inferenceservice.yaml")["spec"]["predictor"]
    assert deployment["enableServiceLinks"] is False
    assert kserve["enableServiceLinks"] is False


def test_budget_and_policy_select_the_pods_and_no_others():
    """An empty selector means every pod of the namespace."""
    labels = {"app.kubernetes.io/name": "tessera"}
    budget = load(KUBERNETES / "base" / "pdb.yaml")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    policy = load(KUBERNETES / "base" / "networkpolicy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    monitor = load(KUBERNETES / "monitoring" / "servicemonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"] == labels


def test_compose_passes_on_every_setting_that_needs_nothing_beside_it():
    """The rest needs a port or a mount, or is the image's own."""
    service = load(ROOT / "docker-compose.yml")["services"]["tessera"]
    beside = {"api_keys_file", "device", "drain_timeout_s", "host", "metrics_host", "metrics_port"}
    beside |= {"grpc_port", "models_dir", "port"}
    passed = {name.removeprefix("TESSERA_").lower() for name in service["environment"]}
    assert passed == set(Settings.model_fields) - beside


def test_compose_listens_to_this_machine_and_serves_the_checkouts_models():
    """As `make serve` does; models of one's own stand beside the default one."""
    for name in ("tessera", "tessera-gpu"):
        service = load(ROOT / "docker-compose.yml")["services"][name]
        assert service["ports"] == ["${PUBLISH:-127.0.0.1:8000}:8000"]
        assert service["volumes"] == ["${MODELS:-./models}:/models:ro"]


def test_composes_monitoring_profile_mounts_what_is_there():
    """And starts only when asked."""
    services = load(ROOT / "docker-compose.yml")["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        for volume in services[name]["volumes"]:
            assert (ROOT / volume.split(":")[0]).exists()
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
    datasource = load(MONITORING / "grafana" / "datasources" / "prometheus.yml")["datasources"][0]
    uids = {panel["datasource"]["uid"] for panel in load_dashboard()["panels"]}
    assert uids == {datasource["uid"]}
