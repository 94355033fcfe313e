"""The pretrained network: architecture, convolutions, weights."""
