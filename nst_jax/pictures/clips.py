"""Films: their frames one after the other, and frames written as a film.

It needs OpenCV, of the extra `film`. Sound, and H.264, need ffmpeg on the system.
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nst_jax import files
from nst_jax.errors import UnwritableError, UserError
from nst_jax.pictures import images
from nst_jax.pictures.flow import opencv
from nst_jax.pictures.images import Picture
from nst_jax.pictures.kinds import picture_files
from nst_jax.pictures.writers import FILM_CODECS

PICTURES_PER_SECOND = 25.0  # of numbered pictures
# A film may say that it has a few frames more than it has.
MISSING_FRAMES = 2


class Clip(NamedTuple):
    """A film, or numbered pictures.

    Attributes:
      name: as the user wrote it.
      fps: frames a second.
      length: how many frames it says it has; 0 if it does not.
      files: its files, in order.
      frames: from a frame on, counted from 1, yields [h, w, 3] float32 sRGB in [0, 1] each. Raises
        `UserError` at a frame that is damaged or has another size, and where the film ends early.
    """

    name: str
    fps: float
    length: int
    files: tuple[str, ...]
    frames: Callable[[int], Iterator[Picture]]

    def frames_from(self, first: int, last: int | None) -> int:
        """How many frames it says it has from `first` to `last`; None for its end."""
        end = self.length if last is None else min(last, self.length)
        return max(0, end - first + 1)


def open_clip(name: str) -> Clip:
    """Opens a film, or the pictures of a folder or pattern.

    Raises:
      UserError: it is missing, no film that OpenCV can read, or has no frames.
    """
    path = files.named(name)
    if path.is_dir() or (glob.has_magic(name) and not path.exists()):
        return _open_pictures(name, path)
    if not path.is_file():
        raise UserError(f"cannot read {name}: no such file")
    with _opened(path) as capture:
        cv2 = opencv()
        fps, count = (capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    known = 0 < fps < 1000
    return Clip(
        name,
        fps if known else PICTURES_PER_SECOND,
        max(0, int(count)),
        (name,),
        lambda first: _decoded(name, path, first),
    )


def _number(path: str) -> tuple[list[int], str]:
    """What numbered files are sorted by: frame2 comes before frame10."""
    return [int(digits) for digits in re.findall(r"\d+", Path(path).name)], path


def _open_pictures(name: str, path: Path) -> Clip:
    found = sorted(picture_files(path), key=_number)
    if not found:
        raise UserError(f"there are no pictures in {name}")
    return Clip(
        name, PICTURES_PER_SECOND, len(found), tuple(found), lambda first: _pictures(found, first)
    )


def _pictures(paths: Sequence[str], first: int) -> Iterator[Picture]:
    shape = None
    for path in paths[first - 1 :]:
        picture = images.read(path)
        shape = shape or picture.shape
        if picture.shape != shape:
            (height, width, _), (before, beside, _) = picture.shape, shape
            raise UserError(
                f"{path} has {width}x{height} pixels, and the frames before it {beside}x{before}; "
                "all frames of a film need one size"
            )
        yield picture


@contextlib.contextmanager
def _opened(path: Path):
    """OpenCV's capture of a film; it obeys the film's rotation."""
    cv2 = opencv()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError(f"{path} is no film that OpenCV can read, or it is damaged")
        yield capture
    finally:
        capture.release()


def _decoded(name: str, path: Path, first: int) -> Iterator[Picture]:
    with _opened(path) as capture:
        count, number, shape = int(capture.get(opencv().CAP_PROP_FRAME_COUNT)), 0, None
        while True:
            there, frame = capture.read()
            if not there:
                break
            number += 1
            if number < first:
                continue
            shape = shape or frame.shape
            if frame.shape != shape:
                raise UserError(f"frame {number} of {name} has another size than those before it")
            yield frame[..., ::-1].astype(np.float32) / 255
        if not number:
            raise UserError(f"{name} has no frame that can be decoded")
        if number < count - MISSING_FRAMES:
            raise UserError(
                f"{name} says that it has {count} frames, and ends after {number}: it is damaged; "
                f"--config.film.frames=:{number} paints those that are there"
            )


def write(path: Path, frames: Iterable[Path], fps: float):
    """Writes pictures as a film without sound, in the format of the suffix.

    Args:
      path: its suffix is a key of `FILM_CODECS`; replaced atomically.
      frames: picture files of one size.
      fps: frames a second.

    Raises:
      UserError: this OpenCV cannot write the format, or the disk is full.
    """
    cv2, writer = opencv(), None
    with files.replacing(path) as temporary:
        try:
            for frame in frames:
                pixels = images.quantized(images.read(frame, quiet=True), 8)[..., ::-1]
                if writer is None:
                    height, width, _ = pixels.shape
                    codec = cv2.VideoWriter_fourcc(*FILM_CODECS[path.suffix.lower()])
                    with _silent():  # it complains of the tags that WebM does not need
                        writer = cv2.VideoWriter(str(temporary), codec, fps, (width, height))
                    if not writer.isOpened():
                        raise UserError(
                            f"this OpenCV cannot write {path.name}; choose another suffix with "
                            f"--config.film.output: {', '.join(FILM_CODECS)}"
                        )
                writer.write(np.ascontiguousarray(pixels))
        finally:
            if writer is not None:
                writer.release()
        if not temporary.is_file() or not temporary.stat().st_size:
            raise UnwritableError(f"cannot write {path}: the disk may be full")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Sends what C writes to standard error nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def has_ffmpeg() -> bool:
    """Whether the system has ffmpeg."""
    return shutil.which("ffmpeg") is not None


def finish(path: Path, frames: Path, fps: float, sound: tuple[str, float, float] | None) -> str:
    """Writes a film anew by the system's ffmpeg: .mp4 as H.264, and with sound.

    Args:
      path: the film, from `write`; replaced atomically.
      frames: the folder of its numbered pictures.
      fps: frames a second.
      sound: a film whose sound it gets, if that has any, and from where to where, in seconds.

    Returns:
      What ffmpeg said if it failed, in one line; "" if not.
    """
    is_h264 = path.suffix.lower() == ".mp4"
    inputs = ["-framerate", str(fps), "-i", "%06d.png"] if is_h264 else ["-i", _url(path)]
    coding = ["-map", "0:v", "-c:v", "copy"]
    if is_h264:  # players want 4:2:0, which needs even sides
        coding = ["-map", "0:v", "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p"]
        coding += ["-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-movflags", "+faststart"]
    if sound is not None:
        source, start, end = sound
        inputs += ["-ss", str(start), "-t", str(end - start), "-i", _url(Path(source))]
        coding += ["-map", "1:a?"]
    with files.replacing(path) as temporary:
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-y", *inputs, *coding, _url(temporary)],
            cwd=frames,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.copyfile(path, temporary)
            return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return ""


def _url(path: Path) -> str:
    """A path as ffmpeg takes it, whatever characters are in it."""
    return f"file:{path.absolute()}"
