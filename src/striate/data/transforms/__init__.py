"""Augmentation: what happens to images in training only."""
