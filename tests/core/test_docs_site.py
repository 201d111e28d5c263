"""The documentation's site: every page is in its navigation, every link leads somewhere, and nothing is loaded from
elsewhere."""

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pytorch_intro.config.paths import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOOLS = PROJECT / ".venv-docs"
PAGES = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")])
REFERENCE = sorted((PROJECT / "docs" / "reference").glob("*.md"))


def page_id(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def navigation() -> list[str]:
    """Return the pages of the navigation in zensical.toml, in their order."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from walk(child)

    return [*walk(tomllib.loads((PROJECT / "zensical.toml").read_text())["project"]["nav"])]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and the site give the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_once_in_the_navigation_of_the_site() -> None:
    in_navigation = navigation()
    chapters = (PROJECT / "docs" / "tour").glob("*.ipynb")  # make site makes pages of them
    pages = {page_id(page) for page in [*PAGES, *(chapter.with_suffix(".md") for chapter in chapters)]}
    assert not pages - {*in_navigation}, "add them to nav in zensical.toml"
    assert not {*in_navigation} - pages, "nav in zensical.toml names pages that do not exist"
    assert len(in_navigation) == len({*in_navigation})
    assert in_navigation[0] == "README.md"


def test_the_readme_links_every_page_of_docs() -> None:
    text = (PROJECT / "README.md").read_text()
    pages = [page_id(page) for page in (PROJECT / "docs").glob("*.md")]
    assert not [page for page in pages if f"]({page})" not in text], "add them to the table of README.md"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_of_a_page_leads_somewhere_on_github_and_on_the_site(page: Path) -> None:
    copied = re.search(r"^PAGES *:= (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert copied
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link}: no such file"
        name = page_id(target)
        assert any(name == part or name.startswith(f"{part}/") for part in copied[1].split()), (
            f"{link}: not part of the site; add it to PAGES in the Makefile"
        )
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", REFERENCE, ids=page_id)
def test_every_name_of_the_reference_exists_and_has_a_docstring(page: Path) -> None:
    text = page.read_text()
    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name
    (example,) = re.findall(r"\A# [^\n]+\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(example, {})


@pytest.mark.skipif(not (TOOLS / "installed").exists(), reason="make site has not been run; a job of CI runs it")
def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for name in ("Makefile", "zensical.toml", "requirements-docs.txt", "README.md", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy2(PROJECT / name, tmp_path)
    shutil.copy2(PROJECT / "LICENSE", tmp_path)
    for folder in ("docs", "conf", "src"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    (tmp_path / TOOLS.name).symlink_to(TOOLS)
    answer = subprocess.run(["make", "site"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "No issues found" in answer.stdout + answer.stderr
    site = tmp_path / "site" / "html"
    glossary = (site / "docs" / "tour_glossary" / "index.html").read_text()
    assert "05_memory" in glossary
    assert ".ipynb" not in glossary, "the links lead to the pages of the chapters"
    chapters = [PROJECT / name for name in navigation() if name.startswith("docs/tour/")]
    for page in [*PAGES, *chapters]:
        path = page_id(page).removesuffix(".md").replace("README", "")
        html = (site / path / "index.html").read_text()
        assert not re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?(?:https?:)?//[^>]*", html), path
        assert not re.findall(r"<link\b[^>]*\bhref=\"?(?:https?:)?//[^>]*", html), path
        assert page not in REFERENCE or ":::" not in html, f"{path}: the reference was not rendered"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", style.read_text()), style.name
