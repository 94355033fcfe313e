"""Writes one page about several sweeps and runs, or that of a single one again.

  python -m nst_jax.report runs/style_weight runs/losses
  python -m nst_jax.report runs/style_weight runs/losses --output compared/report.html
  python -m nst_jax.report runs/style_weight

The page of several is report.html in the current folder, or the file that --output names. With
--output, results.csv, results.jsonl and results.parquet lie beside it. The report of a single
folder is written into it, as `nst_jax.sweep` does. The page's path is printed.

Exit codes: 0 written; 2 a folder that holds no sweep and no run, or a place that cannot be written.
"""

from pathlib import Path

from absl import flags

from nst_jax import cli, report
from nst_jax.errors import UserError

_WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a sweep or a run; may be repeated.")
_OUTPUT = flags.DEFINE_string("output", "", "File of the page; the tables are written beside it.")
_MAX_FOLDERS = 100_000


def main(*arguments: str):
    """Folders -> page; prints its path."""
    folders = [Path(folder) for folder in dict.fromkeys([*_WORKDIR.value, *arguments])]
    if not folders:
        raise UserError("name the folders of sweeps and runs, as in runs/style_weight runs/losses")
    if len(folders) == 1 and not _OUTPUT.value:
        cli.answer(report.write(*folders))
        return
    path = Path(_OUTPUT.value or "report.html")
    cli.answer(report.write_several(folders, path, has_tables=bool(_OUTPUT.value)))


if __name__ == "__main__":
    cli.start(main, takes=range(_MAX_FOLDERS))
