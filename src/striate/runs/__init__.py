"""Run folders: from data to a trained model on disk, and from there to evaluations, predictions and reports."""
