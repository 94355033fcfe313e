"""Loss functions: pure functions from activations or pixels to a scalar.

A loss on activations comes as two functions. `describe(features, context)` reduces a picture to a
target, once before the first step. `distance(features, target, context)` compares the painting's
activations with that target, at every step.
"""
