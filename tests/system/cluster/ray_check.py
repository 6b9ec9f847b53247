"""`--engine ray` on a cluster of several nodes, one of which is killed in the middle.

Starts a Ray cluster on this machine (a head that computes nothing, and three nodes of one CPU),
tokenizes photographs there and on this machine alone, kills a node with SIGKILL when a third of
the shards are there, and compares the two folders byte for byte. Then the same from tar files.

    python tests/system/cluster/ray_check.py [DIR] [--images N] [--models DIR] [--precision NAME]

Without DIR it takes tests/data/photos, each forty times. With `--no-kill --nodes 2` it tells what
the cluster costs in speed, beside one process on the same two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
STORE_BYTES = 100 * 2**20
IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
DEADLINE_S = 500

# Nothing is reported to Ray's makers, and the nodes find Tessera where this checkout is.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
    "ORT_DISABLE_TELEMETRY": "1",
}


def gather(source: Path | None, count: int, folder: Path) -> None:
    """Links to photographs, and one file that is no image."""
    pictures = sorted((source or ROOT / "tests" / "data" / "photos").rglob("*"))
    pictures = [path.resolve() for path in pictures if path.suffix.lower() in IMAGES]
    if source is None:
        pictures *= 40
    folder.mkdir()
    for i, picture in enumerate(pictures[:count]):
        (folder / f"{i:04}{picture.suffix.lower()}").symlink_to(picture)
    (folder / "0100-broken.png").write_bytes(b"no picture")


def pack(folder: Path, tars: Path) -> None:
    """The same as three tar files of unequal length."""
    tars.mkdir()
    files = sorted(folder.iterdir())
    cuts = [0, len(files) // 5, len(files) // 2, len(files)]
    for i, (start, end) in enumerate(itertools.pairwise(cuts)):
        with tarfile.open(tars / f"train-{i:04}.tar", "w", dereference=True) as tar:
            for path in files[start:end]:
                tar.add(path, path.name)


def tessera(arguments: argparse.Namespace, *words: object) -> list[str]:
    """The command to tokenize."""
    command = [sys.executable, "-m", "app", "tokenize", "--json"]
    command += ["--shard-size", str(arguments.shard_size)]
    command += ["--size", "256x256", "--models-dir", str(arguments.models)]
    command += ["--precision", arguments.precision, "--device", "cpu"]
    return command + [str(word) for word in words]


def run(command: list[str]) -> dict:
    """What a command that must succeed says of itself."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill_node(node: object) -> int:
    """SIGKILL to every process of a node, as if its power were cut; how many there were."""
    roots = [info.process.pid for infos in node.all_processes.values() for info in infos]
    victims = {pid for root in roots for pid in family(root)}
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(victims)


def same(one: Path, other: Path) -> None:
    """Fail unless two folders hold the same files with the same bytes."""
    files = [
        {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
        for folder in (one, other)
    ]
    names = sorted(files[0].keys() | files[1].keys())
    unequal = [name for name in names if files[0].get(name) != files[1].get(name)]
    if unequal:
        sys.exit(f"not equal: {', '.join(unequal[:10])}")
    print(f"  {len(names)} files, {sum(map(len, files[0].values())):,} bytes: equal, byte for byte")


def on_cluster(cluster: object, command: list[str], out: Path, shards: int) -> None:
    """Run on the cluster, where a node is killed when a third of the shards are there."""
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while len(list(out.glob("[0-9]*.json"))) < shards // 3:
        if process.poll() is not None or time.monotonic() - began > DEADLINE_S:
            process.kill()
            sys.exit("it ended before a node could be killed")
        time.sleep(0.01)
    before = len(list(out.glob("[0-9]*.json")))
    victims = kill_node(cluster.worker_nodes.pop())
    print(f"  with {before} of {shards} shards there, a node's {victims} processes were killed")
    answer, _ = process.communicate(timeout=DEADLINE_S)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}")
    print(f"  on the cluster: {answer.strip()}, {time.monotonic() - began:.1f} s in all")


def main() -> None:
    """Run the whole check."""
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, nargs="?", help="folder of photographs")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("--no-kill", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tessera-ray-") as name:
        folder = Path(name)
        gather(arguments.source, arguments.images, folder / "photos")
        pack(folder / "photos", folder / "tars")
        images = len(list((folder / "photos").iterdir()))
        shards = -(-images // arguments.shard_size)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES},
        )
        try:
            for _ in range(arguments.nodes):
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            print(f"a head and {arguments.nodes} nodes; {images} files in {shards} shards")
            for kind in ("photos", "tars"):
                print(kind)
                alone, spread = folder / f"{kind}-alone", folder / f"{kind}-spread"
                print(
                    "  on this machine:", json.dumps(run(tessera(arguments, folder / kind, alone)))
                )
                ray = ["--engine", "ray", "--ray-address", cluster.address]
                command = tessera(arguments, folder / kind, spread, *ray)
                if arguments.no_kill:
                    print("  on the cluster: ", json.dumps(run(command)))
                    same(alone, spread)
                    continue
                on_cluster(cluster, command, spread, shards)
                same(alone, spread)
                again = run(command)
                if again["new_images"]:
                    sys.exit("a complete folder was tokenized again")
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
