"""Architectures: networks as `torch.nn.Module`s. They never read files, print, draw or compute metrics."""
