"""The images, built and proven by running them: `make image-check`.

Needs a Docker engine (`docker` on the PATH; DOCKER_HOST if it isn't local) and Compose. It isn't
part of `make test`, which collects `test_*.py` alone. `BUILD_FLAGS` is passed to `docker build`.
"""

import io
import math
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "tests/data/photos/colosseum.webp"
KODAK = ROOT.parent / "shared/data/kodak/kodim23.png"
PICTURES = [path for path in (PHOTO, KODAK) if path.is_file()]

HARDENED = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]

# Far below what a model reaches: it tells a picture from noise, and the default model from a toy.
LEAST_PSNR_DB = {"photo-f8": 24.0}
LEAST_PSNR_OF_ANY_DB = 14.0

ENVIRONMENT = os.environ | {"DOCKER_BUILDKIT": "1"}


def docker(*arguments: str, check: bool = True) -> str:
    """What a docker command prints, both streams; a failure shows it."""
    return _run(["docker", *arguments], check=check)


def _run(command: list[str], *, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(f"{shlex.join(command)} failed:\n{done.stdout[-4000:]}")
    return done.stdout.strip()


def inspect(what: str, template: str) -> str:
    return docker("inspect", "--format", "{{" + template + "}}", what)


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if shutil.which("docker") is None:
        pytest.fail("there is no `docker` on the PATH")
    docker("version")


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def image(request: pytest.FixtureRequest) -> str:
    tag = f"tessera:{request.param}"
    flags = shlex.split(os.environ.get("BUILD_FLAGS", ""))
    started = time.monotonic()
    docker("build", *flags, "--target", request.param, "--tag", tag, ".")
    size = int(inspect(tag, ".Size"))
    base = int(inspect("python:3.12-slim-bookworm", ".Size")) if _has_base() else 0
    print(
        f"\n{tag}: built in {time.monotonic() - started:.0f} s, {size / 1e6:.0f} MB"
        + (f", of which its base {base / 1e6:.0f} MB" if base else "")
    )
    return tag


def _has_base() -> bool:
    return bool(docker("images", "--quiet", "python:3.12-slim-bookworm"))


class Container:
    """A container, started with what the deployment documents promise will do."""

    def __init__(self, image: str, *arguments: str) -> None:
        self.started = time.monotonic()
        options = ["--detach", "--publish=127.0.0.1::8000", *HARDENED, *arguments]
        self.id = docker("run", *options, image).splitlines()[-1]

    @property
    def url(self) -> str:
        return f"http://{docker('port', self.id, '8000/tcp').splitlines()[0]}"

    def state(self, template: str) -> str:
        return inspect(self.id, f".State.{template}")

    def logs(self) -> str:
        return docker("logs", self.id)

    def wait_until_ready(self) -> float:
        """Seconds from `docker run` to the first 200 of /readyz."""
        wait_until_ready(self.url, self.logs)
        return time.monotonic() - self.started

    def wait_for(self, template: str, value: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.state(template) != value:
            if time.monotonic() > deadline:
                pytest.fail(f"{template} is {self.state(template)}, not {value}:\n{self.logs()}")
            time.sleep(0.5)

    def stop(self) -> float:
        """Seconds from SIGTERM to the end."""
        started = time.monotonic()
        docker("stop", "--time=30", self.id)
        return time.monotonic() - started

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.id, check=False)


def wait_until_ready(url: str, logs, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"not ready after {seconds} s:\n{logs()}")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[Container]:
    made = Container(image)
    try:
        print(f"{image}: ready {made.wait_until_ready():.1f} s after docker run")
        yield made
    finally:
        made.remove()


def run_to_its_end(image: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a container that isn't expected to serve."""
    made = Container(image, *arguments)
    try:
        made.wait_for("Running", "false", 60)
        return int(made.state("ExitCode")), made.logs()
    finally:
        made.remove()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return 10 * math.log10(255**2 / error)


def picture_body(path: Path) -> dict:
    return {"content": path.read_bytes(), "headers": {"content-type": f"image/{path.suffix[1:]}"}}


def there_and_back(url: str, path: Path) -> tuple[str, float]:
    """Encode a picture, decode its codes; the model's name and the PSNR of what came back."""
    with httpx.Client(base_url=url, timeout=120) as client:
        encoded = client.post("/v1/encode", **picture_body(path)).raise_for_status()
        decoded = client.post(
            "/v1/decode", content=encoded.content, headers={"content-type": "application/json"}
        ).raise_for_status()
    original = np.asarray(Image.open(path).convert("RGB"))
    returned = np.asarray(Image.open(io.BytesIO(decoded.content)))
    assert returned.shape == original.shape
    return encoded.json()["model"], psnr(original, returned)


def test_holds_only_what_serves(image: str) -> None:
    absent = "torch onnx training tests pip setuptools"
    code = (
        f"import importlib.util as u; print([n for n in {absent.split()!r} if u.find_spec(n)]);"
        "import app.server.app, sys; print('torch' in sys.modules)"
    )
    printed = docker("run", "--rm", "--entrypoint=python", image, "-c", code).splitlines()
    assert printed == ["[]", "False"]
    compilers = "for c in gcc cc g++ clang rustc; do command -v $c; done; true"
    assert docker("run", "--rm", "--entrypoint=sh", image, "-c", compilers) == ""
    caches = "find / -xdev -path '*/.cache/*' -print -quit 2>/dev/null; true"
    assert docker("run", "--rm", "--user=0", "--entrypoint=sh", image, "-c", caches) == ""


def test_says_what_it_is(image: str) -> None:
    assert inspect(image, ".Config.User") == "10001:10001"
    assert inspect(image, ".Config.StopSignal") == "SIGTERM"
    assert inspect(image, "json .Config.Entrypoint") == '["python","-m","app"]'
    assert "org.opencontainers.image.licenses:Apache-2.0" in inspect(image, ".Config.Labels")


def test_runs_hardened(container: Container) -> None:
    assert docker("exec", container.id, "id", "-u") == "10001"
    for folder in ("/", "/tmp", "/srv/tessera", "/models", "/opt/venv"):
        said = docker("exec", container.id, "touch", f"{folder}/written", check=False)
        assert "Read-only file system" in said or "Permission denied" in said
    status = docker("exec", container.id, "cat", "/proc/1/status").splitlines()
    facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert facts["CapEff"] == facts["CapBnd"] == "0" * 16
    assert facts["NoNewPrivs"] == "1"


def test_becomes_healthy(container: Container) -> None:
    container.wait_for("Health.Status", "healthy", 60)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_picture_goes_there_and_back(container: Container, picture: Path) -> None:
    model, decibels = there_and_back(container.url, picture)
    print(f"{picture.name} through {model}: {decibels:.2f} dB")
    assert decibels >= LEAST_PSNR_DB.get(model, LEAST_PSNR_OF_ANY_DB)
    reply = httpx.post(f"{container.url}/v1/reconstruct", timeout=120, **picture_body(picture))
    said = float(reply.raise_for_status().headers["tessera-psnr"])
    assert said == pytest.approx(decibels, abs=0.02)


def test_stops_in_time(image: str) -> None:
    made = Container(image)
    try:
        made.wait_until_ready()
        with httpx.Client(base_url=made.url) as client:
            client.get("/livez").raise_for_status()  # and its connection stays open
            seconds = made.stop()
        print(f"{image}: stopped {seconds:.1f} s after SIGTERM")
        assert seconds < 10
        assert made.state("ExitCode") == "0"
        assert "Traceback" not in made.logs()
    finally:
        made.remove()


def test_volume_takes_the_place_of_the_models(image: str) -> None:
    made = Container(image, f"--volume={ROOT / 'tests/data/bundles'}:/models:ro")
    try:
        made.wait_until_ready()
        listed = httpx.get(f"{made.url}/v1/models", timeout=30).raise_for_status().text
        assert '"tiny"' in listed
        assert "photo-f8" not in listed
    finally:
        made.remove()


def test_cuda_without_a_gpu_is_a_failed_start(image: str) -> None:
    code, said = run_to_its_end(image, "--env=TESSERA_DEVICE=cuda")
    assert code not in {0, 137}
    assert "cuda" in said.lower()
    assert "Traceback" not in said


def test_unknown_setting_is_a_failed_start(image: str) -> None:
    code, said = run_to_its_end(image, "--env=TESSERA_PRECISON=fp32")
    assert code == 2
    assert said == "tessera: TESSERA_PRECISON is not a setting (did you mean TESSERA_PRECISION?)"


@pytest.mark.parametrize("image", ["cpu"], indirect=True)
@pytest.mark.usefixtures("image")
def test_compose_serves() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*probe.getsockname())
    try:
        _compose("up", "--detach", "--no-build", PUBLISH=address)
        (made,) = _compose("ps", "--quiet").splitlines()  # the GPU's service isn't among them
        wait_until_ready(f"http://{address}", lambda: _compose("logs"))
        assert there_and_back(f"http://{address}", PHOTO)[1] > LEAST_PSNR_OF_ANY_DB
        started = time.monotonic()
        _compose("stop")
        assert time.monotonic() - started < 10
        assert inspect(made, ".State.ExitCode") == "0"
    finally:
        _compose("down", "--volumes")


def test_compose_reserves_a_device_when_asked() -> None:
    understood = _compose("--profile=gpu", "config")
    assert "driver: nvidia" in understood
    assert "target: gpu" in understood


def _compose(*arguments: str, **environment: str) -> str:
    plugin = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode
    command = ["docker-compose"] if plugin else ["docker", "compose"]
    return _run([*command, "--project-name=tessera-check", *arguments], **environment)
