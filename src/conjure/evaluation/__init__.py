"""Correlation with human ratings: datasets, evaluation, reports, comparison of runs and ablation."""
