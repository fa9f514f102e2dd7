# Curve fits: what is measured on finished learning curves.


rule fit_curve:
    input:
        metrics="<results>/runs/{run}/metrics.parquet",
        base_evaluation=base_evaluation_of_run,
    output:
        forecast="<results>/forecasts/{run}{task}.json",
        fit="<results>/fits/{run}{task}.json",
    log:
        "<logs>/fit_curve/{run}{task}.log",
    benchmark:
        "<benchmarks>/fit_curve/{run}{task}.tsv"
    wildcard_constraints:
        run=r"[a-z0-9_]+-s\d+",
        task="|_code",
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        code=code("cli.fit"),
        task=lambda wildcards: "code" if wildcards.task else "math",
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
    message:
        "Forecast {wildcards.run} ({params.task}) from the first part of its compute, then fit all of it"
    shell:
        "python -m rlscape.cli.fit --metrics {input.metrics:q}"
        " --base-evaluation {input.base_evaluation:q} --task {params.task}"
        " --settings {params.settings:q} --forecast {output.forecast:q} --output {output.fit:q} > {log:q} 2>&1"


rule summarise_fits:
    input:
        fits=expand("<results>/fits/{run}.json", run=runs_of(CONFIG, SCALERL_ARMS)),
        metrics=expand("<results>/runs/{run}/metrics.parquet", run=runs_of(CONFIG, SCALERL_ARMS)),
    output:
        "<results>/fits/arms.parquet",
    log:
        "<logs>/summarise_fits.log",
    benchmark:
        "<benchmarks>/summarise_fits.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        code=code("cli.summarise_fits"),
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
        reference="scalerl",
    message:
        "Summarise the fits of each arm over its seeds"
    shell:
        "python -m rlscape.cli.summarise_fits --fits {input.fits:q} --metrics {input.metrics:q}"
        " --reference-arm {params.reference} --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"
