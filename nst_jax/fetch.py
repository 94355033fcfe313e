"""Fetches what is fetched at first use: VGG-19, and VGG-16 and LPIPS for metrics.

  python -m nst_jax.fetch

For machines that will be offline, such as the nodes of a cluster: run it where the network is. It
prints the files, which may be copied to the same folders elsewhere. What is there is left alone.
"""

from nst_jax import cli
from nst_jax.network import fetch


def main():
    """Fetches and prints the files."""
    for arch in fetch.SOURCES:
        cli.answer(fetch.find("", arch))
    fetch.lpips_heads()
    cli.answer(fetch.default_path("lpips"))


if __name__ == "__main__":
    cli.start(main)
