# SPDX-License-Identifier: GPL-2.0-only
"""The documentation: every link of it leads somewhere, in the tree and on the site that is made of
it."""

import html.parser
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


def documents():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md", ":!*patches/*"],
                         cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [p for p in map(Path, out.split()) if (TOP / p).exists()]


class Page(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, _tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def broken(site):
    """The links that lead nowhere: those within the site. What is elsewhere is not looked at."""
    pages = {p: Page(p) for p in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            to = urllib.parse.urlsplit(link)
            if to.scheme or to.netloc or path.name == "404.html":
                continue
            target = path
            if to.path:
                target = Path(os.path.normpath(path.parent / urllib.parse.unquote(to.path)))
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (to.fragment and target in pages
                                        and to.fragment not in pages[target].anchors):
                yield f"{path.relative_to(site)}: {link}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for program in ("mkdocs", "mandoc"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")
    build = tmp_path_factory.mktemp("build")
    r = subprocess.run([TOP / "scripts" / "site"], env={**os.environ, "OOH_BUILD": str(build)},
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout + r.stderr
    return build / "site"


def test_every_document_and_man_page_is_on_the_site(site):
    manuals = subprocess.run(["git", "ls-files", "*.[1-8]"], cwd=TOP, check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    for path in documents():
        if path.parts[0] == "docs":
            assert (site / path.with_suffix(".html")).is_file()
    home = Page(site / "index.html").links
    for path in map(Path, manuals.split()):
        assert f"man/{path.name}.html" in home
    assert "ooh_written" in (site / "man" / "ooh.7.html").read_text()


def test_every_link_of_the_site_resolves(site):
    assert not list(broken(site))


def test_lists_stay_lists(site):
    """Items with several paragraphs, and lists within lists."""
    text = (site / "docs" / "soundness.html").read_text()
    items = re.search(r"The argument</h2>(.*?)<h2", text, re.S).group(1)
    assert items.count("<ol>") == 1 and items.count("<ul>") == 2
    assert not re.search(r"\n\d+\. |\n- ", items)


def test_a_broken_link_is_found(site, tmp_path):
    bad = tmp_path / "site"
    shutil.copytree(site, bad)
    page = bad / "docs" / "design.html"
    page.write_text(page.read_text()
                    + '<a href="nothing.html">a</a> <a href="soundness.html#nothing">b</a>')
    assert [b.split()[1] for b in broken(bad)] == ["nothing.html", "soundness.html#nothing"]


def test_nothing_of_the_site_is_fetched_from_elsewhere(site):
    for path in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=[\"']([^\"']+)|"
                             r"<link[^>]* href=[\"']([^\"']+)", path.read_text())
        assert not [f for f in fetched if re.match(r"(?:https?:)?//", "".join(f))], path


def test_every_link_of_the_tree_resolves():
    """As a reader of the files follows it."""
    bad = []
    for path in documents():
        for to in re.findall(r"\]\(([^)\s]+)\)", (TOP / path).read_text()):
            if (not re.match(r"[a-z]+:|#", to)
                    and not (TOP / path.parent / to.split("#")[0]).exists()):
                bad.append(f"{path}: {to}")
    assert not bad
