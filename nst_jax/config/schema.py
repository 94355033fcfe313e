"""The schema: every config key once, with its default, its unit and its meaning.

A config file is `default()` and a few assignments. `nst_jax.config.parsing` turns it into an
`Experiment`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict, config_dict

# A ConfigDict with the keys of `default`, which type checkers cannot know.
if TYPE_CHECKING:
    Config = Any
else:
    Config = ConfigDict


def default() -> Config:
    """Every key with its default value. The config is locked: a misspelt key is an error."""
    c = ConfigDict()
    c.content = ""  # content picture, a file; "" for none (texture synthesis)
    # Style pictures: "a.jpg", "a.jpg:3, b.jpg:1" with weights, or in config files a tuple of names
    # or of pairs (name, weight). A name with a comma or colon is quoted: "'a, b.jpg':3, c.jpg".
    # "" for none (reconstruction of the content).
    c.style = config_dict.FieldReference("", field_type=object)
    c.blend = "targets"  # several styles: mix their statistics ("targets") or "losses"
    c.interpolate = 0  # paintings from the first style to the second; 0 for one painting

    # Of the output; 0: the content picture's own, and `side` is "long". Sizes are longer sides, in
    # pixels, or what `side` says.
    c.image_size = 384
    c.style_scale = 1.0  # of the style pictures, relative to the output, at every scale
    c.style_size = 0  # of the style pictures, whatever the output's; 0: style_scale decides
    # What sizes mean: the "long" side, the "short" side, the "height" or the root of the "area".
    c.side = "long"
    c.resample = "lanczos"  # how pictures get their sizes: a key of sizes.FILTERS
    c.pyramid = ConfigDict()  # coarse to fine: paint small first, enlarge, go on
    c.pyramid.min_size = 0  # lower bound of the smallest scale; 0: only image_size
    c.pyramid.factor = 2**0.5  # from one scale to the next
    c.pyramid.first_steps = 200  # optimiser steps at the smallest scale
    c.pyramid.steps = 100  # at every scale between the smallest and the last, which has `steps`

    c.init = ConfigDict()
    # Where the pixels start: "content", "style" (stretched), "gray" (0.5), "mean" (the network's
    # mean colour), "style_statistics" (noise with the style's mean and deviation), or a file.
    c.init.picture = "content"
    c.init.noise = 0.0  # its share, 0 to 1 (1: nothing but noise); of "normal" the deviation
    # "uniform" and "near_mean" (within 20/255 of the network's mean colour) are blended into the
    # picture, "normal" is added to it.
    c.init.noise_kind = "uniform"

    c.arch = "vgg19"  # "vgg19" or "vgg16"
    c.weights = ""  # converted weights, a file; "" for the project's own, fetched once
    # Pictures over which every channel is rescaled to a mean activation of 1 (Gatys et al. 2015):
    # "content, style", files, or both; "" leaves the network as trained.
    c.normalize_network = ""
    c.pooling = "max"  # a key of rules.POOLINGS
    c.padding = "zero"  # outside the picture: a key of rules.PADDINGS; "circular" makes it tile

    # Recompute activations: half their memory, a third more time; in tiles, the content targets.
    c.rematerialize = False
    # The objective is computed in tiles of this side, in pixels, a multiple of 16: the same value
    # for the memory of one tile. 0: whole; -1: whole where that fits the device, else in tiles.
    c.tile = -1
    # Devices that share one picture, each some of its rows: 0 for one device, -1 for all there are.
    c.split = 0
    c.convolution = "auto"  # "direct", "winograd" (2e-5 off), or the faster one for each layer

    # J = alpha J_content + beta J_style + tv_weight TV

    c.content_losses = "squared"  # "loss:weight(layers), ...", summed; keys of rules.CONTENT_LOSSES
    c.content_layers = ""  # "tap:lambda, ..." for losses without layers; "" for their own
    c.style_losses = "gram"  # "loss:weight(layers), ...", summed; keys of rules.STYLE_LOSSES
    c.style_layers = ""  # "tap:lambda, ..." for losses without layers; "" for their own
    c.tv_loss = "squared"  # total variation: a key of rules.TV_LOSSES
    c.alpha = 1.0  # weight of content
    c.beta = 0.02  # weight of style
    c.tv_weight = 1e6  # weight of total variation
    # Weight of the matting loss of Luan et al. 2017: every 3x3 window is an affine recolouring of
    # the photograph's. With the weights of presets/deep_photo.py, 1e9 and more keep edges straight;
    # 0: none.
    c.matting_weight = 0.0
    # Weight of the spectrum loss of Liu et al. 2016, which keeps the periods of a texture, such as
    # 1e7; 0: none.
    c.spectrum_weight = 0.0
    c.normalize_gradients = False  # scale every layer's gradient to L1 norm 1, before its lambda

    # Regions: "sky=a.png, house=b.png" (grayscale masks) or one colour-coded picture.
    c.guides = ConfigDict()
    c.guides.content = ""  # regions of the output
    c.guides.style = ""  # regions of the style picture; ";" between those of several
    c.guides.weights = ""  # "sky:2, house:0.5"; a region without a weight weighs 1
    c.guides.propagation = "simple"  # how masks reach the layers: "simple", "inside" or "all"
    c.guides.content_weight = ""  # grayscale picture: how much content counts where; "" for 1

    c.color = ConfigDict()
    c.color.mode = "style"  # a key of rules.COLOR_MODES
    c.color.space = "yuv"  # of "luminance" and "recombine": "yuv", "yiq" or "lab"
    c.color.guided = False  # recolour the style region by region
    # 0 to 1: give the finished painting the photograph's edges and textures; 0.5 keeps those of up
    # to 1/64 of the longer side. The painting's light and colours stay.
    c.color.photorealism = 0.0

    c.optimizer = ConfigDict()
    c.optimizer.name = "adam"  # "adam", "sgd" or "lbfgs"
    c.optimizer.learning_rate = 0.04  # adam: pixel units a step; sgd: a factor; lbfgs has none
    c.optimizer.decay = 1.0  # factor on the learning rate at every step; restarts at every scale
    # adam, sgd: halve the learning rate after so many steps on a plateau, steps in which the loss
    # has not fallen by 1 %; 0: never.
    c.optimizer.patience = 0
    c.optimizer.b1 = 0.9  # adam: decay of the mean gradient
    # adam: decay of the mean squared gradient. 0.99 instead of the usual 0.999, because the
    # gradient of an image changes its scale within 100 steps.
    c.optimizer.b2 = 0.99
    c.optimizer.eps = 1e-8  # adam
    # lbfgs: pairs of steps and gradients that it keeps; 0: 20, and 5 above 4 million pixels.
    c.optimizer.memory = 0
    c.optimizer.average = 0.0  # decay of a moving average of the iterates, in [0, 1); 0: none
    c.parameterization = "pixels"  # what the optimiser steps: "pixels" or "fourier"
    c.steps = 200  # optimiser steps; each evaluates the objective and its gradient once
    c.seed = 0  # of the noise, and of losses that draw
    # Of the network: "float32"; "tensorfloat32", for matrix products on NVIDIA GPUs (3 bfloat16
    # passes on TPUs, no change on CPUs); or "bfloat16", for activations and their gradients, too,
    # on GPUs and TPUs (a CPU takes longer). The picture and the losses are always float32.
    c.precision = "float32"

    # Of a film, which python -m nst_jax.film paints. config.content is a clip then, or a folder or
    # pattern of numbered pictures, and config.steps is for frames with nothing before them.
    c.film = ConfigDict()
    c.film.frames = ""  # "first:last", counted from 1; "" for all
    c.film.steps = 20  # optimiser steps, at every scale, of a frame that continues
    # adam, sgd: of such a frame; a larger one would paint over what it starts from.
    c.film.learning_rate = 0.01
    c.film.temporal_weight = 1e7  # of the difference from the warped frames before
    c.film.long_term = "1, 2, 4"  # so many frames back: what comes out again keeps its strokes
    c.film.passes = 1  # over the whole film, forth and back in turns
    # The mean brightness changes from frame to frame as the source's, not towards the style's.
    c.film.hold_brightness = True
    c.film.fps = 0.0  # frames a second; 0: the clip's, and 25 of pictures
    # File name of the film: .webm (VP9), .mp4 (H.264 with sound where ffmpeg is installed, else
    # MPEG-4), .avi (Motion JPEG) or .mkv (VP9).
    c.film.output = "film.webm"

    c.axes = ()  # what a sweep varies, from nst_jax.config.axes; () for a single experiment

    c.log_every = 10  # steps between two log lines, and in one dispatch at most
    c.checkpoint_every = 60.0  # seconds between two checkpoints, from which a run resumes; 0: none
    c.save_every = 50  # steps between two pictures in frames/; 0: none
    c.output = "final.png"  # file name in the work directory; .png, .jpg, .webp or .tif
    c.bits = 8  # of a channel of the output: 8, or 16 (.png, .tif)
    c.keep_alpha = False  # give the output the content picture's transparency
    c.metrics = False  # measure the painting at the end: LPIPS, SSIM, style distance
    c.tensorboard = False  # write the terms and the painting as TensorBoard events, too
    c.animation = ""  # file name for the frames as a film; .gif, .webp or .png; "" for none
    return c.lock()


def flat(c: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All values by their full key: {"optimizer.name": "adam", ...}; of config.json, too."""
    values: dict[str, Any] = {}
    for key, value in c.items():
        if isinstance(value, ConfigDict | dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`: {"optimizer": {"name": "adam"}, ...}."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *groups, last = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return tree
