"""What the README says about results is what is recorded in the gallery."""

import re
from pathlib import Path

import pandas as pd

from rlscape.catalogue import load_scale
from rlscape.claims import load_register
from rlscape.claims.power import design_of_claim, lack_of_power, power_of, read_power

VERDICTS = "replicated|not replicated|inconclusive|not testable at this scale"
ROW = re.compile(rf"^\| ([SO]\d+) \| [^|]* \| ({VERDICTS}) \| ([^|]*) \| (\d+) \|", re.M)
BESIDE = re.compile(rf"^\| ([SO]\d+) \| [^|]* \| ({VERDICTS}) \| ({VERDICTS}) \| ([^|]*) \| ([\d.]+) \|$", re.M)
"""Of the claims that a pretrained model was asked too, in a table of their own before that of all: by models from
scratch, and by that one."""


def test_the_python_example_names_what_there_is(repository: Path) -> None:
    examples = re.findall(r"```python\n(from .*?)```", (repository / "README.md").read_text(), re.S)
    assert len(examples) == 1
    imports = [line for line in examples[0].splitlines() if line.startswith("from ")]
    used = [line.split(" import ")[1].split(", ") for line in imports]
    exec("\n".join(imports), {})
    body = examples[0].rpartition(imports[-1])[2]
    assert all(name in body for names in used for name in names)


def recorded(repository: Path, scale: str, table: str) -> pd.DataFrame:
    return pd.read_csv(repository / "figures" / "gallery" / scale / table).set_index("id")


def effect_of(claim: pd.Series) -> str:
    """As in the README's table: what was measured, with its interval if it has one."""
    if pd.isna(claim["effect"]):
        return ""
    interval = "" if pd.isna(claim["low"]) else f" [{claim['low']:.3g}, {claim['high']:.3g}]"
    return f"{claim['measure']}: {claim['effect']:.3g}{interval}"


def test_the_tables_of_claims_have_what_is_recorded(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    default, pretrained = (recorded(repository, scale, "claims.csv") for scale in ("default", "pretrained"))
    asked = pretrained.index.intersection(recorded(repository, "pretrained", "power.csv").index)
    beside = [
        (name, default.loc[name, "verdict"], row["verdict"], effect_of(row), f"{row['power']:.2f}")
        for name, row in pretrained.loc[asked].iterrows()
    ]
    assert BESIDE.findall(text) == beside
    every = [(name, row["verdict"], effect_of(row), str(row["seeds"])) for name, row in default.iterrows()]
    assert ROW.findall(text) == every


def deciding(repository: Path, scale: str, file: str) -> list[str]:
    """The claims that a scale can decide, by its recorded power."""
    config, register = load_scale(repository / "config" / file), load_register(repository / "config" / "claims.yaml")
    table = read_power(repository / "figures" / "gallery" / scale / "power.csv")
    known = {
        claim.id: power_of(table, claim, design_of_claim(claim, register.conventions, config))
        for claim in register.claims
    }
    return [name for name, power in known.items() if not lack_of_power(power, register.conventions)]


def test_what_scales_can_decide_is_as_recorded(repository: Path) -> None:
    text = " ".join((repository / "README.md").read_text().split())
    default = deciding(repository, "default", "config.yaml")
    assert f"default scale decides {len(default)} of the 43 claims ({', '.join(default)})" in text
    evidence = deciding(repository, "evidence", "evidence.yaml")
    assert f"`config/evidence.yaml`, not recorded yet, decides {len(evidence)} of the 43" in text
    *some, last = deciding(repository, "pretrained", "pretrained.yaml")
    assert f"`config/pretrained.yaml` decides {', '.join(some)} and {last} of the five claims that it asks" in text
