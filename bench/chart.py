"""Draw a run as bars: one panel per figure, one bar per contestant, Echelon's in their own colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.contestant import CHAIN, FAN_OUT, LATENCY
from bench.echelon import SHAPES
from bench.records import Run, list_contestants, list_sizes
from bench.summary import summarize
from bench.tables import find_title

_WIDTH, _LABEL, _BAR, _ROW = 900, 390, 400, 26
_OURS, _OTHERS = "#2f6fb3", "#b8c2cc"
_STYLE = """text { font-family: 'DejaVu Sans', Verdana, sans-serif; font-size: 13px; fill: #1d2733 }
  .title { font-size: 15px; font-weight: bold }"""


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure of several contestants: (name, value)."""

    title: str
    bars: Sequence[tuple[str, float]]
    digits: int


def list_panels(run: Run) -> list[Panel]:
    """Return the panels of a run."""
    found = []
    common = [size for size in list_sizes(run.find_records(FAN_OUT)) if size <= 10_000][-1:]
    for size in common:
        found.append(_make_panel(run, FAN_OUT, size, "rate", f"Fan-out of {size:,}: tasks a second, more is better", 0))
    for size in list_sizes(run.find_records(CHAIN))[-1:]:
        found.append(_make_panel(run, CHAIN, size, "ms", f"Chain of {size}: ms a stage, less is better", 2))
    if run.find_records(LATENCY):
        what = "Latency: ms from submit to the process's own clock, less is better"
        found.append(_make_panel(run, LATENCY, 0, "median", what, 2))
    return [panel for panel in found if panel.bars]


def _make_panel(run: Run, bench: str, size: int, figure: str, what: str, digits: int) -> Panel:
    bars = []
    for name in list_contestants(run.find_records(bench, size=size)):
        value = summarize(run.find_records(bench, name, size), figure)
        if value is not None:
            bars.append((name, value.median))
    return Panel(what, bars, digits)


def draw_chart(run: Run) -> str:
    """Return the chart as SVG."""
    parts, top = [], 30
    for panel in list_panels(run):
        parts.append(f'<text class="title" x="10" y="{top}">{escape(panel.title)}</text>')
        top += 12
        longest = max(value for _, value in panel.bars)
        for name, value in panel.bars:
            parts.append(_draw_bar(name, value, value / longest, top, panel.digits))
            top += _ROW
        top += 36
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" role="img">'
    what = f"<title>Results of the benchmark on {run.made[:10]}</title>\n<style>{_STYLE}</style>"
    paper = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, what, paper, *parts, "</svg>", ""])


def _draw_bar(name: str, value: float, part: float, top: int, digits: int) -> str:
    colour = _OURS if name in {shape.name for shape in SHAPES} else _OTHERS
    width = max(1.0, part * _BAR)
    return (
        f'<text x="{_LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(find_title(name))}</text>'
        f'<rect x="{_LABEL}" y="{top + 2}" width="{width:.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        f'<text x="{_LABEL + width + 6:.1f}" y="{top + 15}">{value:,.{digits}f}</text>'
    )
