# Curve fits and weight geometry: what is measured on finished runs.


rule make_forecast:
    input:
        metrics="<results>/runs/{run}/metrics.parquet",
        base_evaluation=base_evaluation_of_run,
        code=code("cli.forecast"),
    output:
        "<results>/forecasts/{run}.json",
    log:
        "<logs>/make_forecast/{run}.log",
    benchmark:
        "<benchmarks>/make_forecast/{run}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
    message:
        "Forecast {wildcards.run} from the first half of its compute"
    shell:
        "python -m rlscape.cli.forecast --metrics {input.metrics:q}"
        " --base-evaluation {input.base_evaluation:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"


rule fit_curve:
    input:
        metrics="<results>/runs/{run}/metrics.parquet",
        forecast="<results>/forecasts/{run}.json",
        base_evaluation=base_evaluation_of_run,
        code=code("cli.fit"),
    output:
        "<results>/fits/{run}.json",
    log:
        "<logs>/fit_curve/{run}.log",
    benchmark:
        "<benchmarks>/fit_curve/{run}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
    message:
        "Fit the learning curve of {wildcards.run} and score its forecast"
    shell:
        "python -m rlscape.cli.fit --metrics {input.metrics:q} --forecast {input.forecast:q}"
        " --base-evaluation {input.base_evaluation:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"


rule summarise_fits:
    input:
        fits=expand("<results>/fits/{run}.json", run=runs_of(CONFIG, SCALERL_ARMS)),
        metrics=expand("<results>/runs/{run}/metrics.parquet", run=runs_of(CONFIG, SCALERL_ARMS)),
        code=code("cli.summarise_fits"),
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
        settings=lambda wildcards: CONFIG.fit.model_dump_json(),
        reference="scalerl",
    message:
        "Summarise the fits of each arm over its seeds"
    shell:
        "python -m rlscape.cli.summarise_fits --fits {input.fits:q} --metrics {input.metrics:q}"
        " --reference-arm {params.reference} --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


rule measure_geometry:
    input:
        base=base_model_of_run,
        model=model_files("<results>/runs/{run}/model"),
        code=code("cli.measure_geometry"),
    output:
        matrices="<results>/geometry/{run}/matrices.parquet",
        spectra="<results>/geometry/{run}/spectra.parquet",
        masks="<results>/geometry/{run}/masks.npz",
        summary="<results>/geometry/{run}/summary.json",
    log:
        "<logs>/measure_geometry/{run}.log",
    benchmark:
        "<benchmarks>/measure_geometry/{run}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        base=input_directory_of("base"),
        model=input_directory_of("model"),
        directory=directory_of("matrices"),
        settings=lambda wildcards: CONFIG.geometry.model_dump_json(),
        seed=lambda wildcards: parse_run_name(wildcards.run)[1],
    message:
        "Measure how {wildcards.run} moved the weights of its base"
    shell:
        "python -m rlscape.cli.measure_geometry --base {params.base:q} --model {params.model:q}"
        " --settings {params.settings:q} --seed {params.seed} --output {params.directory:q} > {log:q} 2>&1"
