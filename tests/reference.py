"""The objective and its gradient in NumPy, float64, written from the papers alone.

It shares no code with the package and no framework: convolutions are sums of nine shifted matrix
products, and the gradient is worked out layer by layer by hand.
"""

import re

import numpy as np

Caches = dict[str, tuple]


def shifts(height: int, width: int):
    """For each of the nine kernel positions, the overlapping windows of output and input."""
    for row in range(3):
        for column in range(3):
            dy, dx = row - 1, column - 1
            out = (
                slice(max(0, -dy), height - max(0, dy)),
                slice(max(0, -dx), width - max(0, dx)),
            )
            into = (
                slice(max(0, dy), height + min(0, dy)),
                slice(max(0, dx), width + min(0, dx)),
            )
            yield (row, column), out, into


def forward(image, layers, mean, scale, deepest, pooling="max"):
    """All activations up to the convolution `deepest`, and what the backward pass needs."""
    x = (np.float64(image) - mean) * scale
    seen, tape = {}, []
    for name, (kernel, bias) in layers.items():
        if re.fullmatch(r"conv[2-5]_1", name):
            h, w = x.shape[0] // 2, x.shape[1] // 2
            windows = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1)
            pooled = windows.max((1, 3)) if pooling == "max" else windows.mean((1, 3))
            tape.append(("pool", (x, pooled)))
            x = pooled
        out = np.zeros((*x.shape[:2], kernel.shape[-1])) + bias
        for (row, column), to, at in shifts(*x.shape[:2]):
            out[to] += x[at] @ np.float64(kernel[row, column])
        tape.append((name, (x, kernel)))
        seen[name] = out
        x = np.maximum(out, 0)
        tape.append((name.replace("conv", "relu"), (out,)))
        seen[name.replace("conv", "relu")] = x
        if name == deepest:
            break
    return seen, tape


def backward(gradients, tape, scale, pooling="max"):
    """Gradient with respect to the image, given the gradient of each tapped activation."""
    flow = 0.0
    for name, saved in reversed(tape):
        flow = flow + gradients.get(name, 0.0)
        if name == "pool":
            x, pooled = saved
            h, w = pooled.shape[:2]
            spread = np.zeros_like(x)
            blocks = np.repeat(np.repeat(flow, 2, 0), 2, 1)
            if pooling == "max":
                winners = x[: 2 * h, : 2 * w] == np.repeat(np.repeat(pooled, 2, 0), 2, 1)
                spread[: 2 * h, : 2 * w] = blocks * winners
            else:
                spread[: 2 * h, : 2 * w] = blocks / 4
            flow = spread
        elif name.startswith("relu"):
            flow = flow * (saved[0] > 0)
        else:
            x, kernel = saved
            back = np.zeros_like(x)
            for (row, column), to, at in shifts(*x.shape[:2]):
                back[at] += flow[to] @ np.float64(kernel[row, column]).T
            flow = back
    return flow * scale


def objective(
    image, content, style, weights, content_lambdas, style_lambdas, alpha, beta, tv, pooling="max"
):
    """J, its gradient, and J_content, J_style, TV. Style may have any size."""
    scale, mean = np.float64(weights.scale), np.float64(weights.mean)
    taps = [*content_lambdas, *style_lambdas]
    deepest = max(tap.replace("relu", "conv") for tap in taps)

    def run(picture):
        return forward(picture, weights.layers, mean, scale, deepest, pooling)

    seen, tape = run(image)
    wanted_content, wanted_style = run(content)[0], run(style)[0]
    gradients: dict[str, np.ndarray] = {}
    j_content = j_style = 0.0
    for tap, weight in content_lambdas.items():
        difference = seen[tap] - wanted_content[tap]
        j_content += weight * (difference**2).sum() / (4 * difference.size)
        gradients[tap] = gradients.get(tap, 0) + alpha * weight * difference / (2 * difference.size)
    for tap, weight in style_lambdas.items():
        channels = seen[tap].shape[-1]
        a = seen[tap].reshape(-1, channels)
        s = wanted_style[tap].reshape(-1, channels)
        difference = a.T @ a / len(a) - s.T @ s / len(s)
        j_style += weight * (difference**2).sum() / (4 * channels**2)
        slope = beta * weight * (a @ difference) / (channels**2 * len(a))
        gradients[tap] = gradients.get(tap, 0) + slope.reshape(seen[tap].shape)
    gradient = backward(gradients, tape, scale, pooling)
    image = np.float64(image)
    down, right = np.diff(image, axis=0), np.diff(image, axis=1)
    total_variation = (down**2).mean() + (right**2).mean()
    for axis, step in ((0, down), (1, right)):
        pad = [(0, 0)] * 3
        pad[axis] = (1, 1)
        gradient -= tv * np.diff(np.pad(2 * step / step.size, pad), axis=axis)
    total = alpha * j_content + beta * j_style + tv * total_variation
    return total, gradient, (j_content, j_style, total_variation)
