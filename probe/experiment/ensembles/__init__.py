"""Runs made of finished runs: their predictions combined, without features and without a further fit."""
