"""Pruning: schedules, patterns, budgets, selection and the layer wrapper."""
