"""Compares ways to paint a film: how much each flickers, at what loss, and what a frame takes.

  pip install -e ".[film]"
  python scripts/film_ways.py --config film --config.content=clip.mp4 --config.film.frames=1:60

"warp error" is the flicker of the paintings relative to that of the source's frames
(docs/film.md), "loss" the mean objective of the frames without its temporal term, "drift" the
largest change of their brightness relative to the source's, "flow" the share of the time that
optical flow and warping take. Every way takes config.film.steps a frame, and config.steps for the
first; "at length alone" takes config.steps for all.

2 CPU cores, 60 frames of 256x109 pixels, 20 steps: some 3 minutes a way.
"""

import copy
import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from nst_jax import cli
from nst_jax.config import grammar
from nst_jax.errors import UserError

if TYPE_CHECKING:
    from nst_jax.transfer.frames import Film

cli.define_config("Config file of a film, e.g. configs/film.py.")
_WAYS = flags.DEFINE_string("ways", "", "Ways, by the start of their names; all if empty.")

# Way -> config keys; those with "alone" paint every frame by itself.
FREE: dict[str, object] = {"film.hold_brightness": False}
WAYS: dict[str, dict[str, object]] = {
    "alone": {},
    "at length alone": {},
    "warped start": FREE | {"film.temporal_weight": 0.0, "film.long_term": "1"},
    "temporal": FREE | {"film.long_term": "1"},
    "long-term": FREE,
    "two passes": FREE | {"film.passes": 2},
    "held brightness": {},
    "held in two passes": {"film.passes": 2},
    "coarse to fine": {"pyramid.min_size": 128},
}


def main():
    """Prints the table."""
    from nst_jax.transfer import frames
    from nst_jax.transfer.cache import SHARED
    from nst_jax.transfer.settings import own_settings

    given, _ = cli.given_config()
    wanted = tuple(grammar.words(_WAYS.value))
    print(f"{'':<22}warp error      loss   drift  s/frame   flow")
    for way, values in WAYS.items():
        if wanted and not way.startswith(wanted):
            continue
        own = copy.deepcopy(given)
        own.update_from_flattened_dict(values)
        if way == "alone":
            own.steps = own.film.steps
        clip, experiment = cli.given_clip(own)
        if not clip.length:
            raise UserError(f"{clip.name} has no frames")
        settings = experiment.film
        with own_settings():
            film = frames.prepared(experiment, SHARED)
            count = clip.frames_from(settings.first, settings.last)
            sources = [
                frames.fitted(film, frame)
                for frame in itertools.islice(clip.frames(settings.first), count)
            ]
            alone = way.endswith("alone")
            print(f"{way:<22}{measured(film, sources, alone)}", flush=True)


def measured(film: "Film", sources: Sequence[np.ndarray], alone: bool) -> str:
    """The cells of a way."""
    from nst_jax.transfer import frames
    from nst_jax.transfer.frames import Frame

    settings, spent = film.experiment.film, [0.0]
    carried_over = frames.carried_over

    def timed(*arguments):
        start = time.perf_counter()
        result = carried_over(*arguments)
        spent[0] += time.perf_counter() - start
        return result

    frames.carried_over = timed
    paintings: dict[int, np.ndarray] = {}
    losses: dict[int, float] = {}
    started, since = time.perf_counter(), 0.0
    for turn in range(settings.passes):
        order = range(len(sources))
        back = 1 if turn % 2 == 0 else -1
        earlier = dict(paintings)
        for number in order[::back]:
            others = [number - back * offset for offset in settings.long_term]
            known = [Frame(sources[k], paintings[k]) for k in others if 0 <= k < len(sources)]
            own = earlier.get(number)
            if alone:
                known = []
            painted = frames.paint_frame(film, sources[number], known, own)
            paintings[number] = painted.painting
            terms = painted.terms
            weight = 0.0 if alone or not painted.known else settings.temporal_weight
            losses[number] = terms["total"] - weight * terms["temporal"]
            if turn == number == 0:  # the first frame compiles, and takes steps of its own
                since, spent[0] = time.perf_counter() - started, 0.0
    frames.carried_over = carried_over
    seconds = time.perf_counter() - started - since
    pairs = [Frame(source, paintings[k]) for k, source in enumerate(sources)]
    flicker = [frames.flicker(*pair) for pair in itertools.pairwise(pairs)]
    ratios = np.array([pair.painting.mean() / pair.source.mean() for pair in pairs])
    return (
        f"{frames.warp_error(flicker):>10.2f}{np.mean([*losses.values()]):>10.3g}"
        f"{np.max(np.abs(ratios / ratios[0] - 1)):>8.1%}"
        f"{seconds / (len(sources) * settings.passes - 1):>9.2f}{spent[0] / seconds:>7.1%}"
    )


if __name__ == "__main__":
    cli.start(main)
