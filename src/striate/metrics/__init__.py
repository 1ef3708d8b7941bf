"""Metrics, each checked against its reference implementation."""
