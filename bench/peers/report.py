"""What was measured, as tables for the terminal and for Markdown."""

from tables import markdown_table, text_table

COLUMNS = (("server", "<"), ("rate /s", ">"), ("min-max", ">"), ("MiB/s", ">"), ("mean us", ">"), ("p50", ">"), ("p99", ">"), ("p99.9", ">"),
           ("CPU us", ">"), ("peak MiB", ">"), ("wrote", ">"), ("cowl/it", ">"), ("min-max", ">"), ("engine", "<"))


def number(value, digits=3):
    """Three digits that matter; thousands as k."""
    if value is None:
        return "-"
    if value >= 99950:
        return f"{value / 1000:.0f}k"
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def middle(entry):
    return number(entry["median"]) if entry else "-"


def ends(entry):
    return f"{number(entry['min'])}-{number(entry['max'])}" if entry else "-"


def cells(row, engines):
    ratio = row["cowl_ratio"]
    return [row["peer"], middle(row["iops"]), ends(row["iops"]), middle(row["mib_s"]), middle(row["mean_us"]), middle(row["p50_us"]),
            middle(row["p99_us"]), middle(row["p999_us"]), middle(row["cpu_us"]), middle(row["peak_mib"]), middle(row["wrote_ratio"]),
            middle(ratio), ends(ratio), engines.get(row["peer"], "")]


def bar_rows(bars):
    return [[row["bar"], row["limit"], f"{row['median']:.2f}", f"{row['min']:.2f}-{row['max']:.2f}", "ok" if row["ok"] else "MISSED",
             row["note"]] for row in bars]


BAR_COLUMNS = (("bar", "<"), ("limit", "<"), ("measured", ">"), ("min-max", ">"), ("", "<"), ("note", "<"))
EXPLAIN = ("Medians over the repeats. CPU us: of the server, for a request. wrote: bytes the server made the kernel write, by bytes sent "
           "to it. cowl/it: the rate of {reference} by this one's, paired within each repeat.")


def document(outcome, table, heading, bullet):
    """All of the report as lines; TABLE makes a table, HEADING a heading, BULLET an entry of a list."""
    lines = [*heading("cowl and its peers", 1), ""]
    lines += [bullet(line) for line in outcome["machine_lines"]] + [""]
    header = (("server", "<"), ("engine", "<"), ("what", "<"))
    lines += table(header, [[name, peer["engine"], peer["note"]] for name, peer in outcome["peers"].items()]) + [""]
    lines += [EXPLAIN.format(reference=outcome["reference"] or "cowl"), ""]
    engines = {name: peer["engine"] for name, peer in outcome["peers"].items()}
    for job, title in outcome["jobs"].items():
        rows = [cells(row, engines) for row in outcome["summary"] if row["job"] == job]
        if rows:
            lines += [*heading(f"{title} ({job})", 2), "", *table(COLUMNS, rows), ""]
    if outcome["bars"]:
        lines += [*heading("Bars: cowl@32 to the others", 2), "", *table(BAR_COLUMNS, bar_rows(outcome["bars"])), ""]
    if outcome["notes"]:
        lines += [*heading("Notes", 2), "", *(bullet(line) for line in outcome["notes"]), ""]
    return lines


def terminal(outcome):
    return "\n".join(document(outcome, text_table, lambda text, level: [text, "-" * len(text)], lambda line: line))


def markdown(outcome):
    return "\n".join(document(outcome, markdown_table, lambda text, level: ["#" * level + " " + text], lambda line: "- " + line))
