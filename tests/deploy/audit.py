"""Known vulnerabilities in the pinned dependencies, by pip-audit: `make audit`.

Exit code 0: every package was looked up and none has a known vulnerability; 1: some has; 2: nothing
can be said, because the database of vulnerabilities can't be reached from here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = sorted((Path(__file__).parents[2] / "requirements").glob("*.txt"))


def main() -> int:
    code = 0
    for path in REQUIREMENTS:
        if path.name == "left-to-torch.txt":
            continue
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", path, "--format", "json"),
                *("--disable-pip", "--no-deps", "--progress-spinner", "off"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            print(f"{path.name}: not audited, the database can't be reached: {reason[0][:200]}")
            return 2
        # pip-audit exits with 0 even if it has found not one of the packages.
        skipped = [package["name"] for package in packages if "skip_reason" in package]
        if len(skipped) == len(packages):
            print(
                f"{path.name}: not audited, the index that pip uses here has no vulnerabilities "
                "of any package: run it where the public package index can be reached"
            )
            return 2
        faults = [package for package in packages if package.get("vulns")]
        for package in faults:
            for fault in package["vulns"]:
                fixed = ", ".join(fault["fix_versions"]) or "no version yet"
                name = f"{package['name']} {package['version']}"
                print(f"{path.name}: {name}: {fault['id']}, fixed in {fixed}")
        code = code or bool(faults)
        print(
            f"{path.name}: {len(packages) - len(skipped)} of {len(packages)} packages looked up, "
            f"{len(faults)} with known vulnerabilities"
        )
        if skipped:
            print(f"{path.name}: not known there: {', '.join(skipped)}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
