"""Scores of models beside baselines, and how they are shown."""
