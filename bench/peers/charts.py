"""Bar charts as SVG, written by hand: no library, readable in any browser."""

import html

from report import number

ROW, LEFT, WIDTH, RIGHT = 26, 150, 460, 190  # pixels
COLOURS = {"cowl": "#1f6f8b", "A/A": "#7fb3c4", "peer": "#b8b8b8", "limit": "#dcdcdc"}
LIMITS = ("nbdkit-null", "nbdkit-memory", "local")


def colour(peer):
    if peer == "cowl-again":
        return COLOURS["A/A"]
    if peer.startswith("cowl"):
        return COLOURS["cowl"]
    return COLOURS["limit"] if peer in LIMITS else COLOURS["peer"]


def chart(title, unit, rows):
    """ROWS: (peer, {"median", "min", "max"}). The thin line on a bar is the spread."""
    top = max(entry["max"] for _, entry in rows) or 1
    height = 56 + ROW * len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" font-family="sans-serif" font-size="13">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="12" y="24" font-size="15" font-weight="bold">{html.escape(title)}</text>',
             f'<text x="12" y="42" fill="#666" font-size="12">{html.escape(unit)}; the line shows lowest to highest</text>']
    for index, (peer, entry) in enumerate(rows):
        y = 50 + ROW * index
        at = lambda value: LEFT + WIDTH * value / top
        parts += [f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{html.escape(peer)}</text>',
                  f'<rect x="{LEFT}" y="{y + 4}" width="{at(entry["median"]) - LEFT:.1f}" height="{ROW - 8}" fill="{colour(peer)}"/>',
                  f'<line x1="{at(entry["min"]):.1f}" x2="{at(entry["max"]):.1f}" y1="{y + 13}" y2="{y + 13}" stroke="#333"/>',
                  f'<text x="{at(entry["max"]) + 6:.1f}" y="{y + 17}">{number(entry["median"])}</text>']
    return "\n".join([*parts, "</svg>", ""])


FIGURES = {"iops": "requests a second", "p99_us": "p99 latency, microseconds", "cpu_us": "server CPU a request, microseconds",
           "mean_us": "mean latency, microseconds"}


def write(outcome, folder):
    """JOB.svg shows the rate; for latency, tail and CPU there are charts beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for job, title in outcome["jobs"].items():
        for figure, unit in FIGURES.items():
            rows = [(row["peer"], row[figure]) for row in outcome["summary"] if row["job"] == job and row[figure]]
            if rows:
                name = job if figure == "iops" else f"{job}-{figure.removesuffix('_us')}"
                (folder / f"{name}.svg").write_text(chart(title, unit, rows), encoding="utf-8")
