"""Measures of colorized photos, by formula and by pretrained networks."""
