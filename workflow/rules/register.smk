# What rules know of the register of claims, of what its criteria can decide, and of its controls.

CLAIMS = in_repository("config", "claims.yaml")
# As `make power` recorded it for this scale.
POWER = in_repository("figures", "gallery", CONFIG.scale, "power.csv")
# As `make pilots` recorded what was chosen.
PILOTS = in_repository("figures", "gallery", "pilots", "pilots.csv")
# The recorded curves whose scatter the simulated ones have.
SCATTER_FROM = in_repository("figures", "gallery", "default")
# Draws from each world of a claim: a share of 5% is then known to within 1.4%.
DRAWS = 1000


@functools.cache
def register():
    """The register, as the file has it."""
    with open(CLAIMS) as file:
        return yaml.safe_load(file)


def captions_of_claims():
    """The claims with what was seen, once it is known; captions find them as `snakemake.config["register"]`."""
    table = results_dir(CONFIG) / "claims.csv"
    seen = {}
    if table.exists():
        with table.open(newline="") as file:
            seen = {row["id"]: f"{row['verdict']}. {row['reason']}" for row in csv.DictReader(file)}
    captions = []
    for claim in register()["claims"]:
        texts = {key: claim[key] for key in ("id", "text", "evidence", "criterion")}
        texts["seen"] = seen.get(claim["id"], "not evaluated yet")
        captions.append({key: as_rst(text) for key, text in texts.items()} | {"figures": claim["figures"]})
    return captions


config["register"] = captions_of_claims()


def design_of(claim):
    """What of the register and the scale decides how a claim's simulations end; no text does."""
    from rlscape.claims import load_register
    from rlscape.claims.power import design_of_claim

    loaded = load_register(CLAIMS)
    return design_of_claim(loaded.claim(claim), loaded.conventions, CONFIG)


def simulated_claims(wildcards):
    """The files of the claims that the scale judges; simulated worlds are imported only when power is asked for."""
    from rlscape.claims import lacking_at, load_register
    from rlscape.power.estimate import SIMULATORS

    loaded = load_register(CLAIMS)
    judged = {claim.id for claim in loaded.claims if not lacking_at(CONFIG, claim, loaded.conventions)}
    return [f"<results>/power/{claim}.csv" for claim in SIMULATORS if claim in judged]
