"""The node pack's JavaScript modules, run by node where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from real_worker import ROOT

SCRIPTS = ROOT / "comfy_node" / "web" / "js"


def evaluate(module: str, expression: str) -> object:
    """The value of ``expression``, in which ``m`` is the module's exports."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("SKIPPED: there is no node, so the browser's side was NOT compared.")
    program = (
        f"const m = await import({json.dumps((SCRIPTS / module).as_uri())});"
        f"console.log(JSON.stringify({expression}));"
    )
    command = [node, "--no-warnings", "--input-type=module", "--eval", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
