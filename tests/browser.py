"""A page in a browser without a screen: what its console says, and what a script finds in it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    *("--virtual-time-budget=2000", "--dump-dom"),
)
SIZES = [(1280, 800), (390, 844)]  # pixels of a laptop's window and of a phone
# The page in a frame of the given size; what the script returns of it becomes the title.
FRAME = """<!DOCTYPE html><body><iframe width="{width}" height="{height}" srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
  const found = (() => {{ {script} }})();
  document.title = JSON.stringify({{found, width: root.clientWidth, needed: root.scrollWidth}});
}};
</script>"""


def inspected(page: str, script: str, width: int, height: int, folder: Path) -> object:
    """What the body of a function, which has `page` and `view`, returns of a page in a frame of this size.

    Fails if the console says anything, or the page is wider than the frame. folder: for the browser's own files.
    """
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=html.escape(page), script=script, width=width, height=height))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", frame]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    result = json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert width - 20 <= result["width"] <= width
    assert result["needed"] <= result["width"]
    return result["found"]
