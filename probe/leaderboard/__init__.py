"""Run folders into a table that can be trusted."""
