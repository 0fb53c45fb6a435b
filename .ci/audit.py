"""What the image is made of: its advisories, where the registry tells any, and its licences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "deploy" / "requirements.lock"
PATIENCE_S = 180
FINE = re.compile(
    r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla|Zlib|CC0|Unlicense|HPND", re.IGNORECASE
)
NOT_FINE = re.compile(r"\b(A?GPL|LGPL|SSPL|Commons Clause|proprietary|GNU)", re.IGNORECASE)


def advisories() -> list[str]:
    """Packages of the lock with known vulnerabilities."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(LOCK),
        "--disable-pip",
        "--require-hashes",
    ]
    try:
        done = subprocess.run(
            [*command, "--format", "json"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"advisories: nobody told any within {PATIENCE_S} s")
        return []
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print(f"advisories: the audit could not be made: {done.stderr.strip()[-300:]}")
        return []
    asked = [each for each in found if "skip_reason" not in each]
    print(f"advisories: {len(asked)} of {len(found)} packages could be looked up")
    return [
        f"{each['name']} {each['version']}: {', '.join(one['id'] for one in each['vulns'])}"
        for each in asked
        if each["vulns"]
    ]


def licences() -> list[str]:
    """Packages of the lock that are installed here under a licence that is not permissive."""
    names = set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE))
    command = [
        sys.executable,
        "-m",
        "piplicenses",
        "--from",
        "mixed",
        "--format",
        "json",
        "--packages",
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"licences: {len(found)} of {len(names)} packages are installed here")
    return [
        f"{each['Name']}: {each['License']}"
        for each in found
        if NOT_FINE.search(each["License"]) or not FINE.search(each["License"])
    ]


if __name__ == "__main__":
    wrong = [*advisories(), *licences()]
    print("\n".join(wrong) or "nothing is wrong with them")
    sys.exit(1 if wrong else 0)
