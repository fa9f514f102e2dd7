"""The register of claims, and the verdict on one of them."""

import pandas as pd

from rlscape.claims import evaluate_register, load_register
from rlscape.settings.scale import Config
from tests.synthetic import ROOT

CLAIMS = ROOT / "config" / "claims.yaml"
YES, NO, OPEN, BLOCKED = "replicated", "not replicated", "inconclusive", "not testable at this scale"


def verdict(config: Config, claim_id: str) -> pd.Series:
    register = load_register(CLAIMS)
    return evaluate_register(register.model_copy(update={"claims": (register.claim(claim_id),)}), config).iloc[0]
