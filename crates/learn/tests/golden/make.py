"""Makes figures.json: made-up rows, and what other programs compute from them.

    pip install numpy scipy scikit-learn scikit-survival statsmodels
    python make.py
"""

import json
import math
from importlib.metadata import version

import numpy as np
import statsmodels.api as sm
from scipy import stats
from sklearn import isotonic, linear_model, metrics, preprocessing
from sksurv import metrics as survival
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv
from statsmodels.stats.proportion import proportion_confint

random = np.random.default_rng(11)


def listed(values):
    return [float(v) for v in values]


def ranked():
    """Scores with ties, outcomes that go with them, weights."""
    scores = np.floor(random.uniform(size=300) * 40) / 40
    outcomes = random.uniform(size=300) < 0.1 + 0.6 * scores
    weights = random.uniform(size=300)
    return {
        "scores": listed(scores),
        "outcomes": [bool(o) for o in outcomes],
        "weights": listed(weights),
        "auc": metrics.roc_auc_score(outcomes, scores),
        "weighted_auc": metrics.roc_auc_score(outcomes, scores, sample_weight=weights),
        "average_precision": metrics.average_precision_score(outcomes, scores),
        "weighted_average_precision": metrics.average_precision_score(outcomes, scores, sample_weight=weights),
    }


def probable():
    """Risks that are too sure of themselves."""
    odds = random.normal(-1.5, 1.6, size=400)
    outcomes = random.uniform(size=400) < 1 / (1 + np.exp(-(0.3 + 0.7 * odds)))
    risks = 1 / (1 + np.exp(-odds))
    weights = random.uniform(0.2, 2.0, size=400)
    fit = sm.Logit(outcomes.astype(float), sm.add_constant(odds)).fit(disp=0, tol=1e-14, method="newton")
    large = sm.GLM(outcomes.astype(float), np.ones(400), family=sm.families.Binomial(), offset=odds).fit(tol=1e-14)
    rising = isotonic.IsotonicRegression(y_min=0, y_max=1).fit(risks, outcomes, sample_weight=weights)
    asked = np.quantile(risks, [0.1, 0.3, 0.5, 0.7, 0.9])
    return {
        "risks": listed(risks),
        "outcomes": [bool(o) for o in outcomes],
        "weights": listed(weights),
        "brier": metrics.brier_score_loss(outcomes, risks),
        "weighted_brier": metrics.brier_score_loss(outcomes, risks, sample_weight=weights),
        "log_loss": metrics.log_loss(outcomes, risks),
        "slope": float(fit.params[1]),
        "intercept": float(fit.params[0]),
        "in_the_large": float(large.params[0]),
        "isotonic_at": listed(asked),
        "isotonic": listed(rising.predict(asked)),
    }


def followed():
    """Times to failure, some of them cut off, with scores and risks."""
    score = random.normal(size=250)
    failure = random.exponential(np.exp(3.2 - 0.8 * score))
    watched = random.uniform(2, 60, size=250)
    time, failed = np.minimum(failure, watched), failure <= watched
    rows = Surv.from_arrays(failed, time)
    horizons = [5.0, 15.0, 35.0]
    risk = {h: 1 - np.exp(-h / np.exp(3.0 - 0.6 * score)) for h in horizons}
    auc, _ = survival.cumulative_dynamic_auc(rows, rows, score, horizons)
    _, brier = survival.brier_score(rows, rows, np.column_stack([1 - risk[h] for h in horizons]), horizons)
    steps, share = kaplan_meier_estimator(failed, time)
    at = [3.0, 10.0, 30.0, 55.0]
    return {
        "time": listed(time),
        "failed": [bool(f) for f in failed],
        "scores": listed(score),
        "horizons": horizons,
        "risks": [listed(risk[h]) for h in horizons],
        "auc": listed(auc),
        "brier": listed(brier),
        "tau": 40.0,
        "uno_c": survival.concordance_index_ipcw(rows, rows, score, tau=40.0)[0],
        "survival_at": at,
        "survival": [float(share[np.searchsorted(steps, t, side="right") - 1]) for t in at],
    }


def regression():
    """A penalised logistic regression on standardised columns."""
    columns = random.normal(size=(200, 3)) * [1.0, 20.0, 0.01] + [0.0, 500.0, 1.0]
    columns = columns.astype(np.float32).astype(float)
    odds = 0.4 + 1.2 * columns[:, 0] - 0.05 * (columns[:, 1] - 500) + 60 * (columns[:, 2] - 1)
    outcomes = random.uniform(size=200) < 1 / (1 + np.exp(-odds))
    standard = preprocessing.StandardScaler().fit_transform(columns)
    model = linear_model.LogisticRegression(C=1 / 3.0, tol=1e-12, max_iter=10_000).fit(standard, outcomes)
    return {
        "columns": [listed(row) for row in columns],
        "outcomes": [bool(o) for o in outcomes],
        "l2": 3.0,
        "weights": listed(model.coef_[0]),
        "intercept": float(model.intercept_[0]),
    }


def intervals():
    """Wilson's interval of a share, the exact one of a Poisson rate."""
    shares = [(0, 20), (3, 20), (50, 51), (7, 7)]
    counts = [(0, 10.0), (4, 2.5), (130, 52.0)]
    exact = [
        (0.0 if n == 0 else stats.chi2.ppf(0.025, 2 * n) / 2 / of, stats.chi2.ppf(0.975, 2 * n + 2) / 2 / of)
        for n, of in counts
    ]
    return {
        "wilson_of": shares,
        "wilson": [listed(proportion_confint(n, of, 0.05, method="wilson")) for n, of in shares],
        "poisson_of": counts,
        "poisson": [listed(pair) for pair in exact],
    }


figures = {
    "made_by": {name: version(name) for name in ["scikit-learn", "scikit-survival", "statsmodels", "scipy"]},
    "ranked": ranked(),
    "probable": probable(),
    "followed": followed(),
    "regression": regression(),
    "intervals": intervals(),
}
assert all(math.isfinite(v) for v in figures["followed"]["auc"])
with open("figures.json", "w") as file:
    json.dump(figures, file, indent=None, separators=(",", ":"))
    file.write("\n")
