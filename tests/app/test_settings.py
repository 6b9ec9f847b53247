"""The environment is read once, and what it can't mean stops the start with one line."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import SettingsError, read_settings


def test_without_any_variable_all_have_defaults():
    """An empty environment, and variables of others, give the defaults."""
    settings = read_settings({"PATH": "/bin", "TESSERACT": "1"})
    assert (settings.port, settings.device, settings.max_images) == (8000, "auto", 64)


def test_values_are_converted():
    """Numbers, paths and comma-separated lists are read as what they are."""
    settings = read_settings(
        {
            "TESSERA_PORT": " 9000 ",
            "TESSERA_REQUEST_TIMEOUT_S": "2.5",
            "TESSERA_API_KEYS": "one, two,,",
            "TESSERA_DEVICE": "cuda:1",
        }
    )
    assert settings.port == 9000
    assert settings.request_timeout_s == 2.5
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.device == "cuda:1"


def test_an_empty_value_counts_as_not_set():
    """Compose files set variables to nothing."""
    assert read_settings({"TESSERA_PORT": ""}).port == 8000


def test_an_unknown_name_is_refused_with_the_likely_one():
    """A typing error would otherwise silently leave the default in force."""
    with pytest.raises(SettingsError, match=r"TESSERA_MAX_IMAGE .*mean TESSERA_MAX_IMAGES") as e:
        read_settings({"TESSERA_MAX_IMAGE": "3"})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("DEVICE", "cuda:x"),
        ("PRECISION", "fp8"),
        ("MAX_IMAGES", "0"),
        ("REQUEST_TIMEOUT_S", "0"),
        ("REQUEST_TIMEOUT_S", "nan"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_refused_by_name_in_one_line(name, value):
    """The line names the variable."""
    with pytest.raises(SettingsError, match=f"TESSERA_{name}") as error:
        read_settings({f"TESSERA_{name}": value})
    assert "\n" not in str(error.value)


def test_all_faults_are_named_at_once():
    """Nobody wants to find them one by one."""
    with pytest.raises(SettingsError, match=r"TESSERA_COLOUR.*TESSERA_PORT"):
        read_settings({"TESSERA_COLOUR": "red", "TESSERA_PORT": "x"})


def test_more_images_than_the_queue_holds_are_refused():
    """Such a request could never be accepted."""
    with pytest.raises(SettingsError, match="TESSERA_MAX_QUEUE"):
        read_settings({"TESSERA_MAX_QUEUE": "8"})


def test_settings_are_frozen_and_keys_don_t_show():
    """Nothing changes them later, and printing them gives no key away."""
    settings = read_settings({"TESSERA_API_KEYS": "secret-key"})
    with pytest.raises(ValidationError):
        settings.port = 1
    assert "secret-key" not in repr(settings)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_said_to_be_so():
    """One fault with the way out, instead of one for each of its seven variables."""
    links = {
        "TESSERA_PORT": "tcp://10.0.0.11:8000",
        "TESSERA_SERVICE_HOST": "10.0.0.11",
        "TESSERA_SERVICE_PORT": "8000",
        "TESSERA_SERVICE_PORT_HTTP": "8000",
        "TESSERA_PORT_8000_TCP": "tcp://10.0.0.11:8000",
        "TESSERA_PORT_8000_TCP_ADDR": "10.0.0.11",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings(links | {"TESSERA_THREADS": "2"})
    text = str(caught.value)
    assert "Kubernetes" in text
    assert "enableServiceLinks: false" in text
    assert ";" in text
    assert "is not a setting" not in text
    assert read_settings({"TESSERA_PORT": "80"}).port == 80


@pytest.mark.parametrize("name", ["grpc", "metrics"])
def test_a_service_named_for_another_port_sets_that_ports_variable(name):
    """Kubernetes makes TESSERA_GRPC_PORT=tcp://… of a Service named tessera-grpc."""
    variable = f"TESSERA_{name.upper()}_PORT"
    with pytest.raises(SettingsError, match=f"{variable}: set by Kubernetes"):
        read_settings({variable: "tcp://10.0.0.11:8001"})
    assert getattr(read_settings({variable: "8001"}), f"{name}_port") == 8001
