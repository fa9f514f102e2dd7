"""Learning curves from training logs: fits, forecasts and comparisons with intervals."""
