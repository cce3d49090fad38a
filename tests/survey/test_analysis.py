"""The survey's statistics against hand arithmetic, formulas and simulated surveys."""

import csv
import itertools
import json
import warnings
from decimal import Decimal

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from PIL import Image
from scipy import stats

from colorgan_jax.errors import SurveyError
from colorgan_jax.survey.analysis import (
    analyze,
    analyze_summary,
    format_report,
    format_summary_report,
    save_ratings_plot,
    write_ratings_csv,
)
from colorgan_jax.survey.database import Ratings
from colorgan_jax.survey.statistics import compare_means, grim

TABLE_1 = {"mean_1": "4.4706", "sd_1": "0.7001", "mean_2": "3.1667", "sd_2": "1.2837"}


def survey_of(real, generated, unfinished=0):
    """A survey in whose table real and generated photos alternate, as far as they go."""
    real, generated = np.asarray(real), np.asarray(generated)
    count, other_count = real.shape[1], generated.shape[1]
    order = np.argsort([*range(count), *range(other_count)], kind="stable")
    return Ratings(
        ratings=np.hstack([real, generated])[:, order],
        is_real=order < count,
        names=[f"{'real' if i < count else 'generated'}/{i}.jpg" for i in order],
        unfinished=unfinished,
    )


def simulate(difference, *, seed, raters=17, photos=5, photo_spread=0.5):
    """Raters and photos with tastes and qualities of their own; whole ratings."""
    random = np.random.default_rng(seed)
    rater = random.normal(0, 0.5, (raters, 1))
    kinds = []
    for mean in (3 + difference / 2, 3 - difference / 2):
        photo = random.normal(0, photo_spread, (1, photos))
        noise = random.normal(0, 0.8, (raters, photos))
        kinds.append(np.clip(np.rint(mean + rater + photo + noise), 1, 5).astype(int))
    return kinds


def by_name(result):
    return {test["name"]: test for test in result["tests"]}


def test_table_1_and_photos_by_hand():
    result = analyze(survey_of([[5, 4], [3, 4]], [[1, 2, 3], [1, 1, 4]], unfinished=2))
    assert (result["raters"], result["unfinished"]) == (2, 2)
    real, generated = result["real"], result["generated"]
    assert (real["photos"], real["n"], real["mean"]) == (2, 4, 4)
    np.testing.assert_allclose(real["standard_deviation"], (2 / 3) ** 0.5)
    assert (generated["photos"], generated["n"], generated["mean"]) == (3, 6, 2)
    np.testing.assert_allclose(generated["standard_deviation"], (8 / 5) ** 0.5)
    assert result["difference"]["mean"] == 2
    photos = {photo["name"]: photo for photo in result["photos"]}
    assert photos["real/0.jpg"] == {
        "name": "real/0.jpg",
        "kind": "real",
        "mean": 4,
        "standard_deviation": pytest.approx(2**0.5),
    }
    assert photos["generated/4.jpg"]["kind"] == "generated"
    assert photos["generated/4.jpg"]["mean"] == 3.5


def test_t_statistics_follow_their_formulas():
    real, generated = simulate(0.6, seed=1)
    tests = by_name(analyze(survey_of(real, generated)))
    differences = real.mean(axis=1) - generated.mean(axis=1)

    paired = tests["Paired t, rater means"]
    t = differences.mean() / (differences.std(ddof=1) / 17**0.5)
    np.testing.assert_allclose(paired["value"], t)
    assert paired["degrees_of_freedom"] == 16
    np.testing.assert_allclose(paired["p_one_tailed"], stats.t.sf(t, 16))
    np.testing.assert_allclose(paired["p_two_tailed"], 2 * stats.t.sf(t, 16))

    for name, samples in (
        ("Welch's t, rater means", (real.mean(axis=1), generated.mean(axis=1))),
        ("Welch's t, all ratings", (real.ravel(), generated.ravel())),
    ):
        one, two = (sample.var(ddof=1) / sample.size for sample in samples)
        t = (samples[0].mean() - samples[1].mean()) / (one + two) ** 0.5
        np.testing.assert_allclose(tests[name]["value"], t)
        expected = stats.ttest_ind(*samples, equal_var=False)
        np.testing.assert_allclose(tests[name]["degrees_of_freedom"], expected.df)
        np.testing.assert_allclose(tests[name]["p_two_tailed"], expected.pvalue)
        np.testing.assert_allclose(tests[name]["p_one_tailed"], expected.pvalue / 2)


def test_min_f_is_clarks():
    real, generated = simulate(0.6, seed=2)
    result = analyze(survey_of(real, generated))
    test = by_name(result)["Raters and photos at once (min F')"]
    raters = stats.ttest_rel(real.mean(axis=1), generated.mean(axis=1))
    photos = stats.ttest_ind(real.mean(axis=0), generated.mean(axis=0), equal_var=False)
    f_1, f_2 = raters.statistic**2, photos.statistic**2
    degrees = (f_1 + f_2) ** 2 / (f_1**2 / photos.df + f_2**2 / raters.df)
    np.testing.assert_allclose(test["value"] ** 2, f_1 * f_2 / (f_1 + f_2))
    np.testing.assert_allclose(test["degrees_of_freedom"], degrees)
    p = stats.f.sf(f_1 * f_2 / (f_1 + f_2), 1, degrees)
    np.testing.assert_allclose(test["p_two_tailed"], p)
    np.testing.assert_allclose(test["p_one_tailed"], p / 2)

    # The interval is the same test turned around: at its lower end, p is 2.5 %.
    difference = result["difference"]
    low, high = difference["interval"]
    np.testing.assert_allclose((low + high) / 2, difference["mean"])
    error = difference["mean"] / test["value"]
    np.testing.assert_allclose(
        stats.t.sf((difference["mean"] - low) / error, degrees), 0.025
    )
    # Bloom's approximation, against the exact power of the test.
    critical = stats.t.ppf(0.975, degrees)
    power = stats.nct.sf(critical, degrees, difference["detectable"] / error)
    np.testing.assert_allclose(power, 0.8, atol=0.01)


def test_rank_tests_count_pairs_and_signs():
    real = [[5, 4], [4, 4], [3, 5], [5, 5], [2, 4], [4, 3]]
    generated = [[3, 3], [3, 4], [4, 5], [1, 2], [2, 3], [3, 1]]
    result = analyze(survey_of(real, generated))
    tests = by_name(result)
    wins = [
        (a > b) + 0.5 * (a == b)
        for a, b in itertools.product(np.ravel(real), np.ravel(generated))
    ]
    assert tests["Mann-Whitney U, all ratings"]["value"] == sum(wins)
    effects = result["effect_sizes"]
    np.testing.assert_allclose(effects["common_language"], np.mean(wins))
    np.testing.assert_allclose(effects["rank_biserial"], 2 * np.mean(wins) - 1)

    # Rater differences 1.5, 0.5, -0.5, 3.5, 0.5 and 1.5: every choice of signs.
    ranks = np.array([4.5, 2, 2, 6, 2, 4.5])
    signs = np.array(list(itertools.product([0, 1], repeat=6)))
    wilcoxon = tests["Wilcoxon signed-rank, rater means"]
    assert wilcoxon["value"] == 19
    np.testing.assert_allclose(wilcoxon["p_one_tailed"], np.mean(signs @ ranks >= 19))
    np.testing.assert_allclose(
        wilcoxon["p_two_tailed"], 2 * np.mean(signs @ ranks >= 19)
    )


def test_rounding_makes_no_difference():
    """6/5 - 5/5 and 8/5 - 7/5 differ in their last bits; their ranks must not."""
    real = [[1, 1, 1, 1, 2], [2, 2, 2, 1, 1], [1, 1, 1, 2, 2]]
    generated = [[1, 1, 1, 1, 1], [2, 2, 1, 1, 1], [2, 2, 2, 1, 1]]
    tests = by_name(analyze(survey_of(real, generated)))
    assert tests["Wilcoxon signed-rank, rater means"]["value"] == 4
    tests = by_name(analyze(survey_of(real[:2], generated[:2])))
    assert tests["Paired t, rater means"]["missing"] == "the same for all raters"

    # Seven times 5/3 has a standard deviation of 2e-16 in floats.
    tests = by_name(analyze(survey_of([[1, 2, 2]] * 7, [[2, 3, 3]] * 7)))
    assert tests["Welch's t, rater means"]["missing"] == "no variation"


def test_paired_t_agrees_with_a_permutation_of_signs():
    real, generated = simulate(0.1, seed=7, raters=60)
    paired = by_name(analyze(survey_of(real, generated)))["Paired t, rater means"]
    # Whole numbers, so that ties are equal; they count half, as t has none.
    differences = real.sum(axis=1) - generated.sum(axis=1)
    signs = np.random.default_rng(0).choice([-1, 1], (50_000, 60))
    sums, observed = signs @ differences, differences.sum()
    p = np.mean(sums > observed) + np.mean(sums == observed) / 2
    np.testing.assert_allclose(paired["p_one_tailed"], p, rtol=0.1)


def test_effect_sizes_by_formula():
    real, generated = simulate(0.6, seed=4)
    effects = analyze(survey_of(real, generated))["effect_sizes"]
    # With groups of one size, the pooled variance is the mean of both.
    pooled = (real.var(ddof=1) / 2 + generated.var(ddof=1) / 2) ** 0.5
    np.testing.assert_allclose(
        effects["cohens_d"], (real.mean() - generated.mean()) / pooled
    )
    differences = real.mean(axis=1) - generated.mean(axis=1)
    np.testing.assert_allclose(
        effects["d_z"], differences.mean() / differences.std(ddof=1)
    )


def test_bootstrap_draws_raters_and_photos():
    real, generated = simulate(0.6, seed=5, photo_spread=1)
    interval = analyze(survey_of(real, generated))["difference"]["bootstrap_interval"]
    random = np.random.default_rng(1)
    means = []
    for _ in range(10_000):
        raters = random.integers(17, size=17)
        photos, others = random.integers(5, size=(2, 5))
        means.append(
            real[raters][:, photos].mean() - generated[raters][:, others].mean()
        )
    np.testing.assert_allclose(interval, np.quantile(means, [0.025, 0.975]), atol=0.05)

    single = stats.bootstrap(
        (real.ravel(), generated.ravel()),
        lambda one, two, axis: one.mean(axis) - two.mean(axis),
        n_resamples=1000,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert np.diff(interval) > 2 * (single.high - single.low)


def test_other_photos_rarely_give_a_false_alarm():
    """Where photos differ but not their kinds, 5 + 5 photos seldom mislead."""
    alarms, paired_alarms = 0, 0
    for seed in range(100):
        real, generated = simulate(0, seed=seed, photo_spread=1)
        result = analyze(survey_of(real, generated))
        low, high = result["difference"]["interval"]
        alarms += not low <= 0 <= high
        paired = by_name(result)["Paired t, rater means"]
        paired_alarms += paired["p_two_tailed"] < 0.05
    assert alarms <= 10  # 5 are to be expected.
    assert paired_alarms >= 30  # What the interval is for.


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (1.3, ["points lower than the real ones (95%", "they can tell them apart."]),
        (
            -1.3,
            ["points higher than the real ones (95%", "prefer the generated ones."],
        ),
        (
            0,
            ["no difference was found", "photos, a difference below"],
        ),
    ],
)
def test_the_conclusion_in_words(difference, words):
    result = analyze(survey_of(*simulate(difference, seed=6, photo_spread=0.2)))
    for word in words:
        assert word in result["conclusion"]
    low, high = result["difference"]["interval"]
    assert low <= difference <= high
    assert (low <= 0 <= high) == (difference == 0)
    if difference:
        ends = sorted([abs(low), abs(high)])
        assert f"(95% interval {ends[0]:.2f} to {ends[1]:.2f})" in result["conclusion"]


ALL_5 = np.full((17, 5), 5)
FEW = np.array([[5, 4, 3], [4, 4, 2], [5, 5, 1]])


@pytest.mark.parametrize(
    ("real", "generated", "words"),
    [
        (ALL_5[:0], ALL_5[:0], "Nobody has rated all photos yet"),
        (ALL_5[:1], FEW[:1], "The only rater rated the generated photos 1.00 points"),
        (ALL_5[:2], FEW[:2], "2 raters and 3 generated photos are few"),
        (ALL_5[:3, :1], FEW[:, :1], "it takes 2 or more photos of each kind"),
        (FEW[:1, :1], FEW[:1, 2:], "The only rater"),
        (ALL_5, ALL_5, "like the real ones on average: their ratings vary too little"),
        (ALL_5, ALL_5 - 2, "rated the generated photos 2.00 points lower"),
        (FEW, FEW, "like the real ones on average (95% interval"),
        (ALL_5, FEW[[0] * 17], "People rated the generated photos 1.00 points lower"),
        (FEW + [[0], [-1], [0]], FEW[:, ::-1] % 5 + 1, "difference"),
    ],
)
def test_too_little_is_said_not_crashed_on(tmp_path, real, generated, words):
    ratings = survey_of(real, generated, unfinished=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = analyze(ratings)
        report = format_report(result)
        if len(real):
            save_ratings_plot(tmp_path / "ratings.png", ratings)
    json.dumps(result, allow_nan=False)
    assert words in " ".join(report.split())
    assert "raters who have not finished (1)" in report
    assert "nan" not in report
    assert "None" not in report


def test_without_variation_there_is_no_test():
    tests = analyze(survey_of(ALL_5, ALL_5))["tests"]
    assert len(tests) == 6
    for test in tests:
        assert test["missing"], test["name"]
        assert test["p_one_tailed"] is None
        assert test["p_two_tailed"] is None


def test_two_raters_who_differ_say_that_anything_is_possible():
    result = analyze(survey_of([[5, 5], [1, 1]], [[1, 1], [5, 5]]))
    assert result["difference"]["interval"] == [-4, 4]
    assert "any difference could be missed" in result["conclusion"]


def test_a_survey_of_one_kind_is_refused(tmp_path):
    ratings = Ratings(np.array([[3, 4]]), np.array([True, True]), ["a", "b"], 0)
    with pytest.raises(SurveyError, match="no generated photos"):
        analyze(ratings)
    with pytest.raises(SurveyError, match="nothing to plot"):
        save_ratings_plot(tmp_path / "ratings.png", survey_of(ALL_5[:0], ALL_5[:0]))


def test_the_report_fits_a_terminal_and_gives_table_1_first():
    ratings = survey_of(*simulate(1.3, seed=7))
    ratings.names[0] = "a/folder/with/a/very/long/name/" * 3 + "photo.jpg"
    result = analyze(ratings)
    report = format_report(result)
    assert max(len(line) for line in report.splitlines()) <= 80
    parts = ["Table 1", result["conclusion"][:40], "Tests", "Effect sizes", "Photos"]
    places = [report.index(part) for part in parts]
    assert places == sorted(places)
    row = next(line for line in report.splitlines() if line.startswith("  real"))
    mean, deviation, n = row.split()[1:]
    assert float(mean) == round(result["real"]["mean"], 4)
    assert float(deviation) == round(result["real"]["standard_deviation"], 4)
    assert n == "85"
    paired = next(line for line in report.splitlines() if "Paired t" in line)
    assert paired.count("p < 0.0001") == 2
    assert "p = " in format_report(analyze(survey_of(*simulate(0, seed=7))))


@pytest.mark.parametrize(("n", "p"), [(5, 0.046), (17, 0.0006), (85, 9e-14)])
def test_welch_of_the_reports_table_1(n, p):
    """What the design found by arithmetic: far from the report's 0.19 for any n."""
    result = analyze_summary(**TABLE_1, n_1=str(n), n_2=str(n))
    welch = result["welch"]
    np.testing.assert_allclose(welch["p_one_tailed"], p, rtol=0.05)  # One digit.
    variances = np.array([0.7001, 1.2837]) ** 2 / n
    t = (4.4706 - 3.1667) / variances.sum() ** 0.5
    degrees = variances.sum() ** 2 * (n - 1) / (variances**2).sum()
    np.testing.assert_allclose(welch["value"], t)
    np.testing.assert_allclose(welch["degrees_of_freedom"], degrees)
    np.testing.assert_allclose(welch["p_two_tailed"], 2 * stats.t.sf(t, degrees))
    pooled = ((0.7001**2 + 1.2837**2) / 2) ** 0.5
    np.testing.assert_allclose(result["cohens_d"], (4.4706 - 3.1667) / pooled)


def test_the_reports_p_leaves_out_n():
    few, many = (
        analyze_summary(**TABLE_1, n_1=n, n_2=n)["undivided"] for n in ("5", "85")
    )
    assert few == many
    np.testing.assert_allclose(few["z"], 1.3039 / (0.7001**2 + 1.2837**2) ** 0.5)
    assert round(few["p"], 2) == 0.19
    report = format_summary_report(analyze_summary(**TABLE_1, n_1="17", n_2="17"))
    assert "p = 0.0006  p = 0.0011" in report  # Welch's, one- and two-tailed.
    assert "Without dividing the variances by n: p = 0.1863" in report


def test_grim_of_the_reports_means():
    result = analyze_summary(**TABLE_1, n_1="85", n_2="85")
    assert result["real"]["grim"] == {"sum": 380, "possible": True}
    assert result["generated"]["grim"] == {"sum": 269, "possible": False}
    report = format_summary_report(result)
    assert "real       yes: 380 / 85 = 4.4706" in report
    assert "generated  no: the nearest is 269 / 85 = 3.1647, not 3.1667" in report
    assert "p < 0.0001" in report
    assert "p = 0.1863" in report
    assert max(len(line) for line in report.splitlines()) <= 80


@pytest.mark.parametrize("n", [7, 8, 17, 40, 99])
def test_grim_finds_the_means_that_sums_have(n):
    means = {
        f"{total / n + nudge:.2f}"
        for total in range(n, 5 * n + 1)
        for nudge in (-1e-9, 1e-9)  # An exact half, both ways.
    }
    for hundredths in range(100, 501):
        mean = f"{hundredths / 100:.2f}"
        assert grim(Decimal(mean), n)["possible"] == (mean in means), mean


def test_grim_does_not_answer_where_digits_are_few():
    assert grim(Decimal("4.47"), 100)["possible"] is None
    assert grim(Decimal("4.470"), 100)["possible"] is True
    assert grim(Decimal("4.475"), 100)["possible"] is False
    report = format_summary_report(analyze_summary("4.5", "0", "90", "3", "0", "90"))
    assert "not computed: no variation" in report
    assert "no answer: with n = 90" in report


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_1": "4,47"}, "The mean of the real photos, '4,47', is not a number"),
        ({"mean_2": "nan"}, "The mean of the generated photos, 'nan', is not a number"),
        ({"sd_2": "inf"}, "is not a number"),
        (
            {"sd_1": "-0.1"},
            "standard deviation of the real photos, -0.1, is not between",
        ),
        ({"sd_1": "17", "n_1": "0.7"}, "is not between 0 and 3"),
        ({"mean_1": "5.01"}, "is not between 1 and 5"),
        ({"n_1": "1"}, "number of ratings of the real photos, 1, is not between 2"),
        ({"n_2": "17.5"}, "17.5, is not a whole number"),
        ({"n_2": "1e999999999"}, "is not between"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(change, words):
    with pytest.raises(SurveyError) as error:
        analyze_summary(**{**TABLE_1, "n_1": "17", "n_2": "17", **change})
    assert words in str(error.value)


def test_the_csv_holds_a_line_for_each_rating(tmp_path):
    real, generated = [[5, 4], [3, 4]], [[1], [2]]
    ratings = survey_of(real, generated)
    ratings.names[0] = 'with "quotes", comma and ä.jpg'
    write_ratings_csv(tmp_path / "ratings.csv", ratings)
    with (tmp_path / "ratings.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "rater": "1",
        "photo": 'with "quotes", comma and ä.jpg',
        "kind": "real",
        "rating": "5",
    }
    cells = {(row["rater"], row["kind"]): [] for row in rows}
    for row in rows:
        cells[row["rater"], row["kind"]].append(int(row["rating"]))
    assert cells == {
        ("1", "real"): [5, 4],
        ("2", "real"): [3, 4],
        ("1", "generated"): [1],
        ("2", "generated"): [2],
    }


def test_the_plot_shows_shares_means_and_photos(tmp_path, drawn):
    real, generated = [[5, 4], [5, 2]], [[1, 3], [1, 3]]
    ratings = survey_of(real, generated)
    save_ratings_plot(tmp_path / "ratings.png", ratings)
    (figure,) = drawn()
    shares, means = figure.axes
    heights = [[bar.get_height() for bar in bars] for bars in shares.containers]
    assert heights == [[0, 25, 0, 25, 50], [50, 0, 50, 0, 0]]
    assert [line.get_ydata().tolist() for line in means.lines] == [[3, 5], [1, 3]]
    assert [text.get_text() for text in means.texts] == ["4.00", "2.00"]
    bands = [
        band.get_paths()[0].get_extents()
        for band in means.collections
        if isinstance(band, PolyCollection)
    ]
    result = analyze(ratings)
    for kind, band in zip(("real", "generated"), bands, strict=True):
        np.testing.assert_allclose([band.ymin, band.ymax], result[kind]["interval"])
    title = figure.get_suptitle().replace("\n", " ")
    assert title == result["conclusion"]
    assert Image.open(tmp_path / "ratings.png").width >= 1200


def test_intervals_are_narrow_where_everything_is_known():
    """With 400 raters and 200 photos of a kind, hardly any doubt is left."""
    real, generated = simulate(1, seed=8, raters=400, photos=200)
    low, high = compare_means(real, generated)["interval"]
    assert high - low < 0.25
    assert low < 1 < high
