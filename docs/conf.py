"""The documents as a site: `make docs`. What is written stays plain Markdown that a forge shows as well."""

from sphinx.application import Sphinx

project = "Item service"
author = copyright = "The item service authors"

# The pages link to each other as the files that they are, so the source is the project's folder.
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "deploy/README.md", "findings/README.md"]
exclude_patterns = [".*", "bench", "build", "client", "db", "service", "tests"]

# As on forges: headings have anchors, code has colours, and a bare URL is no link.
myst_heading_anchors = 4

nitpicky = True
html_theme = "furo"
html_title = project
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "start.html"}
templates_path = ["templates"]

# The order of the pages in the site's navigation.
PAGES = {
    "Understand": ["docs/concepts", "docs/architecture", "docs/decisions"],
    "Call": ["docs/api", "docs/client", "docs/callers", "docs/problems"],
    "Run": [
        *("docs/deploying", "Manifests <deploy/README>", "docs/settings", "docs/metrics"),
        *("docs/operations", "docs/tuning", "docs/security"),
    ],
    "Rely": ["docs/reliability", "docs/performance"],
    "Change": ["docs/developing", "docs/adding-a-resource", "findings/README", "CHANGELOG"],
    "All": ["docs/README"],
}


def add_navigation(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the navigation to the start page; in the file itself a forge would show it as code."""
    if docname == root_doc:
        source[0] += "".join(
            f"\n```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{chr(10).join(pages)}\n```\n"
            for caption, pages in PAGES.items()
        )


def setup(app: Sphinx) -> None:
    """Add the navigation as pages are read."""
    app.connect("source-read", add_navigation)
