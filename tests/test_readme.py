"""What the README says about results is what is recorded in the gallery."""

import re
from pathlib import Path

import pandas as pd

ROW = re.compile(r"^\| ([SO]\d+) \| .* \| (replicated|not replicated|inconclusive|not testable at this scale) \|", re.M)


def test_the_table_of_claims_has_the_recorded_verdicts(repository: Path) -> None:
    recorded = pd.read_csv(repository / "figures" / "gallery" / "scoreboard.csv")
    rows = ROW.findall((repository / "README.md").read_text())
    assert rows == list(recorded[["id", "verdict"]].itertuples(index=False, name=None))
