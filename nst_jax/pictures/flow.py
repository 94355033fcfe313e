"""Optical flow between two frames of a film, warping by it, and where it can be trusted.

A flow [h, w, 2] says for every pixel of a frame where it lies in another frame: at
(x + flow[y, x, 0], y + flow[y, x, 1]), in pixels. It needs OpenCV, of the extra `film`.
"""

import os
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from nst_jax.errors import UserError
from nst_jax.pictures import images
from nst_jax.pictures.images import Picture

Flow = Float[np.ndarray, "h w 2"]
Plane = Float[np.ndarray, "h w"]

MIN_SIDE = 16  # pixels; DIS divides a frame into patches and halves it several times


def opencv() -> Any:
    """OpenCV.

    Raises:
      UserError: it is not installed.
    """
    # What is wrong with a film is said in a line of ours.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2  # an extra
    except ImportError as error:
        raise UserError(
            f'films need OpenCV, and importing cv2 failed ({error}); pip install "nst_jax[film]"'
        ) from None
    return cv2


def flow(now: Picture, other: Picture) -> Flow:
    """The flow from a frame to another, by dense inverse search.

    Args:
      now: [h, w, 3] sRGB in [0, 1].
      other: the same, of the same shape.

    References:
      Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search"
      (https://arxiv.org/abs/1603.03590); OpenCV's preset "medium".
    """
    cv2 = opencv()
    gray = [cv2.cvtColor(images.quantized(frame, 8), cv2.COLOR_RGB2GRAY) for frame in (now, other)]
    height, width = gray[0].shape
    below, beside = max(0, MIN_SIDE - height), max(0, MIN_SIDE - width)
    gray = [np.pad(one, ((0, below), (0, beside)), "edge") for one in gray]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(*gray, None)[:height, :width]


def warp(other: np.ndarray, flow: Flow, *, sharply: bool = False) -> np.ndarray:
    """What a frame shows where the flow points to: other(p + flow(p)).

    Beyond the edges they are replicated.

    Args:
      other: [h, w] or [h, w, c] float32.
      flow: to it.
      sharply: interpolate by Lanczos' filter over 8 x 8 pixels, which keeps detail and may leave
        the range of the values; otherwise bilinearly.
    """
    cv2 = opencv()
    height, width = flow.shape[:2]
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    places = xs + flow[..., 0], ys + flow[..., 1]
    how = cv2.INTER_LANCZOS4 if sharply else cv2.INTER_LINEAR
    return cv2.remap(other, *places, how, borderMode=cv2.BORDER_REPLICATE)


def reliable(there: Flow, back: Flow) -> Bool[np.ndarray, "h w"]:
    """Where a flow can be trusted: pixels seen in both frames, and not at the edge of a motion.

    A pixel of which the flow there and the flow back do not meet was hidden in the other frame or
    is not found in it: |there + back'|^2 > 0.01 (|there|^2 + |back'|^2) + 0.5, where back' is the
    flow back at the place to which the flow points. At the edge of a motion,
    |grad there|^2 > 0.01 |there|^2 + 0.002.

    Args:
      there: from the frame to the other.
      back: from the other to the frame.

    References:
      Sundaram, Brox & Keutzer 2010, "Dense Point Trajectories by GPU-accelerated Large
      Displacement Optical Flow", section 3.
      Ruder, Dosovitskiy & Brox 2016 (https://arxiv.org/abs/1604.08610), section 4.3.
    """
    height, width = there.shape[:2]
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    at_x, at_y = xs + there[..., 0], ys + there[..., 1]
    inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    returned = warp(back, there)
    gap = np.square(there + returned).sum(-1)
    lengths = np.square(there).sum(-1)
    meets = gap <= 0.01 * (lengths + np.square(returned).sum(-1)) + 0.5
    down, right = np.gradient(there, axis=(0, 1))
    slope = np.square(down).sum(-1) + np.square(right).sum(-1)
    return inside & meets & (slope <= 0.01 * lengths + 0.002)
