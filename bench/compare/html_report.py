"""report.html: one file, no scripts, nothing fetched; light and dark as the reader's system is."""

import html

import model
import report
import svg

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2329; --quiet: #5d6873; --rule: #d9dee3; --cowl: #1f6f8b; --file: #c4562e;
  --block: #8a9a5b; --floor: #b4bac0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --ink: #e6eaee; --quiet: #98a4af; --rule: #333c45; --cowl: #4fb3d1;
  --file: #e88560; --block: #aebf7c; --floor: #5d6873; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid var(--rule); padding-top: 1rem; } h3 { font-size: 1rem; }
.facts, .note, td.absent { color: var(--quiet); } .facts { font-size: .85rem; }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); } .left { text-align: left; }
td.how { white-space: normal; }
td.ahead { color: var(--cowl); font-weight: 600; } td.behind { color: var(--file); font-weight: 600; } td.even { color: var(--quiet); }
svg { max-width: 46rem; width: 100%; font-size: 12px; fill: var(--ink); }
rect.cowl, circle.cowl { fill: var(--cowl); } rect.file, circle.file { fill: var(--file); } rect.block, circle.block { fill: var(--block); }
rect.floor, circle.floor { fill: var(--floor); }
.line { fill: none; stroke-width: 1.6; } .line.cowl { stroke: var(--cowl); } .line.file { stroke: var(--file); } .line.block { stroke: var(--block); }
.line.floor { stroke: var(--floor); }
.spread { stroke: var(--ink); } .axis { fill: none; stroke: var(--quiet); } .grid { stroke: var(--rule); }
.model { fill: none; stroke: var(--quiet); stroke-dasharray: 5 4; } svg .note { fill: var(--quiet); }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em; }
details { margin: .5rem 0 1.2rem; } summary { cursor: pointer; color: var(--quiet); }
"""
KEY = [("cowl", "cowl"), ("file", "by file: overlayfs"), ("block", "by block: others"), ("floor", "copied beforehand: the floor")]


def table(header, rows, classes=()):
    def cells(tag, row):
        return "".join(f'<{tag}{" class=left" if side == "<" else ""}>{html.escape(cell)}</{tag}>' for cell, (_, side) in zip(row, header))
    return ("<table><thead><tr>" + cells("th", [title for title, _ in header]) + "</tr></thead><tbody>" +
            "".join(f"<tr>{cells('td', row)}</tr>" for row in rows) + "</tbody></table>")


def summary_table(outcome):
    """Who wins each case, by what, and how cowl with ext4 stands to overlay2; why is told with each case below."""
    rows, last = [], None
    for entry in report.verdicts(outcome):
        cowl = entry["overlay2_to_cowl"]
        standing = ("", "-") if not cowl else ("ahead", f"{report.factor(cowl)} ahead") if cowl >= 1 else ("behind", f"{report.factor(1 / cowl)} behind")
        if cowl and 1 / report.CLOSE < cowl < report.CLOSE:
            standing = ("even", f"even ({cowl:.2f}x)")
        best = ", ".join([entry["winner"], *entry["close"]][:3]) + (", ..." if len(entry["close"]) > 2 else "")
        best += f": {report.factor(entry['factor'])} over {entry['over']}" if entry["factor"] >= report.CLOSE else ""
        name = entry["workload"] if entry["workload"] != last else ""
        last = entry["workload"]
        rows.append(f"<tr><td class=left>{html.escape(name)}</td><td class=left>{html.escape(entry['case'])}</td>"
                    f"<td class=left>{html.escape(best)}</td><td class='left {standing[0]}'>{standing[1]}</td></tr>")
    return ("<table><thead><tr><th class=left>workload</th><th class=left>case</th><th class=left>the best, and what is within 1.5x of it</th>"
            "<th class=left>cowl-ext4 to overlay2</th></tr></thead><tbody>" + "".join(rows) + "</tbody></table>")


def drivers_table(outcome):
    rows = []
    for name, driver in outcome.drivers.items():
        text = driver["how"] if driver["here"] else f"not on this host: {driver['reason']}"
        rows.append(f'<tr><td class=left>{html.escape(name)}</td><td class="left how{"" if driver["here"] else " absent"}">{html.escape(text)}</td></tr>')
    return "<table><tbody>" + "".join(rows) + "</tbody></table>"


def case_section(outcome, workload, case):
    entry = outcome.cases[workload, case]
    main = entry["main"]
    rows = [(driver, figure) for driver in outcome.drivers if (figure := outcome.figure(workload, case, driver, main))]
    said = report.verdict(outcome, workload, case)
    return [f"<h3>{html.escape(case)}</h3>", f"<p>{html.escape(report.verdict_line(said))}</p>" if said else "",
            f"<p class=note>{html.escape(report.title_of(main))}; the line shows lowest to highest</p>", svg.bars(main, rows),
            f"<details><summary>all figures</summary>{table(*report.case_table(outcome, workload, case))}</details>"]


def curves(outcome, workload):
    """Of a workload whose cases are sizes: what it costs by size, with the model's curves."""
    cases = [(case, entry) for (name, case), entry in outcome.cases.items() if name == workload and entry["size_bytes"]]
    if len(cases) < 3:
        return []
    parts = []
    for figure, heading in (("time_s", "time"), ("written_bytes", "bytes written to the disk")):
        series = {}
        for driver in outcome.drivers:
            line = [(entry["size_bytes"], found["median"]) for case, entry in cases
                    if (found := outcome.figure(workload, case, driver, figure)) and found["median"] > 0]
            if line:
                series[driver] = line
        models = model.curves([entry["size_bytes"] for _, entry in cases]) if figure == "written_bytes" else {}
        parts += [f"<h3>{heading} by the size of the file</h3>", svg.curve(figure, "size of the file", series, models)]
    return parts


def page(outcome):
    lines = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
             "<title>File against block</title>", f"<style>{STYLE}</style>", "<h1>File against block</h1>", "<p class=facts>",
             "<br>".join(map(html.escape, report.fact_lines(outcome))), "</p>", "<h2>In short</h2>", summary_table(outcome),
             "<p class=key>", *(f"<span style='background: var(--{name})'></span>{text}" for name, text in KEY), "</p>",
             "<h2>Drivers</h2>", drivers_table(outcome)]
    seen = None
    for workload, case in outcome.cases:
        if workload != seen:
            seen = workload
            lines += [f"<h2>{html.escape(outcome.cases[workload, case]['title'])}</h2>", *curves(outcome, workload)]
        lines += case_section(outcome, workload, case)
    if outcome.failures:
        lines += ["<h2>What failed</h2><ul>", *(f"<li>{html.escape(entry['workload'])} {html.escape(entry['case'])} on "
                                               f"{html.escape(entry['driver'])}: {html.escape(entry['message'])}</li>" for entry in outcome.failures), "</ul>"]
    return "\n".join(lines) + "\n</html>\n"


def write(outcome, folder):
    (folder / "report.html").write_text(page(outcome), encoding="utf-8")
