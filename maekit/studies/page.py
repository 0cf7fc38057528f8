"""Tables, page and files of a study."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from maekit.report.content import Content, Picture, Table, cell
from maekit.studies.figures import curves
from maekit.studies.results import LOWER_IS_BETTER, best

if TYPE_CHECKING:
    from maekit.studies.results import Difference, Interval, Method, PointResult, Study

SURE = ("mae", "within", "accuracy", "balanced_accuracy", "ap", "ar")
"""Metrics whose interval stands in the table."""
AGREEMENT = "limits of agreement"
PROBED, RANDOM = "pretrained, linear probe", "random weights, linear probe"


def terminal_tables(study: Study) -> list[Table]:
    """What is printed, of few columns: of a single point all tables; of a grid the main metrics of each arm; of a sweep its probes."""
    if study.kind == "sweep":
        return [_short(study, sweep_table(study))]
    if len(study.points) == 1:
        return [_short(study, table) for table in point_tables(study, study.points[0])]
    return [_overview(study, metric) for metric in [m for m in SURE if m in study.metrics][:2]]


def point_tables(study: Study, point: PointResult) -> list[Table]:
    """All arms of one point, what pretraining bought, the ceiling, and the uncertainty that models state."""
    where = f", {point.title}" if point.over else ""
    methods = point.of("trained", "linear", "unlearned")
    tables = [
        _arms(
            study, f"{study.recipe}{where}: groups never seen in training", methods, _counted(study, point), mark=True
        )
    ]
    if point.differences:
        rows = [[f"{d.one} − {d.other}", *_pair(study, d)] for d in point.differences]
        columns = ["", *(name for metric in _main(study) for name in (metric, f"{metric} 95 %"))]
        tables.append(
            Table(
                f"What pretraining bought{where}",
                columns,
                rows,
                "Seed by seed, and over the same resampled groups: an "
                "interval without zero is a difference that other groups of this kind would show too.",
            )
        )
    if ceiling := point.of("ceiling"):
        tables.append(
            _arms(
                study,
                f"No method: what a picker who knows the label could do{where}",
                ceiling,
                "Labels permuted: the same picker asked for another sample's label, so what chance gives it.",
            )
        )
    stating = [arm for arm in methods if all("covered" in row for row in arm.per_seed)]
    if stating:
        rows = [
            [arm.name, *map(cell, (arm.mean("covered"), arm.mean("mae"), arm.mean("sure_half_mae")))] for arm in stating
        ]
        tables.append(
            Table(
                f"Stated uncertainty{where}",
                ["", "labels inside 1.96 sd", "mae", "mae of the surer half"],
                rows,
                "0.95 of the labels lie inside where the stated standard deviation is right.",
            )
        )
    return tables


def sweep_table(study: Study) -> Table:
    """The probe at each point, and beside it what does not depend on pretraining, at the chosen point."""
    probes = [replace(probe, name=point.title) for point in study.points if (probe := point.arm(PROBED)) is not None]
    others = [
        arm for arm in study.points[study.chosen].of("linear", "unlearned") if not arm.name.startswith("pretrained")
    ]
    table = _arms(
        study,
        f"{study.recipe}: linear probe of the pretrained encoder, groups never seen in training",
        probes,
        f"Below the points: what no pretraining changes. {_counted(study, study.points[study.chosen])}",
        mark=True,
    )
    return replace(table, rows=table.rows + _arms(study, "", others, "").rows)


def group_table(study: Study, point: PointResult) -> Table:
    """The main metric of each arm in each held-out group."""
    metric = study.metrics[0]
    arms = point.of("trained", "linear", "unlearned", "ceiling")
    names = list(arms[0].groups)
    rows = [[arm.name, *(arm.groups[name][metric] for name in names)] for arm in arms]
    marks = set()
    for column, name in enumerate(names, start=1):
        values = [arm.groups[name][metric] if arm.kind != "ceiling" else None for arm in arms]
        known = [value for value in values if value is not None]
        marks.add((values.index(min(known) if metric in LOWER_IS_BETTER else max(known)), column))
    title = f"{metric} of each group{', ' + point.title if point.over else ''}"
    return Table(
        title, ["", *names], rows, "Averaged over seeds; the best method of each group is marked.", frozenset(marks)
    )


def content(study: Study, pictures: list[Picture], recipe: str, environment: dict[str, str]) -> Content:
    """The page. The point that is the recipe as it stands comes with everything, the others with their tables."""
    chosen = study.points[study.chosen]
    tables = [*point_tables(study, chosen), group_table(study, chosen)]
    if study.kind == "sweep":
        tables = [sweep_table(study), *tables]
    elif len(study.points) > 1:
        tables = [_overview(study, metric) for metric in _main(study)] + tables
    for point in study.points:
        if point is not chosen:
            tables += point_tables(study, point)
    sentence, good = verdict(study)
    return Content(
        f"{study.recipe}: the {study.kind}",
        sentence,
        good,
        [],
        curves(study) + pictures,
        tables,
        recipe,
        environment,
        pictures_title="Figures",
    )


def verdict(study: Study) -> tuple[str, bool]:
    """A few sentences: for a sweep, where the probe is best; at the chosen point the best method, what pretraining bought,
    and whether learning was needed.
    """
    point, metric = study.points[study.chosen], study.metrics[0]
    if study.kind == "sweep":
        probes = {p.title: probe for p in study.points if (probe := p.arm(PROBED)) is not None}
        first = best(list(probes.values()), metric)
        title = next(title for title, probe in probes.items() if probe is first)
        random = next((p.arm(RANDOM) for p in study.points if p.arm(PROBED) is first), None)
        good = random is not None and _better(first, random, metric)
        text = f"The linear probe is best at {title}, with {metric} {_spread(first.mean(metric), first.spread(metric), study.seeds)}"
        if random is not None:
            text += f" ({cell(random.mean(metric))} with random weights)"
        worst = max(abs(probe.mean(metric) - first.mean(metric)) for probe in probes.values())
        return " ".join([f"{text}; the points lie within {cell(worst)} of it.", *study.notes]), good
    at = f"At {point.title}: " if point.over else ""
    methods = point.of("trained", "linear", "unlearned")
    first = best(methods, metric)
    unit = f" {study.unit}" if study.unit and metric == "mae" else ""
    text = f"{at}{first.name} is best, with {metric} {cell(first.mean(metric))}{unit}{_interval(first.intervals.get(metric), ' (95 %: {})')}."
    for difference in point.differences[:1]:
        mean, spread = difference.mean(metric), difference.spread(metric)
        sure = difference.intervals.get(metric)
        clear = abs(mean) > spread and sure is not None and sure[0] * sure[1] > 0
        better = (mean < 0) == (metric in LOWER_IS_BETTER)
        verb = "gains" if better else "loses"
        text += (
            f" Pretraining {verb} {cell(abs(mean))}{unit} against random weights ({difference.one.split(', ')[-1]}), "
            + ("more than seeds and groups vary." if clear else "which seeds or groups alone could make.")
        )
    learned, unlearned = point.of("trained", "linear"), point.of("unlearned")
    asked = _main(study)
    good = any(all(_better(arm, best(unlearned, m), m) for m in asked) for arm in learned)
    text += (
        " Something learned beats everything unlearned on "
        if good
        else " Nothing learned beats everything unlearned on "
    )
    text += f"{' and '.join(asked)}{' at once' if len(asked) > 1 else ''}."
    return " ".join([text, *study.notes]), good


def as_json(study: Study) -> str:
    """Everything but predictions, which are in the cells."""
    return json.dumps(asdict(study), indent=1)


def as_csv(study: Study) -> str:
    """One line for each point, arm and group; without a group over all, with spread and interval."""
    keys = list(study.points[0].over)
    columns = [*keys, "arm", "kind", "group"]
    for metric in study.metrics:
        columns += [metric, f"{metric}_sd", f"{metric}_low", f"{metric}_high"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for point in study.points:
        for arm in point.arms:
            start = {**point.over, "arm": arm.name, "kind": arm.kind}
            whole: dict[str, Any] = {}
            for metric in study.metrics:
                low, high = arm.intervals.get(metric) or ("", "")
                whole |= {
                    metric: arm.mean(metric),
                    f"{metric}_sd": arm.spread(metric),
                    f"{metric}_low": low,
                    f"{metric}_high": high,
                }
            writer.writerow({**start, "group": "", **whole})
            for group, values in arm.groups.items():
                writer.writerow({**start, "group": group, **{metric: values[metric] for metric in study.metrics}})
    return text.getvalue()


def _counted(study: Study, point: PointResult) -> str:
    groups = len(point.arms[0].groups)
    return (
        f"{point.samples:,} held-out samples, {groups} group(s), {study.folds} fold(s), {study.seeds} seed(s): mean ± standard "
        "deviation over seeds"
        + ("; 95 % intervals by resampling groups" if groups > 1 else "")
        + (f"; within: share closer than {study.within:g} {study.unit}".rstrip() if "within" in study.metrics else "")
        + "."
    )


def _short(study: Study, table: Table) -> Table:
    """A table of arms with the main metrics alone, and the interval of the first; another table as it is."""
    main = _main(study)
    kept = [i for i, name in enumerate(table.columns) if name in ("", *main, f"{main[0]} 95 %", "r")]
    if table.columns[-1:] != [AGREEMENT]:
        return table
    rows = [[row[i] for i in kept] for row in table.rows]
    marks = frozenset((row, kept.index(column)) for row, column in table.best if column in kept)
    return replace(table, columns=[table.columns[i] for i in kept], rows=rows, best=marks)


def _main(study: Study) -> list[str]:
    return [metric for metric in SURE if metric in study.metrics][:2]


def _arms(study: Study, title: str, arms: list[Method], note: str, *, mark: bool = False) -> Table:
    shown = [metric for metric in study.metrics if metric not in ("lower", "upper")]
    columns, rows = [""], [[arm.name] for arm in arms]
    marks = set()
    for metric in shown:
        if mark and metric != "bias":
            marks.add((arms.index(best(arms, metric)), len(columns)))
        columns.append(metric)
        for arm, row in zip(arms, rows, strict=True):
            row.append(_spread(arm.mean(metric), arm.spread(metric), study.seeds))
        if metric in SURE and any(arm.intervals.get(metric) for arm in arms):  # one group has none
            columns.append(f"{metric} 95 %")
            for arm, row in zip(arms, rows, strict=True):
                row.append(_interval(arm.intervals.get(metric)))
    if "lower" in study.metrics:
        columns.append(AGREEMENT)
        for arm, row in zip(arms, rows, strict=True):
            row.append(f"{cell(arm.mean('lower'))} to {cell(arm.mean('upper'))}")
    return Table(title, columns, rows, note, frozenset(marks))


def _overview(study: Study, metric: str) -> Table:
    names = [arm.name for arm in study.points[0].arms if all(point.arm(arm.name) for point in study.points)]
    rows, marks = [[name] for name in names], set()
    for column, point in enumerate(study.points, start=1):
        arms = [arm for name in names if (arm := point.arm(name)) is not None]
        marks.add((arms.index(best([arm for arm in arms if arm.kind != "ceiling"], metric)), column))
        for row, arm in zip(rows, arms, strict=True):
            row.append(_spread(arm.mean(metric), arm.spread(metric), study.seeds))
    return Table(
        f"{study.recipe}: {metric}",
        ["", *(point.title for point in study.points)],
        rows,
        f"Mean over {study.seeds} seed(s) ± standard deviation; the best method of each column is marked.",
        frozenset(marks),
    )


def _pair(study: Study, difference: Difference) -> list[str]:
    found = []
    for metric in _main(study):
        found += [
            _spread(difference.mean(metric), difference.spread(metric), study.seeds),
            _interval(difference.intervals.get(metric)),
        ]
    return found


def _better(one: Method, other: Method, metric: str) -> bool:
    return best([other, one], metric) is one


def _spread(mean: float, spread: float, seeds: int) -> str:
    return cell(mean) + (f" ± {cell(round(spread, 9))}" if seeds > 1 else "")


def _interval(found: Interval, form: str = "{}") -> str:
    return "" if found is None else form.format(f"{cell(found[0])} to {cell(found[1])}")
