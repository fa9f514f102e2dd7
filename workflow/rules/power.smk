# What the criteria of the register can decide at the scale: the evaluators on simulated results. Not part of `all`.


rule measure_scatter:
    input:
        f"{SCATTER_FROM}/scalerl/run.json",
        sorted(map(str, Path(SCATTER_FROM).glob("*/*.csv"))),
        f"{SCATTER_FROM}/off_principals/run.json",
        f"{SCATTER_FROM}/off_principals/tables.zip",
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
        gallery=lambda wildcards, input: os.path.dirname(os.path.dirname(input[0])),
        reference=lambda wildcards: register()["conventions"]["reference_arm"],
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
        design=lambda wildcards: design_of(wildcards.claim),
        arms=lambda wildcards: describe_arms(CONFIG.seeds),
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
