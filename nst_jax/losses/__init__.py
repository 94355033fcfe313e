"""Loss functions: pure functions from activations or pixels to a scalar.

A loss on activations comes as three functions. `describe(features, context)` reduces a picture to a
target, once before the first step. At every step `summarize(features, target, context)` reduces the
painting, whole or tile by tile, for the summaries of tiles add up; and `compare(summary, target,
context)` is the distance.
"""
