"""The pages: static HTML files, each with its own style and script."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.responses import HTMLResponse

# Nothing is loaded from elsewhere: pictures come from the visitor, everything else from this server.
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def page(name: str) -> HTMLResponse:
    """Return a file of pages/, with a Content-Security-Policy that allows exactly its own script and style."""
    text = (files("pytorch_intro.serving") / "pages" / name).read_text(encoding="utf-8")
    hashes = {tag: hash_of(text, tag) for tag in ("script", "style")}
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(**hashes)})


def hash_of(text: str, tag: str) -> str:
    """Return the hash of the only element of this kind, as a source of a Content-Security-Policy."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
