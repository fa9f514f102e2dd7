# What the criteria of the register can decide at the scale: the evaluators on simulated results. Not part of `all`.

# The recorded figures whose scatter the simulated ones have.
SCATTER_FROM = in_repository("figures", "gallery", "default")
# Draws from either world of a claim: a share of 5% is then known to within 2%.
DRAWS = 400


@functools.cache
def entries_of_register():
    """Claim -> its entry in the register, and what all of them share."""
    with open(CLAIMS) as file:
        register = yaml.safe_load(file)
    return register["conventions"], {claim["id"]: claim for claim in register["claims"]}


def simulated_claims(wildcards):
    """The files of the claims that have simulated worlds; they are imported only when power is asked for."""
    from rlscape.power.estimate import SIMULATORS

    return expand("<results>/power/{claim}.csv", claim=SIMULATORS)


rule measure_scatter:
    input:
        expand("{gallery}/{paper}/run.json", gallery=SCATTER_FROM, paper=("scalerl", "off_principals")),
    output:
        "<results>/power/scatter.json",
    log:
        "<logs>/power/scatter.log",
    benchmark:
        "<benchmarks>/power/scatter.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code("pipeline.measure_scatter"),
        gallery=SCATTER_FROM,
        reference=lambda wildcards: entries_of_register()[0]["reference_arm"],
    message:
        "Measure the scatter of recorded curves and updates"
    shell:
        "python -m rlscape.pipeline.measure_scatter --gallery {params.gallery:q}"
        " --reference-arm {params.reference:q} --output {output:q} > {log:q} 2>&1"


rule estimate_power:
    input:
        scatter="<results>/power/scatter.json",
    output:
        "<results>/power/{claim}.csv",
    log:
        "<logs>/power/{claim}.log",
    benchmark:
        "<benchmarks>/power/{claim}.tsv"
    wildcard_constraints:
        claim="[SO][0-9]+",
    threads: 1
    resources:
        mem_mb=1000,
        runtime="60m",
    params:
        code=code("pipeline.estimate_power"),
        claims=CLAIMS,
        entry=lambda wildcards: str((entries_of_register()[0], entries_of_register()[1][wildcards.claim])),
        settings=lambda wildcards: CONFIG.model_dump_json(),
        draws=DRAWS,
    message:
        "Simulate claim {wildcards.claim}"
    shell:
        "python -m rlscape.pipeline.estimate_power --claims {params.claims:q} --claim {wildcards.claim}"
        " --scatter {input.scatter:q} --settings {params.settings:q} --draws {params.draws}"
        " --output {output:q} > {log:q} 2>&1"


rule power:
    input:
        simulated_claims,
    output:
        "<results>/power.csv",
    log:
        "<logs>/power/power.log",
    benchmark:
        "<benchmarks>/power/power.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime="10m",
    params:
        code=code("pipeline.gather_power"),
    message:
        "Gather what the criteria can decide"
    shell:
        "python -m rlscape.pipeline.gather_power --claims {input:q} --output {output:q} > {log:q} 2>&1"
