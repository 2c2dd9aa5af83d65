"""Runs as DataFrames."""
