"""Neural style transfer in JAX.

  nst-jax paint me.jpg painting.jpg -o out.png   paint a photograph in the style of a painting
  nst-jax run --config starry                    one experiment, described by a config
  nst-jax sweep --config ablations/style_weight  many experiments, and a page about them
  nst-jax film clip.mp4 painting.jpg             a film, without flicker
  nst-jax watch runs/NAME                        follow a run or a sweep in a browser
  nst-jax report runs/A runs/B                   one page about several sweeps and runs
  nst-jax studio                                 a page in which pictures are painted
  nst-jax configs                                the shipped configs
  nst-jax fetch                                  fetch the networks now, to work offline later

"python -m nst_jax" is the same. Each has --help.
"""

import difflib
import runpy
import sys

from nst_jax import cli, config
from nst_jax.errors import UserError

DOORS = ("paint", "run", "sweep", "film", "watch", "report", "studio", "fetch")
ANSWERS = {
    "configs": lambda: "\n".join(config.names()),
    **dict.fromkeys(("--help", "-h", "help"), lambda: str(__doc__).strip()),
}


def main():
    """Gives the command line to one of the commands."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ANSWERS:
        try:
            cli.answer(ANSWERS[name]())
        except UserError as error:  # nobody reads it
            cli.fail(error)
    elif name in DOORS:
        sys.argv[:2] = [name]
        runpy.run_module(f"nst_jax.{name}", run_name="__main__", alter_sys=True)
    else:
        near = difflib.get_close_matches(name, (*DOORS, "configs"), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DOORS)}, configs"
        cli.fail(f"unknown command {name!r}; {hint}")


if __name__ == "__main__":
    main()
