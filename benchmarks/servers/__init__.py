"""Baselines, each a server of its own."""
