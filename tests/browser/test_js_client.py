"""The JavaScript client's own tests, run by Node."""

import shutil
import subprocess
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "clients" / "js"


def test_the_client_passes_its_own_tests() -> None:
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "no Node on this machine (Debian: apt-get install nodejs)"
    files = sorted(str(path) for path in CLIENT.glob("test/*.test.js"))
    done = subprocess.run(
        [node, "--test", *files], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
