"""Tables, page and files of a study."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from maekit.report.content import Page, Picture, Table, cell
from maekit.studies.figures import curves

if TYPE_CHECKING:
    from maekit.studies.results import Difference, Interval, Method, PointResult, Study

AGREEMENT = "limits of agreement"
PROBED, RANDOM = "pretrained, linear probe", "random weights, linear probe"


def terminal_tables(study: Study) -> list[Table]:
    """What is printed, of few columns: of a single point all tables; of a grid the main metrics of each method; of a sweep its probes."""
    if study.kind == "sweep":
        return [_short(study, sweep_table(study))]
    if len(study.points) == 1:
        return [_short(study, table) for table in point_tables(study, study.points[0])]
    return [_overview(study, metric) for metric in study.main_metrics]


def point_tables(study: Study, point: PointResult) -> list[Table]:
    """All methods of one point, what pretraining bought, the oracles, and the uncertainty that models state."""
    where = f", {point.title}" if point.values else ""
    methods = point.of("trained", "linear", "no learning")
    tables = [
        _methods(
            study, f"{study.recipe}{where}: groups not seen in training", methods, _counted(study, point), mark=True
        )
    ]
    if point.differences:
        rows = [[f"{d.one} − {d.other}", *_pair(study, d)] for d in point.differences]
        columns = ["", *(_head(study, metric, part) for metric in _main(study) for part in ("", " 95 %"))]
        tables.append(
            Table(
                f"What pretraining bought{where}",
                columns,
                rows,
                "Paired by seed and by resampled groups: an "
                "interval that excludes zero is a difference to expect in other groups of this kind too.",
            )
        )
    if oracles := point.of("oracle"):
        tables.append(
            _methods(
                study,
                f"Oracles, which use the label and are not methods{where}",
                oracles,
                "The candidate closest to the label. Labels permuted: the candidate closest to the label of another sample, as a measure of chance.",
            )
        )
    stating = [method for method in methods if all("covered" in row for row in method.per_seed)]
    if stating:
        rows = [
            [method.name, *map(cell, (method.mean("covered"), method.mean("mae"), method.mean("sure_half_mae")))]
            for method in stating
        ]
        tables.append(
            Table(
                f"Stated uncertainty{where}",
                ["", "labels within 1.96 SD", _head(study, "mae"), _head(study, "mae", " of the more certain half")],
                rows,
                "If the stated standard deviation is right, 0.95 of the labels lie within 1.96 SD.",
            )
        )
    return tables


def sweep_table(study: Study) -> Table:
    """The probe at each point, and beside it what does not depend on pretraining, at the chosen point."""
    probes = [replace(probe, name=point.title) for point in study.points if (probe := point.method(PROBED)) is not None]
    others = [
        method
        for method in study.points[study.chosen].of("linear", "no learning")
        if not method.name.startswith("pretrained")
    ]
    table = _methods(
        study,
        f"{study.recipe}: linear probe of the pretrained encoder, groups not seen in training",
        probes,
        f"Below the points: methods that do not depend on pretraining. {_counted(study, study.points[study.chosen])}",
        mark=True,
    )
    return replace(table, rows=table.rows + _methods(study, "", others, "").rows)


def group_table(study: Study, point: PointResult) -> Table:
    """The main metric of each method in each held-out group."""
    metric = study.metrics[0]
    methods = point.of("trained", "linear", "no learning", "oracle")
    names = list(methods[0].groups)
    rows = [[method.name, *(method.groups[name][metric] for name in names)] for method in methods]
    marks = set()
    for column, name in enumerate(names, start=1):
        values = [method.groups[name][metric] if method.kind != "oracle" else None for method in methods]
        numbers = [value for value in values if value is not None]
        marks.add((values.index(min(numbers) if metric in study.lower_is_better else max(numbers)), column))
    title = f"{_head(study, metric)} of each group{', ' + point.title if point.values else ''}"
    return Table(
        title, ["", *names], rows, "Averaged over seeds; the best method of each group is marked.", frozenset(marks)
    )


def content(study: Study, pictures: list[Picture], recipe: str, environment: dict[str, str]) -> Page:
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
    return Page(
        f"{study.recipe}: {study.kind}",
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
    """Sum up a study in a few sentences, and judge whether learning paid.

    For a sweep: where the probe is best. Otherwise, at the chosen point: the best method, what pretraining bought, and whether
    anything that learns beats what does not.

    Returns:
        The text, and the judgement.
    """
    point, metric = study.points[study.chosen], study.metrics[0]
    if study.kind == "sweep":
        probes = {p.title: probe for p in study.points if (probe := p.method(PROBED)) is not None}
        first = study.best(list(probes.values()), metric)
        title = next(title for title, probe in probes.items() if probe is first)
        random = next((p.method(RANDOM) for p in study.points if p.method(PROBED) is first), None)
        good = random is not None and _better(study, first, random, metric)
        text = f"The linear probe is best at {title}, with {metric} {_spread(first.mean(metric), first.spread(metric), study.seeds)}"
        if random is not None:
            text += f" ({cell(random.mean(metric))} with random weights)"
        worst = max(abs(probe.mean(metric) - first.mean(metric)) for probe in probes.values())
        return " ".join([f"{text}; the points lie within {cell(worst)} of it.", *study.notes]), good
    at = f"At {point.title}: " if point.values else ""
    methods = point.of("trained", "linear", "no learning")
    first = study.best(methods, metric)
    unit = f" {study.units[metric]}" if study.units.get(metric) else ""
    text = f"{at}{first.name} is best, with {metric} {cell(first.mean(metric))}{unit}{_interval(first.intervals.get(metric), ' (95 %: {})')}."
    for difference in point.differences[:1]:
        mean, spread = difference.mean(metric), difference.spread(metric)
        sure = difference.intervals.get(metric)
        clear = abs(mean) > spread and sure is not None and sure[0] * sure[1] > 0
        better = (mean < 0) == (metric in study.lower_is_better)
        verb = "gains" if better else "loses"
        text += (
            f" Pretraining {verb} {cell(abs(mean))}{unit} against random weights ({difference.one.split(', ')[-1]}), "
            + (
                "more than the variation between seeds and groups."
                if clear
                else "within the variation between seeds and groups."
            )
        )
    learned, without_learning = point.of("trained", "linear"), point.of("no learning")
    main = _main(study)
    good = any(all(_better(study, method, study.best(without_learning, m), m) for m in main) for method in learned)
    text += (
        " At least one trained method beats all methods without training on "
        if good
        else " No trained method beats all methods without training on "
    )
    text += f"{' and '.join(main)}{' at once' if len(main) > 1 else ''}."
    return " ".join([text, *study.notes]), good


def as_json(study: Study) -> str:
    """Everything but predictions, which are in the results of jobs."""
    return json.dumps(asdict(study), indent=1)


def as_csv(study: Study) -> str:
    """One line for each point, method and group; without a group over all, with spread and interval."""
    keys = list(study.points[0].values)
    columns = [*keys, "method", "kind", "group"]
    for metric in study.metrics:
        columns += [metric, f"{metric}_sd", f"{metric}_low", f"{metric}_high"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for point in study.points:
        for method in point.methods:
            start = {**point.values, "method": method.name, "kind": method.kind}
            whole: dict[str, Any] = {}
            for metric in study.metrics:
                low, high = method.intervals.get(metric) or ("", "")
                whole |= {
                    metric: method.mean(metric),
                    f"{metric}_sd": method.spread(metric),
                    f"{metric}_low": low,
                    f"{metric}_high": high,
                }
            writer.writerow({**start, "group": "", **whole})
            for group, values in method.groups.items():
                writer.writerow({**start, "group": group, **{metric: values[metric] for metric in study.metrics}})
    return text.getvalue()


def _counted(study: Study, point: PointResult) -> str:
    groups = len(point.methods[0].groups)
    return (
        f"{point.samples:,} held-out samples, {groups} group(s), {study.folds} fold(s), {study.seeds} seed(s): mean ± standard "
        "deviation over seeds"
        + ("; 95 % intervals by resampling groups" if groups > 1 else "")
        + (f"; within: {study.titles['within'].lower()}" if "within" in study.titles else "")
        + "."
    )


def _short(study: Study, table: Table) -> Table:
    """A table of methods with the main metrics alone, and the interval of the first; another table as it is."""
    main = _main(study)
    heads = ["", *(_head(study, metric) for metric in (*main, "r")), _head(study, main[0], " 95 %")]
    columns = [i for i, name in enumerate(table.columns) if name in heads]
    if table.columns[-1:] != [AGREEMENT]:
        return table
    rows = [[row[i] for i in columns] for row in table.rows]
    marks = frozenset((row, columns.index(column)) for row, column in table.best if column in columns)
    return replace(table, columns=[table.columns[i] for i in columns], rows=rows, best=marks)


def _main(study: Study) -> list[str]:
    return study.main_metrics


def _head(study: Study, metric: str, part: str = "") -> str:
    """Heading of a metric's column, with the unit where it has one."""
    unit = study.units.get(metric)
    return f"{metric}{part} [{unit}]" if unit else f"{metric}{part}"


def _methods(study: Study, title: str, methods: list[Method], note: str, *, mark: bool = False) -> Table:
    shown = [metric for metric in study.metrics if metric not in ("lower", "upper")]
    columns, rows = [""], [[method.name] for method in methods]
    marks = set()
    for metric in shown:
        if mark and metric != "bias":
            marks.add((methods.index(study.best(methods, metric)), len(columns)))
        columns.append(_head(study, metric))
        for method, row in zip(methods, rows, strict=True):
            row.append(_spread(method.mean(metric), method.spread(metric), study.seeds))
        if metric in study.main_metrics and any(
            method.intervals.get(metric) for method in methods
        ):  # one group has none
            columns.append(_head(study, metric, " 95 %"))
            for method, row in zip(methods, rows, strict=True):
                row.append(_interval(method.intervals.get(metric)))
    if "lower" in study.metrics:
        columns.append(AGREEMENT)
        for method, row in zip(methods, rows, strict=True):
            row.append(f"{cell(method.mean('lower'))} to {cell(method.mean('upper'))}")
    return Table(title, columns, rows, note, frozenset(marks))


def _overview(study: Study, metric: str) -> Table:
    names = [
        method.name for method in study.points[0].methods if all(point.method(method.name) for point in study.points)
    ]
    rows, marks = [[name] for name in names], set()
    for column, point in enumerate(study.points, start=1):
        methods = [method for name in names if (method := point.method(name)) is not None]
        marks.add(
            (methods.index(study.best([method for method in methods if method.kind != "oracle"], metric)), column)
        )
        for row, method in zip(rows, methods, strict=True):
            row.append(_spread(method.mean(metric), method.spread(metric), study.seeds))
    return Table(
        f"{study.recipe}: {_head(study, metric)}",
        ["", *(point.title for point in study.points)],
        rows,
        f"Mean over {study.seeds} seed(s) ± standard deviation; the best method of each column is marked.",
        frozenset(marks),
    )


def _pair(study: Study, difference: Difference) -> list[str]:
    cells = []
    for metric in _main(study):
        cells += [
            _spread(difference.mean(metric), difference.spread(metric), study.seeds),
            _interval(difference.intervals.get(metric)),
        ]
    return cells


def _better(study: Study, method: Method, baseline: Method, metric: str) -> bool:
    return study.best([baseline, method], metric) is method


def _spread(mean: float, spread: float, seeds: int) -> str:
    return cell(mean) + (f" ± {cell(round(spread, 9))}" if seeds > 1 else "")


def _interval(interval: Interval, form: str = "{}") -> str:
    return "" if interval is None else form.format(f"{cell(interval[0])} to {cell(interval[1])}")
