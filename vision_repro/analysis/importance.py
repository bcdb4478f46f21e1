"""Which parameters of a search mattered: the share of the metric's variance that each explains, and its direction.

The share of a parameter is the variance of its marginal over the variance of the whole, both predicted by a forest of
trees grown on the trials (functional ANOVA: Hutter, Hoos and Leyton-Brown, ICML 2014, section 4; here the marginal is
the mean over the trials' own other parameters). On a full grid it is the main effect of a classical ANOVA. What no
parameter explains alone is interaction, or noise. So each share is given with the one of chance: the share of the same
parameter after the values were shuffled among the trials.

Deviation: the marginals are means over the trials instead of over the whole box of parameters; a Bayesian search has
    hardly been in most of that box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vision_repro.analysis.table import order
from vision_repro.analysis.trials import Trial, levels

FEWEST = 4
"""With fewer trials there is no result."""
TREES, SHUFFLES = 32, 20


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the variance and that of chance (both fractions), and its rank correlation.

    `chance` is what 19 of 20 shuffles stay below; `correlation` (Spearman) is None if an entry is a word.
    """

    name: str
    share: float
    chance: float
    correlation: float | None


def importances(trials: Sequence[Trial], goal: str = "maximize") -> list[Importance]:
    """Returns the parameters that vary, the most important first; nothing with fewer than four trials.

    A stopped trial counts with the value at which it was stopped, a diverged one with the worst value of all.
    """
    counted = [trial for trial in trials if trial.ended and (trial.value is not None or trial.state == "diverged")]
    known = [trial.value for trial in counted if trial.value is not None]
    names = [name for name in (counted[0].parameters if counted else {}) if len(levels(counted, name)) > 1]
    if len(known) < FEWEST or not names or len(set(known)) == 1:
        return []
    worst = min(known) if goal == "maximize" else max(known)
    values = np.array([worst if trial.value is None else trial.value for trial in counted])
    codes = np.array([_codes(counted, name) for name in names], dtype=float).T
    shares = _shares(codes, values)
    random = np.random.default_rng(0)
    chance = np.quantile([_shares(codes, random.permutation(values)) for _ in range(SHUFFLES)], 0.95, axis=0)
    found = [
        Importance(name, float(shares[index]), float(chance[index]), _correlation(counted, name, values))
        for index, name in enumerate(names)
    ]
    return sorted(found, key=lambda item: (-item.share, item.name))


def _codes(trials: Sequence[Trial], name: str) -> list[float]:
    """Returns the place of each trial's value among the distinct ones: trees ask for their order only."""
    place = {level: index for index, level in enumerate(levels(trials, name))}
    return [place[trial.parameters[name]] / (len(place) - 1) for trial in trials]


def _shares(codes: Any, values: Any) -> Any:
    """Returns the share of the variance of each column of `codes` [trials, parameters], a fraction."""
    # Imported here for start-up time: sklearn takes long to import.
    from sklearn.ensemble import ExtraTreesRegressor

    # Every parameter is tried at every split, and every tree sees all trials: on a full grid the forest is exact.
    forest = ExtraTreesRegressor(TREES, max_features=1.0, bootstrap=False, random_state=0, n_jobs=1).fit(codes, values)
    whole = float(np.var(forest.predict(codes)))
    return np.array([_marginal_variance(forest, codes, column) / max(whole, 1e-30) for column in range(codes.shape[1])])


def _marginal_variance(forest: Any, codes: Any, column: int) -> float:
    distinct, inverse = np.unique(codes[:, column], return_inverse=True)
    crossed = np.tile(codes, (len(distinct), 1))
    crossed[:, column] = np.repeat(distinct, len(codes))
    marginal = forest.predict(crossed).reshape(len(distinct), len(codes)).mean(axis=1)
    return float(np.var(marginal[inverse]))


def _correlation(trials: Sequence[Trial], name: str, values: Any) -> float | None:
    """Returns Spearman's rank correlation of a parameter of numbers with the metric."""
    entries = [trial.parameters[name] for trial in trials]
    if any(isinstance(entry, str) for entry in entries) or len(set(values)) == 1:
        return None
    # Imported here for start-up time: scipy takes long to import.
    from scipy.stats import spearmanr

    return float(spearmanr([order(entry)[1] for entry in entries], values).statistic)
