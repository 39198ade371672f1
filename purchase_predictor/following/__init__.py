"""What happened after scoring: calibration, drift, model against model, value of a policy."""
