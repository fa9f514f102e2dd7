# The register of claims, evaluated, and its picture.


rule evaluate_claims:
    input:
        claims=CLAIMS,
        results=results_of_scale(),
        power=[POWER] if os.path.exists(POWER) else [],
        pilots=[PILOTS] if os.path.exists(PILOTS) else [],
    output:
        report(
            "<results>/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"figure": "register"},
        ),
    log:
        "<logs>/evaluate_claims.log",
    benchmark:
        "<benchmarks>/evaluate_claims.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code("pipeline.evaluate_claims"),
        arms=lambda wildcards: describe_arms(CONFIG.seeds),
        figures=lambda wildcards: describe_figures(),
        settings=lambda wildcards: CONFIG.model_dump_json(),
        recorded=lambda wildcards, input: " ".join(
            f"--{name} {shlex.quote(str(input[name]))}" for name in ("power", "pilots") if input[name]
        ),
    message:
        "Evaluate the claims"
    shell:
        "python -m rlscape.pipeline.evaluate_claims --claims {input.claims:q} --settings {params.settings:q}"
        " {params.recorded} --output {output:q} > {log:q} 2>&1"


rule plot_scoreboard:
    input:
        claims="<results>/claims.csv",
    output:
        svg=report(
            "<figures>/scoreboard.svg",
            caption="../report/claims.rst",
            category="Claims",
            labels={"figure": "scoreboard"},
        ),
        png="<figures>/scoreboard.png",
        csv="<figures>/scoreboard.csv",
    log:
        "<logs>/plot_scoreboard.log",
    benchmark:
        "<benchmarks>/plot_scoreboard.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code("pipeline.plot_figure", "figures.scoreboard"),
        settings=lambda wildcards: CONFIG.model_dump_json(),
        stem=without_suffix_of("svg"),
    message:
        "Plot the scoreboard of claims"
    shell:
        "python -m rlscape.pipeline.plot_figure --target scoreboard --settings {params.settings:q}"
        " --output-stem {params.stem:q} > {log:q} 2>&1"
