"""What the README says about results is what is recorded in the gallery."""

import re
from pathlib import Path

import pandas as pd

ROW = re.compile(r"^\| ([SO]\d+) \| .* \| (replicated|not replicated|inconclusive|not testable at this scale) \|", re.M)


def test_the_python_example_names_what_there_is(repository: Path) -> None:
    examples = re.findall(r"```python\n(from .*?)```", (repository / "README.md").read_text(), re.S)
    assert len(examples) == 1
    imports = [line for line in examples[0].splitlines() if line.startswith("from ")]
    used = [line.split(" import ")[1].split(", ") for line in imports]
    exec("\n".join(imports), {})
    body = examples[0].rpartition(imports[-1])[2]
    assert all(name in body for names in used for name in names)


def test_the_table_of_claims_has_the_recorded_verdicts(repository: Path) -> None:
    recorded = pd.read_csv(repository / "figures" / "gallery" / "default" / "claims.csv")
    rows = ROW.findall((repository / "README.md").read_text())
    assert rows == list(recorded[["id", "verdict"]].itertuples(index=False, name=None))
