"""The register of claims, evaluated: verdict, effect, interval and seeds of every claim.

``config/claims.yaml`` says what is claimed and how it is judged; one small function per criterion does it.
What the data do not decide is "inconclusive", and one seed decides nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from math import nan
from pathlib import Path

import pandas as pd
import yaml
from pydantic import ValidationError

from rlscape.catalogue import ARMS, CHOICES, FIGURES, figure_of
from rlscape.catalogue.arms import Figure, Measurement
from rlscape.claims.controls import control_of
from rlscape.claims.off_principals import adapters, bias, footprint, generality, masks, sparsity
from rlscape.claims.power import Power, design_of_claim, lack_of_power, power_of
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_TESTABLE,
    WORDS,
    Claim,
    ClaimEvaluator,
    Conventions,
    Outcome,
    Register,
)
from rlscape.claims.register import outcome as of_interval
from rlscape.claims.scalerl import ablations, forecasts, recipes, scale, stability
from rlscape.errors import ConfigError
from rlscape.scaling.uncertainty import Interval
from rlscape.settings.reading import describe
from rlscape.settings.scale import Config, Paper

EVALUATORS: dict[str, ClaimEvaluator] = {
    evaluator.__name__: evaluator
    for evaluator in (
        forecasts.forecast_holds,
        forecasts.sigmoid_more_robust,
        forecasts.window_hardly_matters,
        forecasts.both_tasks_forecast,
        forecasts.early_leader_loses,
        forecasts.small_seed_spread,
        recipes.ceilings_above,
        recipes.same_ceiling_less_compute,
        recipes.faster_by_throughput,
        recipes.equal_and_lower,
        recipes.two_ceilings_above_and_equal,
        recipes.head_precision,
        recipes.head_precision_by_loss,
        recipes.prompt_selection_helps,
        ablations.ceilings_neutral,
        ablations.two_neutral_families,
        ablations.every_choice_saves_compute,
        ablations.clip_matters_for_one_loss,
        ablations.clip_scale_and_divergence,
        stability.collapses_more,
        stability.truncation_precedes_collapse,
        stability.truncation_stays_low,
        scale.slower_and_higher,
        scale.larger_batch_better,
        scale.gains_transfer,
        scale.larger_model_better,
        scale.entropy_tells_nothing,
        sparsity.sparser_when_matched,
        sparsity.rounding_effect,
        footprint.shared_footprint,
        footprint.striped,
        footprint.overlap_follows_edits,
        bias.early_and_stable,
        bias.small_steps_without_penalty,
        bias.keeps_spectrum_at_equal_norm,
        masks.mask_preference_on_grid,
        adapters.masks_ranked,
        adapters.no_gain,
        adapters.collapses_earlier,
        generality.principal_is_high_curvature,
        generality.generic,
    )
}


def load_register(path: str | Path) -> Register:
    """Read and validate the claims file.

    Raises:
        ConfigError: naming the file and the key.
    """
    try:
        register = Register.model_validate(yaml.safe_load(Path(path).read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the register is config/claims.yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except ValidationError as error:
        raise ConfigError(describe(error, Register, str(path))) from None
    for claim in register.claims:
        _check_names(claim, str(path))
    return register


def _check_names(claim: Claim, source: str) -> None:
    known: dict[str, tuple[Iterable[str], Collection[str]]] = {
        "evaluator": ([claim.evaluator], EVALUATORS),
        "arms": (claim.arms, ARMS),
        "figures": (claim.figures, [figure.target for figure in FIGURES]),
        "controls": (claim.controls, CHOICES),
    }
    for key, (names, allowed) in known.items():
        for name in names:
            if name not in allowed:
                raise ConfigError(f"{source}: {claim.id}.{key}: no {name!r}; there are {', '.join(allowed)}")


UNKNOWN = Power(nan, nan, nan)
UNREPORTED = ("units", "parts")
"""Fields of an outcome that have no column."""
BESIDE = {"striped": ("off_principals_fig6",), "early_and_stable": ("off_principals_control_model_size",)}
"""Figures whose measurements an evaluator reads, beside those of its claim."""


SHOWN: set[Measurement] = {"masks", "spectra", "landscape", "recorded_sizes"}
"""What figures show and no evaluator reads."""


def lacking_at(config: Config, claim: Claim, conventions: Conventions) -> list[str]:
    """What a claim needs and a scale does not have: arms, and figures for which something is measured that it may read.

    One figure at least must show it. Claims of P1 are judged by the reference arm, too.
    """
    judges: dict[Paper, list[str]] = {"scalerl": [conventions.reference_arm], "off_principals": []}
    arms = {*claim.arms, *judges[claim.paper]}
    figures = (*claim.figures, *BESIDE.get(claim.evaluator, ()))
    lacking = [target for target in figures if target not in (config.targets or ())]
    if set(claim.figures) - set(lacking):
        lacking = [target for target in lacking if _is_measured_for(figure_of(target))]
    return [*lacking, *sorted(arms - config.seeds.keys())]


def _is_measured_for(figure: Figure) -> bool:
    """Whether a scale without the figure may lack something that evaluators read."""
    return figure.divergence or figure.downstream or not set(figure.measurements) <= SHOWN


def evaluate_claim(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """A claim's outcome at a scale; what one seed or none shows is inconclusive.

    Raises:
        ResultError: a result file that the claim needs is missing.
    """
    lacking = lacking_at(config, claim, conventions)
    if lacking:
        nothing = Interval(nan, nan, nan, 0)
        return of_interval(NOT_TESTABLE, "", nothing, f"the scale does not run {', '.join(lacking)}")
    outcome = EVALUATORS[claim.evaluator](claim, conventions, config)
    if claim.by_part:
        verdicts = Counter(part.verdict for part in outcome.parts)
        counts = ", ".join(f"{verdicts[verdict]} {word}" for verdict, word in WORDS.items())
        outcome = replace(outcome, reason=f"parts: {counts}; {outcome.reason}")
    if outcome.units < 2 and outcome.verdict != NOT_TESTABLE:
        lack = "one seed" if outcome.units else "no usable seed"
        outcome = replace(outcome, verdict=INCONCLUSIVE, reason=f"{lack}; {outcome.reason}")
    return outcome


def evaluate_register(
    register: Register, config: Config, power: pd.DataFrame | None = None, pilots: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A row per claim: id, claim, verdict, measure, effect, low, high, seeds, reason, figure, control, power,
    refutes, error.

    Args:
        power: as :func:`rlscape.claims.power.read_power` returns it. A criterion that cannot decide at this scale is
            not testable, whatever the results say. None: verdicts by the results alone.
        pilots: as :func:`rlscape.claims.controls.read_pilots` returns it. It is shown, and no verdict hangs on it.

    Raises:
        ResultError: a result file that a claim needs is missing.
    """
    rows = []
    for claim in register.claims:
        outcome = evaluate_claim(claim, register.conventions, config)
        found = None
        if power is not None:
            found = power_of(power, claim, design_of_claim(claim, register.conventions, config))
            lack = lack_of_power(found, register.conventions)
            if lack and outcome.verdict != NOT_TESTABLE:
                outcome = replace(outcome, verdict=NOT_TESTABLE, reason=f"{lack}; {outcome.verdict}: {outcome.reason}")
        row = {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name not in UNREPORTED}
        identity = {"id": claim.id, "claim": claim.text}
        beside = {"figure": " ".join(claim.figures), "control": control_of(claim, pilots, found)}
        rows.append(identity | row | beside | (found or UNKNOWN)._asdict())
    return pd.DataFrame(rows)
