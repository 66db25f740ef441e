"""Metrics as evaluate.Metric and evaluate.Measurement subclasses, which work without a network."""
