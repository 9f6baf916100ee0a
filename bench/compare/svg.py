"""Charts as SVG for the report, written by hand: no library, readable offline, in the page's own light or dark colours."""

import html
import math

from report import show

ROW, LEFT, WIDTH, RIGHT = 24, 150, 430, 150  # pixels
CURVE_WIDTH, CURVE_HEIGHT, MARGIN, LABEL = 620, 360, 60, 13


def family(driver):
    """The class that colours it."""
    if driver.startswith("cowl"):
        return "cowl"
    return "file" if driver.startswith(("overlay2", "docker")) else "floor" if driver in ("vfs", "plain") else "block"


def bars(figure, rows):
    """ROWS: (driver, {"median", "min", "max"}), on a logarithmic scale where the longest is over 30 times the shortest."""
    values = [entry["median"] for _, entry in rows if entry["median"] > 0]
    low, high = (min(values), max(entry["max"] for _, entry in rows)) if values else (1, 1)
    logarithmic = high > 30 * low

    def at(value):
        if not logarithmic:
            return WIDTH * value / high if high else 0
        base = low / 2
        return WIDTH * math.log(max(value, base) / base) / math.log(high / base)

    height = 12 + ROW * len(rows) + (14 if logarithmic else 0)
    parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" role="img">']
    for index, (driver, entry) in enumerate(rows):
        y = 6 + ROW * index
        parts += [f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(driver)}</text>',
                  f'<rect class="{family(driver)}" x="{LEFT}" y="{y + 3}" width="{at(entry["median"]):.1f}" height="{ROW - 8}"/>',
                  f'<line class="spread" x1="{LEFT + at(entry["min"]):.1f}" x2="{LEFT + at(entry["max"]):.1f}" y1="{y + 11}" y2="{y + 11}"/>',
                  f'<text x="{LEFT + at(entry["max"]) + 6:.1f}" y="{y + 15}">{show(figure, entry["median"])}</text>']
    if logarithmic:
        parts.append(f'<text class="note" x="{LEFT}" y="{height - 2}">logarithmic scale</text>')
    return "".join([*parts, "</svg>"])


def apart(heights, most):
    """HEIGHTS, rising, moved so that labels there do not lie on each other and none is below MOST."""
    placed = []
    for y in heights:
        placed.append(max(y, placed[-1] + LABEL) if placed else y)
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], placed[index + 1] - LABEL if index + 1 < len(placed) else most)
    return placed


def ticks(figure, low, high):
    """Round values between 10**LOW and 10**HIGH: powers of ten, of bytes powers of 16."""
    step = 16 if figure.endswith("_bytes") else 10
    value = step ** math.ceil(low * math.log(10) / math.log(step) - 1e-9)
    while value <= 10 ** high:
        yield value
        value *= step


def curve(figure, x_name, series, models):
    """Both axes logarithmic. SERIES: {driver: [(x, y)]}; MODELS: {name: [(x, y)]}, drawn as dashed lines under the points."""
    points = [point for line in (*series.values(), *models.values()) for point in line if point[0] > 0 and point[1] > 0]
    if not points:
        return ""
    spans = [(math.log10(min(point[axis] for point in points)), math.log10(max(point[axis] for point in points))) for axis in (0, 1)]

    def at(axis, value):
        low, high = spans[axis]
        share = (math.log10(value) - low) / ((high - low) or 1)
        return MARGIN + share * (CURVE_WIDTH - 2 * MARGIN) if axis == 0 else CURVE_HEIGHT - MARGIN - share * (CURVE_HEIGHT - 2 * MARGIN)

    parts = [f'<svg viewBox="0 0 {CURVE_WIDTH + RIGHT} {CURVE_HEIGHT}" role="img">',
             f'<path class="axis" d="M{MARGIN} {MARGIN / 2} V{CURVE_HEIGHT - MARGIN} H{CURVE_WIDTH - MARGIN / 2}"/>']
    for value in sorted({point[0] for point in points}):
        parts.append(f'<text x="{at(0, value):.1f}" y="{CURVE_HEIGHT - MARGIN + 18}" text-anchor="middle">{show("x_bytes", value)}</text>')
    for value in ticks(figure, *spans[1]):
        y = at(1, value)
        parts += [f'<line class="grid" x1="{MARGIN}" x2="{CURVE_WIDTH - MARGIN / 2}" y1="{y:.1f}" y2="{y:.1f}"/>',
                  f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{show(figure, value)}</text>']
    parts.append(f'<text x="{CURVE_WIDTH / 2}" y="{CURVE_HEIGHT - 12}" text-anchor="middle">{html.escape(x_name)}</text>')
    labels = []
    for name, line, kind in [*((name, line, "model") for name, line in models.items()),
                             *((name, line, f"line {family(name)}") for name, line in series.items())]:
        path = " ".join(f"{'L' if index else 'M'}{at(0, x):.1f} {at(1, y):.1f}" for index, (x, y) in enumerate(line))
        parts.append(f'<path class="{kind}" d="{path}"/>')
        labels.append((at(1, line[-1][1]), at(0, line[-1][0]), name, "note" if kind == "model" else ""))
        if kind != "model":
            parts += [f'<circle class="{family(name)}" cx="{at(0, x):.1f}" cy="{at(1, y):.1f}" r="3.5"><title>{html.escape(name)}: '
                      f'{show(figure, y)}</title></circle>' for x, y in line]
    labels.sort()
    for (_, x, name, kind), y in zip(labels, apart([label[0] for label in labels], CURVE_HEIGHT - MARGIN)):
        parts.append(f'<text class="{kind}" x="{x + 10:.1f}" y="{y + 4:.1f}">{html.escape(name)}</text>')
    return "".join([*parts, "</svg>"])
