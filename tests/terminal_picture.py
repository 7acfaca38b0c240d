"""The README's picture of a terminal: `python -m tests.terminal_picture` draws what the tutorial's commands print."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from tests.tutorial_document import COLUMNS, PAGE, Player

PICTURE = Path(__file__).resolve().parents[1] / "img" / "terminal.svg"
_TITLE = "A job fails, says why, and runs again what failed"
#: The commands that the picture shows, by their beginnings.
_SHOWN = ("echelon submit", "echelon why", "echo", "echelon retry")


def draw(page: str) -> str:
    """Play a page, and return the picture of its last commands."""
    with tempfile.TemporaryDirectory() as home:
        player = Player(Path(home))
        player.play(page)
    names = [command for command, _ in player.screens]
    begin = next(number for number, command in enumerate(names) if command.startswith(_SHOWN[0]))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for command, output in player.screens[begin:]:
        if command.startswith(_SHOWN):
            console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")))
            if output.strip():
                console.print(Text.from_ansi(output.strip("\n")))
    drawn = console.export_svg(title="echelon", unique_id="terminal")
    # A picture in a page may load nothing, so the reader's own font of fixed width is used.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("<style>", f"<title>{_TITLE}</title>\n    <style>", 1)


def read_picture() -> str:
    """Return the text in the picture."""
    texts = ElementTree.parse(PICTURE).getroot().iter("{http://www.w3.org/2000/svg}text")
    return "".join(text.text or "" for text in texts).replace("\xa0", " ")


if __name__ == "__main__":
    PICTURE.write_text(draw(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
