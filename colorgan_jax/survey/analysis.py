"""Analyzes the survey's ratings: numbers, a text, a plot and a table."""

import csv
import io
import math
import os
import textwrap
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # Without pyplot, which would choose a backend.
from scipy import stats

from colorgan_jax.errors import SurveyError
from colorgan_jax.paths import replace_file
from colorgan_jax.survey.database import Ratings
from colorgan_jax.survey.statistics import (
    HIGHEST,
    LOWEST,
    Test,
    cohens_d,
    compare_means,
    describe,
    grim,
    measure_effects,
    run_tests,
    welch_test,
)

_WIDTH = 80  # Of a report, in columns.

# With fewer raters or photos of a kind, the tests rest on what they assume more than on
# what was rated.
_ENOUGH = 5

# Okabe and Ito's blue and vermilion: distinct also to the color-blind.
_COLORS = {"real": "#0072B2", "generated": "#D55E00"}


def analyze(ratings: Ratings) -> dict[str, Any]:
    """Compares the ratings of real and of generated photos.

    Args:
      ratings: of the raters who finished.

    Returns:
      What `format_report` prints, all of it fit for JSON. What cannot be computed, for
      want of raters, photos or variation, is None:
        "raters", "unfinished": numbers of people;
        "real", "generated": as `statistics.describe`;
        "photos": of each, "name", "kind", "mean" and "standard_deviation";
        "difference": as `statistics.compare_means`;
        "tests": as `statistics.run_tests`;
        "effect_sizes": as `statistics.measure_effects`;
        "conclusion": one sentence in plain words, from the interval of "difference";
        "cautions": further sentences.

    Raises:
      SurveyError: there are no photos of one kind.
    """
    real, generated = _split(ratings)
    photos = zip(ratings.names, _kinds(ratings), ratings.ratings.T, strict=True)
    result = {
        "raters": len(ratings.ratings),
        "unfinished": ratings.unfinished,
        "real": describe(real),
        "generated": describe(generated),
        "photos": [_describe_photo(*photo) for photo in photos],
        "difference": compare_means(real, generated),
        "tests": run_tests(real, generated),
        "effect_sizes": measure_effects(real, generated),
    }
    words = {"conclusion": _conclude(result), "cautions": _find_cautions(result)}
    return {**result, **words}


def analyze_summary(
    mean_1: str, sd_1: str, n_1: str, mean_2: str, sd_2: str, n_2: str
) -> dict[str, Any]:
    """Tests a difference of which only means and standard deviations are known.

    Args:
      mean_1: mean rating of the real photos, as printed: its digits count.
      sd_1: the standard deviation.
      n_1: the number of ratings, or of raters where the figures are of their means.
      mean_2: as `mean_1`, of the generated photos.
      sd_2: as `sd_1`, of the generated photos.
      n_2: as `n_1`, of the generated photos.

    Returns:
      What `format_summary_report` prints, all of it fit for JSON. What cannot be
      computed, for want of variation, is None:
        "real", "generated": "mean" and "standard_deviation" (as given), "n", and
          "grim": as `statistics.grim`;
        "welch": Welch's t-test, as one of `statistics.run_tests`;
        "cohens_d";
        "undivided": "z", the difference over the root of the sum of both variances, not
          divided by n, and "p", one-tailed. This is no test, but the arithmetic behind
          the report's 0.19.

    Raises:
      SurveyError: a figure is no number, or none that ratings from 1 to 5 can have.
    """
    real, sample_1 = _read_summary("real", mean_1, sd_1, n_1)
    generated, sample_2 = _read_summary("generated", mean_2, sd_2, n_2)
    spread = math.hypot(sample_1[1], sample_2[1])
    z = (sample_1[0] - sample_2[0]) / spread if spread else None
    return {
        "real": real,
        "generated": generated,
        "welch": welch_test("Welch's t", "Are the means equal?", *sample_1, *sample_2),
        "cohens_d": cohens_d(*sample_1, *sample_2),
        "undivided": {"z": z, "p": None if z is None else float(stats.norm.sf(z))},
    }


def format_report(result: dict[str, Any]) -> str:
    """Writes the result of `analyze` as a text of 80 columns."""
    words = [*_wrap(result["conclusion"]), *_wrap(" ".join(result["cautions"]))]
    if not result["raters"]:
        return "\n".join(words)

    difference, effects = result["difference"], result["effect_sizes"]
    wins = 100 * effects["common_language"]
    people = _count(result["raters"], "rater")
    photos = [_count(result[kind]["photos"], f"{kind} photo") for kind in _COLORS]
    lines = [
        f"{people} rated {' and '.join(photos)} from {LOWEST} to {HIGHEST}.",
        "",
        "Table 1. All ratings",
        *_format_table_1(result),
        "",
        *words,
        "",
        f"Difference of the means (real - generated): {difference['mean']:.2f} points",
        "  95% interval for other raters and photos (min F'):      "
        + _format_interval(difference["interval"]),
        "  by a bootstrap over both (too narrow with few photos):  "
        + _format_interval(difference["bootstrap_interval"]),
        "",
        _format_test_header("Tests"),
    ]
    for test in result["tests"]:
        lines += [_format_test(test), f"    {test['question']}"]
    lines += [
        "",
        "Effect sizes",
        f"  Cohen's d, all ratings:                {_format(effects['cohens_d'])}",
        f"  d_z, differences of rater means:       {_format(effects['d_z'])}",
        f"  rank-biserial correlation:             {_format(effects['rank_biserial'])}",
        f"  pairs where the real photo wins:       {_format(wins, 0)}% (ties: half)",
        "",
        "Photos, the best rated first",
        f"{'mean':>8}{'sd':>8}  kind       name",
    ]
    for photo in sorted(result["photos"], key=lambda photo: -photo["mean"]):
        deviation = _format(photo["standard_deviation"], 4)
        line = (
            f"{photo['mean']:8.4f}{deviation:>8}  {photo['kind']:<9}  {photo['name']}"
        )
        lines.append(line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "...")
    return "\n".join(lines)


def format_summary_report(result: dict[str, Any]) -> str:
    """Writes the result of `analyze_summary` as a text of 80 columns."""
    real, generated = result["real"], result["generated"]
    undivided = result["undivided"]
    lines = [
        "Table 1, as given",
        *_format_table_1(result),
        "",
        _format_test_header("Test"),
        _format_test(result["welch"]),
        f"  Cohen's d: {_format(result['cohens_d'])}",
        "",
    ]
    if undivided["z"] is not None:
        formula = (
            f"z = ({real['mean']} - {generated['mean']}) /"
            f" sqrt({real['standard_deviation']}^2 +"
            f" {generated['standard_deviation']}^2) = {undivided['z']:.2f}"
        )
        lines += [
            f"Without dividing the variances by n: {_format_p(undivided['p'])}",
            f"  {formula}",
            *_wrap(
                "This is not a test of the means: it stays the same however many people"
                " are asked. If ratings were normally distributed, it would be the"
                " probability that a generated photo is rated above a real one. For the"
                " report's Table 1 it gives 0.19, which the report calls the p of a"
                " t-test."
            ),
            "",
        ]
    lines += [
        "GRIM test: if n counts single ratings, can whole numbers have this mean?",
        f"  real       {_format_grim(real)}",
        f"  generated  {_format_grim(generated)}",
    ]
    return "\n".join(lines)


def save_ratings_plot(path: str | os.PathLike, ratings: Ratings) -> None:
    """Draws how often each rating was given, and the mean of every photo.

    Args:
      path: of the PNG to write.
      ratings: of at least one rater.

    Raises:
      SurveyError: there are no raters, or no photos of one kind.
    """
    result = analyze(ratings)
    if not result["raters"]:
        raise SurveyError("Nobody has rated all photos yet: there is nothing to plot.")
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    shares, means = figure.subplots(1, 2, width_ratios=(3, 2))
    scale = np.arange(LOWEST, HIGHEST + 1)
    for number, (kind, values) in enumerate(zip(_COLORS, _split(ratings), strict=True)):
        color, described = _COLORS[kind], result[kind]
        bars = shares.bar(
            scale + (0.4 * number - 0.2),
            [100 * np.mean(values == rating) for rating in scale],
            width=0.4,
            color=color,
            label=f"{kind} ({_count(values.size, 'rating')})",
        )
        shares.bar_label(bars, fmt="{:.0f}", padding=2)

        left, right = number - 0.38, number + 0.38
        if described["interval"]:
            band = {"color": color, "alpha": 0.2, "linewidth": 0}
            means.fill_between([left, right], *described["interval"], **band)
        means.hlines(described["mean"], left, right, color=color, linewidth=2)
        photos = np.sort(values.mean(axis=0))
        places = np.linspace(left, right, 2 * len(photos) + 1)[1::2]
        means.plot(places, photos, "o", color=color)
        means.annotate(
            f"{described['mean']:.2f}",
            (right, described["mean"]),
            xytext=(4, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=color,
        )
    shares.set(
        title=f"How often {_count(result['raters'], 'rater')} gave each rating",
        xlabel="rating",
        ylabel="% of the ratings",
        xticks=scale,
    )
    shares.margins(y=0.2)  # Room for the legend.
    shares.legend(loc="upper left", ncols=2)
    bands = "\nbands: 95% intervals for other raters and photos"
    has_bands = result["real"]["interval"] or result["generated"]["interval"]
    means.set(
        title="Means of all ratings (lines) and of each photo (dots)",
        xlabel=f"kind of photo{bands if has_bands else ''}",
        ylabel="mean rating",
        xticks=(0, 1),
        xticklabels=_COLORS,
        xlim=(-0.5, 1.7),
        yticks=scale,
        ylim=(LOWEST - 0.2, HIGHEST + 0.2),
    )
    for axis in (shares, means):
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    figure.suptitle("\n".join(textwrap.wrap(result["conclusion"], 140)))
    figure.savefig(path, dpi=110)


def write_ratings_csv(path: str | os.PathLike, ratings: Ratings) -> None:
    """Writes a line for each rating: rater (a number from 1), photo, kind, rating.

    Raises:
      OSError: the file cannot be written.
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow(["rater", "photo", "kind", "rating"])
    for rater, row in enumerate(ratings.ratings, start=1):
        for photo in zip(ratings.names, _kinds(ratings), row, strict=True):
            writer.writerow([rater, *photo])
    replace_file(path, lines.getvalue().encode())


def _split(ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
    """The ratings of the real and of the generated photos, [raters, photos] each."""
    real = ratings.ratings[:, ratings.is_real]
    generated = ratings.ratings[:, ~ratings.is_real]
    for kind, values in (("real", real), ("generated", generated)):
        if not values.shape[1]:
            raise SurveyError(
                f"The survey has no {kind} photos: there is nothing to compare."
            )
    return real, generated


def _kinds(ratings: Ratings) -> list[str]:
    return ["real" if is_real else "generated" for is_real in ratings.is_real]


def _describe_photo(name: str, kind: str, values: np.ndarray) -> dict[str, Any]:
    described = describe(values[:, np.newaxis])
    mean, deviation = described["mean"], described["standard_deviation"]
    return {"name": name, "kind": kind, "mean": mean, "standard_deviation": deviation}


def _conclude(result: dict[str, Any]) -> str:
    raters, difference = result["raters"], result["difference"]
    photos = [result[kind]["photos"] for kind in _COLORS]
    if not raters:
        return "Nobody has rated all photos yet: there is nothing to compare."

    found = "rated the generated photos like the real ones on average"
    if difference["mean"]:
        found = (
            f"rated the generated photos {abs(difference['mean']):.2f} points"
            f" {'lower' if difference['mean'] > 0 else 'higher'} than the real ones"
        )
    if raters == 1:
        return (
            f"The only rater {found}: it takes 2 or more raters to say anything about"
            " other people."
        )
    if min(photos) < 2:
        return (
            f"The {raters} raters {found}: it takes 2 or more photos of each kind to"
            " say anything about other photos."
        )
    if difference["interval"] is None:
        return (
            f"The {raters} raters {found}: their ratings vary too little to say"
            " anything about other people and photos."
        )

    low, high = difference["interval"]
    if low > 0:
        return (
            f"People {found} (95% interval {low:.2f} to {high:.2f}): they can tell them"
            " apart."
        )
    if high < 0:
        return (
            f"People {found} (95% interval {-high:.2f} to {-low:.2f}): they can tell"
            " them apart, and prefer the generated ones."
        )
    missed = "any difference could be missed"
    if difference["detectable"] < HIGHEST - LOWEST:
        missed = (
            f"a difference below {difference['detectable']:.1f} points would often be"
            " missed"
        )
    return (
        f"People {found} (95% interval {-low:.2f} higher to {high:.2f} lower): no"
        f" difference was found; with {raters} raters and {photos[0]} + {photos[1]}"
        f" photos, {missed}."
    )


def _find_cautions(result: dict[str, Any]) -> list[str]:
    cautions = []
    counts = {
        "rater": result["raters"],
        **{f"{kind} photo": result[kind]["photos"] for kind in _COLORS},
    }
    few = [_count(count, name) for name, count in counts.items() if count < _ENOUGH]
    if few and result["difference"]["interval"]:
        cautions.append(
            f"{' and '.join(few)} are few: the tests rest on the assumption of normal"
            " distributions."
        )
    if result["unfinished"]:
        cautions.append(
            f"Left out: raters who have not finished ({result['unfinished']})."
        )
    return cautions


def _read_summary(
    kind: str, mean: str, sd: str, n: str
) -> tuple[dict[str, Any], tuple[float, float, int]]:
    """Figures as given -> their part of the result, and (mean, deviation, n)."""
    exact_mean = _read_figure(f"mean of the {kind} photos", mean, LOWEST, HIGHEST)
    # Two ratings, 1 and 5, have the largest deviation: 2.83.
    deviation = _read_figure(f"standard deviation of the {kind} photos", sd, 0, 3)
    count = _read_figure(f"number of ratings of the {kind} photos", n, 2, 10**6)
    if count % 1:
        raise SurveyError(
            f"The number of ratings of the {kind} photos, {n}, is not a whole number."
        )
    count = int(count)
    part = {
        "mean": mean,
        "standard_deviation": sd,
        "n": count,
        "grim": grim(exact_mean, count),
    }
    return part, (float(exact_mean), float(deviation), count)


def _read_figure(name: str, text: str, lowest: int, highest: int) -> Decimal:
    try:
        figure = Decimal(text)
    except InvalidOperation:
        figure = Decimal("nan")
    if not figure.is_finite():
        raise SurveyError(f"The {name}, {text!r}, is not a number.")
    if not lowest <= figure <= highest:
        raise SurveyError(
            f"The {name}, {text}, is not between {lowest} and {highest}: ratings go"
            f" from {LOWEST} to {HIGHEST}; give mean, standard deviation and number of"
            " ratings, first of the real photos."
        )
    return figure


def _format(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _format_table_1(result: dict[str, Any]) -> list[str]:
    """Table 1 of the report; figures that were given as text stay as they are."""
    lines = [f"{'':<11}{'mean':>8}{'standard deviation':>21}{'n':>9}"]
    for kind in _COLORS:
        mean, deviation = (
            value if isinstance(value, str) else _format(value, 4)
            for value in (result[kind]["mean"], result[kind]["standard_deviation"])
        )
        lines.append(f"  {kind:<9}{mean:>8}{deviation:>21}{result[kind]['n']:>9}")
    return lines


def _format_test_header(title: str) -> str:
    title = f"{title} (one-tailed: real > generated)"
    return f"{title:<38}{'statistic':<18}{'one-tailed':<12}two-tailed"


def _format_test(test: Test) -> str:
    name = f"  {test['name']:<36}"
    one_tailed, two_tailed = test["p_one_tailed"], test["p_two_tailed"]
    if one_tailed is None or two_tailed is None:
        return f"{name}not computed: {test['missing']}"
    if test["degrees_of_freedom"] is None:
        statistic = f"{test['symbol']} = {test['value']:.10g}"
    else:
        degrees = f"{test['degrees_of_freedom']:.1f}".removesuffix(".0")
        statistic = f"{test['symbol']}({degrees}) = {test['value']:.2f}"
    return f"{name}{statistic:<18}{_format_p(one_tailed):<12}{_format_p(two_tailed)}"


def _format_p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def _format_interval(interval: list[float] | None) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "not computed"


def _format_grim(part: dict[str, Any]) -> str:
    mean, n, total = part["mean"], part["n"], part["grim"]["sum"]
    if part["grim"]["possible"] is None:
        return (
            f"no answer: with n = {n}, any mean with the digits of {mean} is possible"
        )
    if part["grim"]["possible"]:
        return f"yes: {total} / {n} = {mean}"
    digits = len(mean.partition(".")[2])
    return f"no: the nearest is {total} / {n} = {total / n:.{digits}f}, not {mean}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)
