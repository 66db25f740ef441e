"""A page of a running app in Chromium: visit(app, "vote_page.mjs", out).

Needs Chromium, node, and `npm install --prefix /tmp/page-checks puppeteer-core axe-core`, or another folder that
PAGE_MODULES names. FTKIT_SCREENS=DIR keeps the screens.
"""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ftkit.serving.app import address_of, listen

MODULES = Path(os.environ.get("PAGE_MODULES", "/tmp/page-checks"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and shutil.which("node") and (MODULES / "node_modules/puppeteer-core").is_dir()),
    reason=f"needs chromium, node, and: npm install --prefix {MODULES} puppeteer-core axe-core",
)


def visit(app, script: str, out: Path) -> dict:
    """What a script beside this file saw on the page of an app."""
    import uvicorn

    out = Path(os.environ.get("FTKIT_SCREENS", out))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            command = ["node", Path(__file__).with_name(script), MODULES, CHROMIUM, address_of(listener), out]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        finally:
            server.should_exit = True
            thread.join()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
