"""The hook of mkdocs that brings the documents outside of docs/ into the site.

Links are those of the repository: they lead to the pages that the documents have become, or
to the repository (`repo_url` of mkdocs.yml) where they are no documents. Where it is not
known, their text stays.
"""

import os
import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Documents outside of docs/, and their pages.
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "cloud/README.md": "cloud.md",
    "cloud/spaces/README.md": "spaces.md",
}
# An image or not, its text, its target and the part of it.
_LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|mailto:)([^)\s#]*)(#[^)\s]*)?\)"
)
_CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
# What stands between lines at the top is metadata, for the Hugging Face Hub.
_METADATA = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of documents outside of docs/."""
    root = os.path.dirname(config.config_file_path)
    for name, page in _PAGES.items():
        with open(os.path.join(root, name), encoding="utf-8") as file:
            content = _METADATA.sub("", file.read())
        files.append(
            File.generated(config, page, content=_move_links(content, name, config))
        )
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Moves the links of documents in docs/."""
    if page.file.src_uri in _PAGES.values():
        return markdown
    return _move_links(markdown, f"docs/{page.file.src_uri}", config)


def _move_links(markdown: str, document: str, config: MkDocsConfig) -> str:
    """Links of a document of the repository as those of its page."""
    folder = posixpath.dirname(document)

    def move(link: re.Match) -> str:
        image, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        if path in _PAGES:
            return f"{image}[{text}]({_PAGES[path]}{anchor})"
        if path.startswith("docs/") and path.endswith((".md", ".jpg", ".png", ".svg")):
            return f"{image}[{text}]({path.removeprefix('docs/')}{anchor})"
        if config.repo_url:
            return f"{image}[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor})"
        return text

    parts = _CODE.split(markdown)
    return "".join(
        part if number % 2 else _LINK.sub(move, part)
        for number, part in enumerate(parts)
    )
