"""What was measured, as data, tables and sentences."""

import json
import statistics

from tables import markdown_table, text_table
from workload import Case

CLOSE = 1.5  # a smaller factor is no difference: two runs need not agree on it
FIGURES = {"time_s": "time", "stored_bytes": "stored", "written_bytes": "written", "server_bytes": "server memory", "cache_bytes": "page cache"}


class Outcome:
    def __init__(self, quick, repeats, seed, facts):
        self.quick = quick
        self.repeats = repeats
        self.seed = seed
        self.facts = facts
        self.drivers = {}  # by name, in the report's order
        self.cases = {}  # (workload, case) by their names, in order
        self.samples = {}  # (workload, case, driver) -> figures of each repeat
        self.failures = []
        self.seconds = 0
        self.objects = {}

    @classmethod
    def of_json(cls, document, drivers, workloads):
        """What as_json made of one; DRIVERS and WORKLOADS are those it may name."""
        outcome = cls(document["quick"], document["repeats"], document["seed"], document["host"])
        outcome.drivers, outcome.failures, outcome.seconds = document["drivers"], document["failures"], document["seconds"]
        outcome.objects = {driver.name: driver for driver in drivers}
        jobs = {workload.name: workload for workload in workloads}
        for entry in document["cases"]:
            key = entry["workload"], entry["case"]
            outcome.cases[key] = {name: entry[name] for name in ("title", "main", "size_bytes", "floor_counts", "seconds")}
            outcome.objects[key] = jobs[entry["workload"]], Case(entry["case"], entry["size_bytes"])
            for driver, samples in entry["samples"].items():
                outcome.samples[*key, driver] = samples
        return outcome

    def add(self, workload, case, driver, repeat, figures):
        self.cases[workload.name, case.name] = {"title": workload.title, "main": case.main, "size_bytes": case.size_bytes,
                                                   "floor_counts": workload.floor_counts}
        self.objects[workload.name, case.name] = (workload, case)
        self.objects[driver.name] = driver
        self.samples.setdefault((workload.name, case.name, driver.name), []).append(figures)

    def fail(self, workload, case, driver, text):
        self.failures.append({"workload": workload.name, "case": case.name, "driver": driver.name, "message": text})

    def figure(self, workload, case, driver, name):
        """Median, lowest, highest, 10th and 90th percentile over the repeats; None where there are none."""
        values = sorted(sample[name] for sample in self.samples.get((workload, case, driver), []) if sample.get(name) is not None)
        if not values:
            return None
        at = lambda share: values[min(len(values) - 1, int(share * len(values)))]
        return {"median": statistics.median(values), "min": values[0], "max": values[-1], "p10": at(0.1), "p90": at(0.9), "repeats": len(values)}

    def names(self, workload, case):
        return list(dict.fromkeys(name for entry in self.samples if entry[:2] == (workload, case) for name in
                                  [figure for sample in self.samples[entry] for figure in sample]))

    def ranking(self, workload, case):
        """(driver, median of the deciding figure), best first, without those that are only the floor."""
        main = self.cases[workload, case]["main"]
        floor_counts = self.cases[workload, case]["floor_counts"]
        found = [(driver, self.figure(workload, case, driver, main)) for driver, entry in self.drivers.items()
                 if driver != "plain" and (floor_counts or not entry["floor"])]
        return sorted(((driver, figure["median"]) for driver, figure in found if figure), key=lambda entry: entry[1])


def seconds(value):
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s"


def size(value):
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}" if value / unit < 1000 else f"{value / unit:.0f} {name}"
    return f"{value:.0f} B"


def show(name, value):
    if value is None:
        return "-"
    if name.endswith("_s"):
        return seconds(value)
    return size(value) if name.endswith("_bytes") else f"{value:.3g}"


def factor(value):
    return f"{value:,.0f}x" if value >= 100 else f"{value:.3g}x"


def title_of(name):
    return FIGURES.get(name, name.removesuffix("_s").removesuffix("_bytes").replace("_", " "))


def case_table(outcome, workload, case):
    """Header and rows; the deciding figure first, with its spread and the factor to the best."""
    main = outcome.cases[workload, case]["main"]
    names = [main, *(name for name in outcome.names(workload, case) if name != main)]
    ranking = outcome.ranking(workload, case)
    best = ranking[0][1] if ranking else 0
    header = [("driver", "<"), (title_of(main), ">"), ("lowest-highest", ">"), ("to the best", ">"), *((title_of(name), ">") for name in names[1:])]
    rows = []
    for driver in outcome.drivers:
        figure = outcome.figure(workload, case, driver, main)
        if not figure:
            continue
        others = [outcome.figure(workload, case, driver, name) for name in names[1:]]
        rows.append([driver, show(main, figure["median"]), f"{show(main, figure['min'])}-{show(main, figure['max'])}",
                     factor(figure["median"] / best) if best else "-",
                     *(show(name, entry and entry["median"]) for name, entry in zip(names[1:], others))])
    return header, rows


def case_lines(outcome, workload, case):
    if (workload.name, case.name) not in outcome.cases:
        return []
    heading = f"{workload.title}: {case.name} ({workload.name})"
    return ["", heading, "-" * len(heading), *text_table(*case_table(outcome, workload.name, case.name))]


def verdict(outcome, workload, case):
    """Who wins, by what factor over overlay2 (or the next), and why."""
    ranking = outcome.ranking(workload, case)
    if len(ranking) < 2:
        return None
    winner, best = ranking[0]
    values = dict(ranking)
    cowl = values["overlay2"] / values["cowl-ext4"] if values.get("cowl-ext4") and "overlay2" in values else None
    loser = "overlay2" if "overlay2" in values and winner != "overlay2" else ranking[1][0]
    if winner == "overlay2":
        loser = next((driver for driver, _ in ranking if driver == "cowl-ext4"), loser)
    times = values[loser] / best if best else float("inf")
    group = [driver for driver, value in ranking if value <= CLOSE * best]
    job, variant = outcome.objects[workload, case]
    reason = job.why(variant, outcome.objects[winner], outcome.objects[loser])
    return {"workload": workload, "case": case, "winner": winner, "over": loser, "close": group[1:], "factor": times, "why": reason,
            "overlay2_to_cowl": cowl}


def verdict_line(entry):
    what = f"{entry['workload']}, {entry['case']}"
    if entry["factor"] < CLOSE:
        text = f"{what}: {entry['winner']} and {entry['over']} are close ({entry['factor']:.2f}x)"
    else:
        text = f"{what}: {entry['winner']} is {factor(entry['factor'])} ahead of {entry['over']}" + (f": {entry['why']}" if entry["why"] else "")
        text += f". Close to {entry['winner']}: {', '.join(entry['close'])}" if entry["close"] else ""
    cowl = entry["overlay2_to_cowl"]
    if cowl and {entry["winner"], entry["over"]} != {"cowl-ext4", "overlay2"}:
        text += f". cowl-ext4 to overlay2: {f'{factor(cowl)} ahead' if cowl >= 1 else f'{factor(1 / cowl)} behind'}"
    return text


def verdicts(outcome):
    return [entry for workload, case in outcome.cases if (entry := verdict(outcome, workload, case))]


def absent_lines(outcome):
    return [f"{name}: not on this host: {driver['reason']}" for name, driver in outcome.drivers.items() if not driver["here"]]


def summary_lines(outcome):
    return ["", "In short", "--------", *map(verdict_line, verdicts(outcome)), "", *absent_lines(outcome),
            *(f"failed: {entry['workload']} {entry['case']} on {entry['driver']}: {entry['message']}" for entry in outcome.failures)]


def fact_lines(outcome):
    facts = outcome.facts
    emulated = ["an emulated machine: times are told as ratios to the lowest of each case, and only the large ones mean anything"]
    return [*(emulated if facts.get("emulated") else []),
            f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['memory_mib']} MiB, Linux {facts['kernel']}",
            f"{facts['file_system']} on {facts['disk']}; {facts['cowl']}; " + "; ".join(facts["tools"].values()),
            f"{outcome.repeats} {'repeat' if outcome.repeats == 1 else 'repeats'}, seed {outcome.seed}, {facts['time']}", f"command: {facts['command']}"]


def as_json(outcome):
    cases = []
    for workload, case in outcome.cases:
        figures = {driver: {name: outcome.figure(workload, case, driver, name) for name in outcome.names(workload, case)}
                   for driver in outcome.drivers if (workload, case, driver) in outcome.samples}
        samples = {driver: outcome.samples[workload, case, driver] for driver in figures}
        cases.append({"workload": workload, "case": case, **outcome.cases[workload, case], "figures": figures, "samples": samples})
    return {"host": outcome.facts, "quick": outcome.quick, "repeats": outcome.repeats, "seed": outcome.seed, "seconds": outcome.seconds,
            "drivers": outcome.drivers, "cases": cases, "verdicts": verdicts(outcome), "failures": outcome.failures}


def as_markdown(outcome):
    lines = ["# File against block", "", *(f"- {line}" for line in fact_lines(outcome)), "", "## In short", "",
             *(f"- {verdict_line(entry)}" for entry in verdicts(outcome)), "", "## Drivers", "",
             *markdown_table((("driver", "<"), ("what", "<")), [[name, driver["how"] if driver["here"] else f"not on this host: {driver['reason']}"]
                                                               for name, driver in outcome.drivers.items()]), ""]
    for workload, case in outcome.cases:
        lines += [f"## {outcome.cases[workload, case]['title']}: {case} ({workload})", "",
                  *markdown_table(*case_table(outcome, workload, case)), ""]
    if outcome.failures:
        lines += ["## What failed", "", *(f"- {entry['workload']} {entry['case']} on {entry['driver']}: {entry['message']}"
                                         for entry in outcome.failures), ""]
    return "\n".join(lines)


def write(outcome, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(as_json(outcome), indent=1), encoding="utf-8")
    (folder / "report.md").write_text(as_markdown(outcome), encoding="utf-8")
