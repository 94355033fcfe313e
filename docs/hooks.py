"""What the site has besides docs/: the README and its like, settings, API pages, and their links.

A page has one source, which is read in the repository, too, so its links are turned here.
"""

import logging
import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nst_jax.config import rules, schema
from nst_jax.config.described import meanings

ROOT = Path(__file__).parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
# The key with which a section of the settings begins -> its title.
SECTIONS = {
    "content": "Pictures",
    "image_size": "Sizes and scales",
    "init": "Start",
    "arch": "Network",
    "content_losses": "Objective",
    "guides": "Regions",
    "color": "Colours",
    "optimizer": "Optimisation",
    "film": "Films",
    "axes": "Sweeps",
    "log_every": "Log and output",
}
_INTRODUCTION = """# Settings\n
Every key with its default and meaning, as `--config.help` prints them. `--config.KEY=VALUE` sets
it, `c.KEY = VALUE` in a config file, `stylize(..., KEY=VALUE)` in Python. [Controls](controls.md)
shows what the keys do."""
# Code, which is passed over, or the target of a link and its fragment.
_LINK = re.compile(r"```.*?```|`[^`\n]+`|(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?", re.S)

log = logging.getLogger("mkdocs.hooks")  # its warnings fail a strict build


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds what does not lie in docs/."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("images/*.jpg")):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    files.append(File.generated(config, "settings.md", content=settings()))
    for path in ROOT.glob("nst_jax/**/__init__.py"):
        uri = f"api/{path.parent.name}.md"
        files.append(File.generated(config, uri, content=api(path.parent)))


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Turns links between files of the repository into links of the site, or to the repository."""
    pages = {file.abs_src_path: file.src_uri for file in files}
    source = page.file.abs_src_path

    def turned(link: re.Match[str]) -> str:
        if not link[1] or not source:
            return link[0]
        target, fragment = (Path(source).parent / link[1]).resolve(), link[2] or ""
        if uri := pages.get(str(target)):
            return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri)) + fragment
        if not (target.exists() and target.is_relative_to(ROOT)):
            return link[0]  # MkDocs warns of it
        kind = "tree" if target.is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}{fragment}"

    return _LINK.sub(turned, markdown)


def api(folder: Path) -> str:
    """The page of a package: what it is, then its modules; of nst_jax itself, what it exports."""
    name = ".".join(folder.relative_to(ROOT).parts)
    if name == "nst_jax":
        return "::: nst_jax\n    options: {heading_level: 1}"
    modules = sorted(path.stem for path in folder.glob("[!_]*.py"))
    parts = [f"::: {name}\n    options: {{heading_level: 1, members: false}}"]
    return "\n\n".join([*parts, *(f"::: {name}.{module}" for module in modules)])


def settings() -> str:
    """The page of all keys: what `--config.help` prints, in sections, with what is allowed."""
    said, values = meanings(), schema.flat(schema.default())
    for key in SECTIONS.keys() - said.keys():
        log.warning("a section of the settings begins with %s, which is no key", key)
    parts = [_INTRODUCTION]
    for key, meaning in said.items():
        if key in SECTIONS:
            parts.append(f"## {SECTIONS[key]}")
        if meaning:
            default = f" = `{values[key]!r}`" if key in values else ""
            parts.append(f'### `{key}`{default} {{ #{key} data-toc-label="{key}" }}\n\n{meaning}')
        allowed = rules.RULES[key][1] if key in rules.RULES else ""
        if not all(choice in meaning for choice in allowed.split(" or ")):
            parts.append(f"Allowed: {allowed}.")
    return "\n\n".join(parts)
