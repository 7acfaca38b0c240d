"""Draw img/states.svg from the tables of controller/core/states.py: `python3 -m img.draw_states`.

Forward transitions run to the right and downward, backward ones over the top; transitions out of an ended state are
dashed.
"""

from __future__ import annotations

from pathlib import Path

from echelon.controller.core.states import ENDED, JOB_TRANSITIONS, STAGE_TRANSITIONS, TASK_TRANSITIONS, State

TARGET = Path(__file__).with_name("states.svg")
Transitions = dict[State, frozenset[State]]

WIDTH = 900
BOX_WIDTH, BOX_HEIGHT, RADIUS = 124, 36, 10
#: Column and row of each state; the ended ones stand below each other at the right.
PLACES = {
    State.PENDING: (130, 0),
    State.QUEUED: (330, 0),
    State.RUNNING: (530, 0),
    State.COMPLETED: (750, 0),
    State.FAILED: (750, 1),
    State.CANCELLED: (750, 2),
    State.SKIPPED: (750, 3),
}
ROW, LANE = 52, 16
FILL = {
    State.PENDING: "#eceff1",
    State.QUEUED: "#d6e6f8",
    State.RUNNING: "#fdeebf",
    State.COMPLETED: "#d5efd9",
    State.FAILED: "#f8d7d4",
    State.CANCELLED: "#e6dcef",
    State.SKIPPED: "#f4f4f4",
}
STYLE = """text { font-family: 'DejaVu Sans', Verdana, sans-serif; font-size: 14px; fill: #1d2733 }
  .title { font-size: 16px; font-weight: bold }
  .note { font-size: 13px; fill: #53606d }
  path { fill: none; stroke: #53606d; stroke-width: 1.5 }
  .again { stroke: #b3541e; stroke-dasharray: 5 4 }"""
MARKERS = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    f'<path d="M0,0 L8,4 L0,8 z" style="fill:{colour};stroke:none"/></marker>'
    for name, colour in (("tip", "#53606d"), ("tip-again", "#b3541e"))
)


def draw() -> str:
    """Return the whole drawing as SVG."""
    parts, top = [], 20
    tables = (("Task", TASK_TRANSITIONS), ("Stage", STAGE_TRANSITIONS), ("Job", JOB_TRANSITIONS))
    for title, transitions in tables:
        drawn, height = _panel(title, transitions)
        parts.append(f'<g transform="translate(0,{top})">{drawn}</g>')
        top += height
    legend = '<path class="again" d="M40,-5 h50"/><text class="note" x="100">only when a person asks for it</text>'
    parts.append(f'<g transform="translate(0,{top + 10})">{legend}</g>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 30}" width="{WIDTH}" role="img">'
    body = "\n".join(parts)
    return (
        f"{head}\n<title>The states of tasks, stages and jobs</title>\n<style>{STYLE}</style>\n<defs>{MARKERS}</defs>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _panel(title: str, transitions: Transitions) -> tuple[str, int]:
    edges = _edges(transitions)
    back = sorted(filter(_goes_back, edges), key=lambda edge: (edge[0] in ENDED, -PLACES[edge[1]][0]))
    lanes = list(dict.fromkeys((source in ENDED, target) for source, target in back))
    middle = 46 + LANE * len(lanes)
    shown = [state for state in State if any(state in edge for edge in edges)]
    parts = [f'<text class="title" x="40" y="14">{title}</text>']
    parts += [_forward(source, target, middle) for source, target in edges if not _goes_back((source, target))]
    parts += [_backward(edge, lanes.index((edge[0] in ENDED, edge[1])), middle) for edge in back]
    parts += [_box(state, middle) for state in shown]
    rows = max(PLACES[state][1] for state in shown)
    return "\n".join(parts), middle + rows * ROW + BOX_HEIGHT // 2 + 36


def _edges(transitions: Transitions) -> list[tuple[State, State]]:
    return [(source, target) for source in State for target in State if target in transitions.get(source, ())]


def _goes_back(edge: tuple[State, State]) -> bool:
    return PLACES[edge[0]] > PLACES[edge[1]]


def _box(state: State, middle: int) -> str:
    column, row = PLACES[state]
    y = middle + row * ROW
    size = f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"'
    return (
        f'<rect x="{column - BOX_WIDTH // 2}" y="{y - BOX_HEIGHT // 2}" {size} fill="{FILL[state]}" stroke="#53606d"/>'
        f'<text x="{column}" y="{y + 5}" text-anchor="middle">{state}</text>'
    )


def _forward(source: State, target: State, middle: int) -> str:
    (x, _), (end, row) = PLACES[source], PLACES[target]
    left = end - BOX_WIDTH // 2
    if row == 0:
        return f'<path marker-end="url(#tip)" d="M{x + BOX_WIDTH // 2},{middle} H{left}"/>'
    x += 30 - 15 * row
    y = middle + row * ROW
    turn = f"V{y - RADIUS} q0,{RADIUS} {RADIUS},{RADIUS}"
    return f'<path marker-end="url(#tip)" d="M{x},{middle + BOX_HEIGHT // 2} {turn} H{left}"/>'


def _backward(edge: tuple[State, State], lane: int, middle: int) -> str:
    source, target = edge
    (x, row), (end, _) = PLACES[source], PLACES[target]
    roof = middle - BOX_HEIGHT // 2 - LANE * (lane + 1)
    end += 12 * lane - 24
    down = f"H{end + RADIUS} q-{RADIUS},0 -{RADIUS},{RADIUS} V{middle - BOX_HEIGHT // 2}"
    if source not in ENDED:
        x += 30 - 12 * lane
        start = f"M{x},{middle - BOX_HEIGHT // 2} V{roof + RADIUS} q0,-{RADIUS} -{RADIUS},-{RADIUS}"
        return f'<path marker-end="url(#tip)" d="{start} {down}"/>'
    start = f"M{x + BOX_WIDTH // 2},{middle + row * ROW} h12 q{RADIUS},0 {RADIUS},-{RADIUS}"
    up = f"V{roof + RADIUS} q0,-{RADIUS} -{RADIUS},-{RADIUS}"
    return f'<path class="again" marker-end="url(#tip-again)" d="{start} {up} {down}"/>'


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
