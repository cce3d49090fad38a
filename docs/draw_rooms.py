"""Draws the rooms of the package as they are in the code: docs/rooms.svg.

    python docs/draw_rooms.py

Their order is that of pyproject.toml, which `lint-imports` checks against the imports; what a
room is for is the first sentence of its docstring.
"""

import ast
import re
import textwrap
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "colorgan_jax"
SVG = ROOT / "docs" / "rooms.svg"

_WIDTH, _GAP = 880, 8
_LINE, _LETTER = 15, 5.9
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #334 }
.name { font: 600 13px system-ui, sans-serif; fill: #112 }
rect { fill: #eef1fb; stroke: #aab4dd }
@media (prefers-color-scheme: dark) {
  text { fill: #bcc3d9 } .name { fill: #eef }
  rect { fill: #23283a; stroke: #4a5482 }
}"""


def layers() -> list[list[str]]:
    """The rooms, the highest first; those of one height together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["id"] == "rooms")
    return [re.findall(r"\w+", layer) for layer in contract["layers"]]


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    path = PACKAGE / room / "__init__.py"
    if not path.exists():
        path = PACKAGE / f"{room}.py"
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.split(r"(?<=[.!?])\s", text.partition("\n\n")[0].replace("\n", " "))[0]


def draw() -> str:
    """The picture, as SVG."""
    parts, top = [], 0
    for rooms in layers():
        width = (_WIDTH - _GAP * (len(rooms) - 1)) / len(rooms)
        texts = [
            textwrap.wrap(purpose(room), int((width - 20) / _LETTER)) for room in rooms
        ]
        height = _LINE * (max(map(len, texts)) + 1) + 14
        for number, (room, lines) in enumerate(zip(rooms, texts, strict=True)):
            left = number * (width + _GAP)
            parts.append(
                f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}"'
                ' rx="4"/>'
            )
            for row, line in enumerate([room, *lines]):
                kind = ' class="name"' if row == 0 else ""
                y = top + 18 + _LINE * row
                parts.append(
                    f'<text x="{left + 10:.0f}" y="{y}"{kind}>{escape(line)}</text>'
                )
        top += height + _GAP
    size = f'viewBox="-1 -1 {_WIDTH + 2} {top - _GAP + 2}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{_STYLE}\n</style>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    SVG.write_text(draw())
