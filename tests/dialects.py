"""What published programs minimise, in NumPy, float64, written from their sources' formulas.

Each function takes the painting and the content picture, both [h, w, 3], and the style picture, all
sRGB in [0, 1] and of the sizes that the program gives them, and the weights of any network. It
returns the weighted terms as they stand in that program's sum. How a picture enters the network is
the weights' matter (mean, scale); pixel units count only where a program measures the pixels
themselves. No code is shared with the package or with `reference`.
"""

import numpy as np

RELUS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def pool(x, pooling="max", ceil=False):
    """Over 2x2 windows; an odd last row or column is dropped, or with `ceil` kept."""
    h, w = x.shape[:2]
    if ceil:  # the maximum of half a window is that of its values twice
        x = np.pad(x, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
        h, w = x.shape[:2]
    x = x[: h - h % 2, : w - w % 2].reshape(h // 2, 2, w // 2, 2, -1)
    if pooling == "l2":
        return np.sqrt((x**2).sum((1, 3)))
    return x.max((1, 3)) if pooling == "max" else x.mean((1, 3))


def forward(picture, weights, taps, pooling=pool, edge="constant"):
    """Activations of `taps`, [h, w, channels] by name; `edge` is how the first convolution pads."""
    x = (np.float64(picture) - np.float64(weights.mean)) * np.float64(weights.scale)
    seen = {}
    for name, (kernel, bias) in weights.layers.items():
        if name.endswith("_1") and name != "conv1_1":
            x = pooling(x)
        h, w = x.shape[:2]
        x = np.pad(x, ((1, 1), (1, 1), (0, 0)), edge if name == "conv1_1" else "constant")
        kernel = np.float64(kernel)
        x = bias + sum(x[i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))
        seen[name] = x
        x = seen[name.replace("conv", "relu")] = np.maximum(x, 0)
        if all(tap in seen for tap in taps):
            return seen
    raise ValueError(f"the network lacks one of {taps}")


def positions(activation):
    """One row for each position, one column for each channel."""
    return activation.reshape(-1, activation.shape[-1])


def gram(activation):
    """Of plain sums over the positions."""
    rows = positions(activation)
    return rows.T @ rows


def mean_gram(activation):
    """Of means over the positions."""
    return gram(activation) / len(positions(activation))


def mse(a, b):
    """The mean of squared differences."""
    return ((a - b) ** 2).mean()


def steps(picture):
    """Differences of pixels above each other and beside each other."""
    picture = np.float64(picture)
    return np.diff(picture, axis=0), np.diff(picture, axis=1)


def weighted(**terms):
    """The terms as Python numbers."""
    return {name: float(term) for name, term in terms.items()}


def founding(image, content, style, weights):
    """This project's own: README.md, after Gatys et al. 2015, with average pooling."""

    def run(picture):
        return forward(picture, weights, (*RELUS, "relu4_2"), lambda x: pool(x, "average"))

    g, c, s = run(image), run(content)["relu4_2"], run(style)
    return weighted(
        content=10 * ((c - g["relu4_2"]) ** 2).sum() / (4 * c.size),
        style=40
        * sum(
            0.2 * ((mean_gram(s[tap]) - mean_gram(g[tap])) ** 2).sum() / (4 * s[tap].shape[-1] ** 2)
            for tap in RELUS
        ),
    )


def gatys2016(image, content, style, weights, ceil=False):
    """leongatys/PytorchNeuralStyleTransfer, NeuralStyleTransfer.ipynb."""

    def run(picture):
        return forward(picture, weights, (*RELUS, "relu4_2"), lambda x: pool(x, ceil=ceil))

    g, c, s = run(image), run(content), run(style)
    return weighted(
        content=mse(g["relu4_2"], c["relu4_2"]),
        style=sum(
            1e3 / s[tap].shape[-1] ** 2 * mse(mean_gram(g[tap]), mean_gram(s[tap])) for tap in RELUS
        ),
    )


def gatys2017(image, content, style, weights):
    """leongatys/NeuralImageSynthesis, BasicStyleTransfer.ipynb with LossLayers.lua, either scale.

    As in 2016, with the network that is not normalised; but Torch's Caffe loader pools odd sizes
    upwards. ScaleControl.ipynb minimises the same; only its style picture is made beforehand.
    """
    return gatys2016(image, content, style, weights, ceil=True)


def neural_style(image, content, style, weights):
    """ProGamerGov/neural-style-pt, neural_style.py.

    `Normalize(rgb2bgr(Loader(image) * 255))` since 2020-12-06, * 256 before; TVLoss sums the
    absolute differences of these pixels.
    """
    rgb = 255
    taps = (*RELUS, "relu4_2")
    g, c, s = (forward(picture, weights, taps) for picture in (image, content, style))
    return weighted(
        content=5 * mse(g["relu4_2"], c["relu4_2"]),
        style=100
        * sum(mse(gram(g[tap]) / g[tap].size, gram(s[tap]) / s[tap].size) for tap in RELUS),
        tv=1e-3 * sum(np.abs(rgb * step).sum() for step in steps(image)),
    )


def spst(image, content, style, weights):
    """bgalerne/scaling_painting_style_transfer, spst.py with vgg_by_blocks.py, at any one scale."""
    g, s = (forward(picture, weights, RELUS) for picture in (image, style))
    moments = 0.0
    for tap in RELUS:
        own, other = positions(g[tap]), positions(s[tap])
        moments += 1e4 * (mse(own.mean(0), other.mean(0)) + mse(own.std(0), other.std(0)))
    terms = gatys2016(image, content, style, weights)
    return terms | weighted(style=terms["style"] + moments)


def linearly(n, places):
    """Matrix of linear interpolation at so many places, the first and last values among them."""
    at = np.linspace(0, n - 1, places)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0)


def cosines(a, b):
    """Of all rows of two matrices."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def nnst(image, content, style, weights):
    """nkolkin13/NeuralNeighborStyleTransfer, style_transfer.py: both phases, at any one scale.

    With VGG-19's layers, no rotations, what is matched by the content alone, and as a sum of both.
    """
    taps = [
        f"relu{block}_{k}"
        for block, last in ((1, 2), (2, 2), (3, 3), (4, 3))
        for k in range(1, last + 1)
    ]
    g, c, s = (forward(picture, weights, {*taps, *RELUS}) for picture in (image, content, style))

    def columns(seen):
        h, w = (side // 4 for side in seen["relu1_1"].shape[:2])
        resized = [
            np.einsum("ih,hwc,jw->ijc", linearly(len(x), h), x, linearly(len(x[0]), w)) / x.shape[2]
            for x in (seen[tap] for tap in taps)
        ]
        return np.concatenate(resized, -1).reshape(h * w, -1)

    own, photograph, painting = columns(g), columns(c), columns(s)
    centred = (x - x.mean(0) for x in (photograph, painting))
    matched = painting[cosines(*centred).argmax(1)]
    first = np.mean(
        [1 - cosines(a[None], t[None])[0, 0] for a, t in zip(own, matched, strict=True)]
    )
    second = 0.0
    lambdas = zip(RELUS, (2e6, 2e6, 5e6, 2.5e7, 1.2e7), strict=True)
    for tap, weight in lambdas:
        a, b = (positions(x[tap]) for x in (g, s))
        second += weight * np.mean(1 - cosines(a - a.mean(0), b - b.mean(0)).max(1))
    return weighted(content=0, style=1e8 * first + 0.5 * second)


def matting(image, photo, epsilon):
    """V^T L V / windows, for the matting Laplacian L of Levin et al. 2008, window by window."""
    total, count = 0.0, 0
    image, photo = np.float64(image), np.float64(photo)
    for y in range(image.shape[0] - 2):
        for x in range(image.shape[1] - 2):
            colours, values = (p[y : y + 3, x : x + 3].reshape(9, 3) for p in (photo, image))
            centred = colours - colours.mean(0)
            inverse = np.linalg.inv(centred.T @ centred / 9 + epsilon / 9 * np.eye(3))
            laplacian = np.eye(9) - (1 + centred @ inverse @ centred.T) / 9
            total += np.trace(values.T @ laplacian @ values)
            count += 1
    return total / count


def deep_photo(image, content, style, weights):
    """luanfujun/deep-photo-styletransfer, deepmatting_seg.lua, at 700 x 466, with one region.

    Sums over the pixels of that size are means here, times as many. Its TVLoss is half the squared
    differences of pixels of 0 to 256; its Laplacian's epsilon is 1e-7, and 1e-5 here.
    """
    pixels = 700 * 466
    terms = neural_style(image, content, style, weights)
    down, right = steps(image)
    squares = (down**2).mean() + (right**2).mean()
    return weighted(
        content=terms["content"],
        style=terms["style"],
        tv=1e-3 / 2 * 256**2 * 3 * pixels * squares,
        matting=1e4 * pixels * matting(image, content, 1e-5),
    )


def newton_schulz(matrix, iterations=12):
    """The square root as crowsonkb takes it: so many iterations, converged or not."""
    norm = np.sqrt((matrix**2).sum())
    root, inverse = matrix / norm, np.eye(len(matrix))
    for _ in range(iterations):
        factor = (3 * np.eye(len(matrix)) - inverse @ root) / 2
        root, inverse = root @ factor, factor @ inverse
    return root * np.sqrt(norm)


def wasserstein(a, b, root=newton_schulz):
    """Squared Wasserstein-2 distance from a's activations to b's, both as Gaussians; by channel."""
    means, covariances = [], []
    for rows in (positions(a), positions(b)):
        means.append(rows.mean(0))
        centred = rows.T @ rows / len(rows) - np.outer(means[-1], means[-1])
        covariances.append(centred + 1e-4 * np.eye(len(centred)))
    half = root(covariances[1])
    cross = root(half @ covariances[0] @ half)
    return mse(*means) + np.diag(covariances[0] + covariances[1] - 2 * cross).mean()


def nine_point_variation(image):
    """crowsonkb's: squared differences to right, lower and both diagonal neighbours."""
    x = np.pad(np.float64(image), ((1, 1), (1, 1), (0, 0)), "edge")
    straight = x[1:-1, 2:] - x[1:-1, 1:-1], x[2:, 1:-1] - x[1:-1, 1:-1]
    diagonal = x[1:, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, 1:]
    return 2 * (
        sum((d**2).mean() / 3 for d in straight) + sum((d**2).mean() / 12 for d in diagonal)
    )


def crowsonkb(image, content, style, weights, pooling="max", root=newton_schulz):
    """crowsonkb/style-transfer-pytorch, style_transfer/style_transfer.py, at any one scale."""
    rescaled = {"max": 1.0, "average": 2.0, "l2": 0.78}[pooling]

    def run(picture):
        return forward(
            picture, weights, (*RELUS, "relu4_2"), lambda x: pool(x, pooling) * rescaled, "edge"
        )

    g, c, s = run(image), run(content), run(style)
    shares = zip(RELUS, (256, 64, 16, 4, 1), strict=True)
    return weighted(
        content=0.015 * mse(g["relu4_2"], c["relu4_2"]),
        style=sum(share / 341 * wasserstein(g[tap], s[tap], root) for tap, share in shares),
        tv=2 * nine_point_variation(image),
    )


def pastiche(image, content, style, weights):
    """dstein64/pastiche 1.6.0, pastiche/pastiche.py; its variation weighs nothing by default."""
    taps = (*RELUS, "relu4_2")
    g, c, s = (forward(picture, weights, taps) for picture in (image, content, style))
    return weighted(
        content=0.01 * mse(g["relu4_2"], c["relu4_2"]),
        style=sum(
            10 / g[tap].shape[-1] ** 2 * mse(mean_gram(g[tap]), mean_gram(s[tap])) for tap in RELUS
        ),
    )


def pytorch_tutorial(image, content, style, weights):
    """pytorch/tutorials, advanced_source/neural_style_tutorial.py: taps in front of the ReLUs."""
    taps = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
    g, c, s = (forward(picture, weights, taps) for picture in (image, content, style))
    return weighted(
        content=mse(g["conv2_2"], c["conv2_2"]),
        style=1e6
        * sum(mse(gram(g[tap]) / g[tap].size, gram(s[tap]) / s[tap].size) for tap in taps),
    )


def tensorflow_tutorial(image, content, style, weights):
    """tensorflow/docs, site/en/tutorials/generative/style_transfer.ipynb, the second run.

    Keras' block5_conv2 ends with its ReLU.
    """
    taps = (*RELUS, "relu5_2")
    g, c, s = (forward(picture, weights, taps) for picture in (image, content, style))
    return weighted(
        content=1e4 * mse(g["relu5_2"], c["relu5_2"]),
        style=1e-2 / 5 * sum(mse(mean_gram(g[tap]), mean_gram(s[tap])) for tap in RELUS),
        tv=30 * sum(np.abs(step).sum() for step in steps(image)),
    )


def keras_example(image, content, style, weights):
    """keras-team/keras-io, examples/generative/neural_style_transfer.py.

    The style picture has the painting's size. Sums are divided by the picture's pixels and three
    channels, whatever the layer; the content is not divided at all.
    """
    taps = (*RELUS, "relu5_2")
    g, c, s = (forward(picture, weights, taps) for picture in (image, content, style))
    pixels = image.shape[0] * image.shape[1]
    down, right = (255 * step for step in steps(image))
    squares = down[:, :-1] ** 2 + right[:-1] ** 2
    return weighted(
        content=2.5e-8 * ((g["relu5_2"] - c["relu5_2"]) ** 2).sum(),
        style=1e-6
        / 5
        * sum(((gram(s[tap]) - gram(g[tap])) ** 2).sum() for tap in RELUS)
        / (4 * 3**2 * pixels**2),
        tv=1e-6 * (squares**1.25).sum(),
    )
