"""The experiment: what a config asks for, parsed once into frozen dataclasses.

Nothing below the door reads a config key or parses a string: it takes one of these. Every field is
a number, a name from a table, a file name, a tuple or a mapping. What two experiments must share to
share a compiled program is equality of the static parts: `Network`, `OptimizerStatic` and `Scale`
here, and `nst_jax.transfer.problem.Static`, which gathers them.

This module imports no JAX, so that a mistake in a config is reported at once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from nst_jax.optimize.options import OptimizerStatic, Rates
from nst_jax.pictures.sizes import Sizing


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pixels:
    """A picture that a Python caller handed over, instead of a file.

    Attributes:
      array: [h, w, 3], uint8, or floats in [0, 1].
      name: what messages call it, such as "the content picture".
    """

    array: np.ndarray
    name: str

    def __repr__(self) -> str:
        """The name: messages do not quote pixels."""
        return self.name


# A picture: a file, named as the user named it, or pixels.
Source = str | Pixels


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """A style picture and its share of the style.

    Attributes:
      picture: the file or the pixels.
      share: >= 0; the shares of an experiment sum to 1.
    """

    picture: Source
    share: float


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A region of a picture.

    Attributes:
      name: regions of the same name belong together.
      mask: a grayscale file, white inside; "" for the whole picture.
    """

    name: str
    mask: str


# The regions of a picture: a mask each, or one colour-coded file. (): none.
Guide = tuple[Region, ...] | str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guides:
    """Spatial guides: which region of the output takes its style from which of the style pictures.

    Attributes:
      content: the regions of the output; () without guides.
      styles: the regions of each style picture.
      propagation: how masks reach the layers, a key of `network.receptive.PROPAGATIONS`.
    """

    content: Guide
    styles: tuple[Guide, ...]
    propagation: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the pixels start.

    Attributes:
      kind: a key of `transfer.starts.STARTS`; "file" reads `file`.
      file: a picture, or "".
      noise: the share of the noise, 0 to 1; normal noise: its standard deviation.
      noise_kind: a key of `transfer.starts.NOISES`: "normal" is added, the others are blended.
    """

    kind: str
    file: str
    noise: float
    noise_kind: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Color:
    """Whose colours the painting has.

    Attributes:
      mode: a key of `rules.COLOR_MODES`.
      space: "yuv", "yiq" or "lab"; where luminance and chroma are told apart.
      guided: recolour the style region by region.
      photorealism: how much detail of the photograph the finished painting gets, 0 to 1.
    """

    mode: str
    space: str
    guided: bool
    photorealism: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The pictures of an experiment.

    Attributes:
      content: None for texture synthesis.
      styles: () for a reconstruction of the content.
      start: where the pixels start.
      guides: regions of the output and of the style pictures.
      content_weight: a grayscale file, how much the content counts where; "" for 1 everywhere.
      color: whose colours the painting has.
      sizing: what sizes mean, and how pictures are resampled.
    """

    content: Source | None
    styles: tuple[Style, ...]
    start: Start
    guides: Guides
    content_weight: str
    color: Color
    sizing: Sizing

    @property
    def files(self) -> tuple[str, ...]:
        """Every file among them, in a fixed order; one named twice is there twice."""
        named = [self.content, *(style.picture for style in self.styles), self.content_weight]
        named.append(self.start.file)
        for guide in (self.guides.content, *self.guides.styles):
            named += [guide] if isinstance(guide, str) else [region.mask for region in guide]
        return tuple(source for source in named if isinstance(source, str) and source)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The pretrained network. All of it is static.

    Attributes:
      arch: "vgg19" or "vgg16".
      weights: a converted file; "" for the default one.
      pooling: a key of `network.vgg.POOLINGS`.
      padding: a key of `network.vgg.PADDINGS`.
      convolution: one of `network.convolution.METHODS`.
      rematerialize: recompute activations in the backward pass instead of keeping them.
      tile: the longest side of tiles in pixels; 0 for whole pictures, -1 for what fits.
      split: devices that share the rows of a picture; 0 for one device, -1 for all there are.
      precision: "float32", "tensorfloat32" or "bfloat16".
      normalize: pictures over which every channel is rescaled to a mean activation of 1: "content",
        "style", or files. () leaves the network as trained.
    """

    arch: str
    weights: str
    pooling: str
    padding: str
    convolution: str
    rematerialize: bool
    tile: int
    split: int
    precision: str
    normalize: tuple[str, ...]

    @property
    def rounds_up(self) -> bool:
        """Whether pooling halves odd sides rounding up."""
        return self.pooling == "max_ceil"


@dataclasses.dataclass(frozen=True, slots=True)
class LossTerm:
    """One loss and the layers that it looks at.

    Attributes:
      name: a key of `losses.content.CONTENT` or `losses.style.STYLE`.
      layers: tap -> lambda, >= 0, the weight of the loss multiplied in.
    """

    name: str
    layers: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """J = alpha J_content + beta J_style + tv_weight TV.

    Attributes:
      content, style: losses, summed; () where the experiment has no such picture.
      tv_loss: a key of `losses.smoothness.SMOOTHNESS`.
      alpha, beta, tv_weight: weights of content, style and total variation, >= 0.
      matting_weight, spectrum_weight: of losses of the pixels themselves, >= 0; 0 for none.
      blend: several style pictures: mix their statistics ("targets") or "losses".
      normalize_gradients: scale the gradient of every layer to L1 norm 1, before its lambda.
      region_weights: region -> weight, >= 0; a region that is absent weighs 1.
    """

    content: tuple[LossTerm, ...]
    style: tuple[LossTerm, ...]
    tv_loss: str
    alpha: float
    beta: float
    tv_weight: float
    matting_weight: float
    spectrum_weight: float
    blend: str
    normalize_gradients: bool
    region_weights: Mapping[str, float]

    @property
    def taps(self) -> tuple[str, ...]:
        """Every tap that a loss looks at, each once."""
        terms = (*self.content, *self.style)
        return tuple(dict.fromkeys(tap for term in terms for tap in term.layers))


@dataclasses.dataclass(frozen=True, slots=True)
class Optimizer:
    """The optimiser: what recompiles and what does not.

    Attributes:
      static: kind, memory, parameterization, precision.
      rates: learning rate and the like; traced.
    """

    static: OptimizerStatic
    rates: Rates


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """One size of a pyramid.

    Attributes:
      size: of the output, in pixels; `Inputs.sizing` says of which side.
      style_size: of the style pictures.
      steps: optimiser steps at this size, >= 1.
    """

    size: int
    style_size: int
    steps: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is written, and when.

    Attributes:
      painting: file name in the work directory.
      bits: of a channel, 8 or 16.
      keep_alpha: give the painting the transparency of the content picture.
      animation: file name of a film of frames/; "" for none.
      metrics: measure the painting at the end.
      tensorboard: write TensorBoard events, too.
      log_every: steps between two lines of metrics.jsonl.
      save_every: steps between two pictures in frames/; 0 for none.
      checkpoint_seconds: seconds between two checkpoints; 0 for none.
    """

    painting: str
    bits: int
    keep_alpha: bool
    animation: str
    metrics: bool
    tensorboard: bool
    log_every: int
    save_every: int
    checkpoint_seconds: float

    def is_shown(self, step: int) -> bool:
        """Whether a step of the whole run has a line in metrics.jsonl or a picture in frames/."""
        return step % self.log_every == 0 or self.is_frame(step)

    def is_frame(self, step: int) -> bool:
        """Whether a step of the whole run has a picture in frames/."""
        return self.save_every > 0 and step % self.save_every == 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """How a film is painted, whose frames are the content pictures of an experiment.

    Attributes:
      first, last: the frames to paint, counted from 1; `last` is None for the clip's last.
      steps, learning_rate: at every scale, of a frame that starts from the frame before.
      temporal_weight: of the difference from the warped frames before.
      long_term: so many frames back, ascending.
      passes: over the whole film.
      holds_brightness: whether the mean brightness changes as the source's.
      fps: frames a second; 0 for the clip's own.
      output: file name in the work directory.
    """

    first: int
    last: int | None
    steps: int
    learning_rate: float
    temporal_weight: float
    long_term: tuple[int, ...]
    passes: int
    holds_brightness: bool
    fps: float
    output: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A config, parsed.

    Attributes:
      inputs: the pictures.
      network: the pretrained network.
      objective: what is minimised.
      optimizer: how.
      scales: coarse to fine; the last has the size of the output.
      seed: of the noise in the start and of losses that draw.
      interpolate: number of paintings from the first style to the second; 0 for one painting.
      output: what is written.
      film: how a film is painted.
      raw: the config itself, nested, as config.json has it.
    """

    inputs: Inputs
    network: Network
    objective: Objective
    optimizer: Optimizer
    scales: tuple[Scale, ...]
    seed: int
    interpolate: int
    output: Output
    film: Film
    raw: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Optimiser steps at all scales together."""
        return sum(scale.steps for scale in self.scales)

    def weighed(self, step: int) -> float:
        """The first steps of the run, counted as steps at the last scale, by pixels.

        Args:
          step: how many steps, of all scales together.
        """
        whole = 0.0
        for scale in self.scales:
            taken = min(step, scale.steps)
            whole += taken * (scale.size / self.size) ** 2
            step -= taken
        return whole

    @property
    def size(self) -> int:
        """Of the output, in pixels; `Inputs.sizing` says of which side."""
        return self.scales[-1].size

    @property
    def files(self) -> tuple[str, ...]:
        """Every picture file that the experiment reads."""
        others = (name for name in self.network.normalize if name not in ("content", "style"))
        return (*self.inputs.files, *others)

    def between(self, place: float) -> "Experiment":
        """The experiment with its style at a place from 0, its first picture, to 1, its second."""
        first, second, *others = (style.picture for style in self.inputs.styles)
        styles = Style(first, 1 - place), Style(second, place), *(Style(one, 0.0) for one in others)
        inputs = dataclasses.replace(self.inputs, styles=styles)
        return dataclasses.replace(self, inputs=inputs, interpolate=0)

    def paintings(self) -> tuple["Experiment", ...]:
        """One experiment for each painting: itself, or those that `interpolate` asks for."""
        if not self.interpolate:
            return (self,)
        return tuple(self.between(k / (self.interpolate - 1)) for k in range(self.interpolate))
