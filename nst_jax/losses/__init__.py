"""What a picture is asked to be: pure functions from activations or pixels to a scalar.

A loss on features is two functions: `describe(features)` computes what to keep of a picture, once,
and `distance(features, target)` compares a picture's features with that, at every step.
"""
