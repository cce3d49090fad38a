"""The documents of the repository, and the blocks of code in them."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "cloud" / "README.md",
    ROOT / "cloud" / "spaces" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# A block may be indented, as in a list.
FENCED = re.compile(r"(?ms)^( *)```([^\n]*)\n(.*?)^\1```$")


def blocks(document: str | Path, language: str) -> list[str]:
    """The blocks of code of a document, by its name in the repository."""
    found = FENCED.findall((ROOT / document).read_text())
    return [textwrap.dedent(code) for _, kind, code in found if kind == language]


def with_blocks(language: str) -> list[str]:
    """The documents that have blocks of code in a language."""
    names = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
    return [name for name in names if blocks(name, language)]
