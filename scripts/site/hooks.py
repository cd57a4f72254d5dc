"""What MkDocs asks: the pages that are made at build time, and links that lead out of docs/."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import links
import made_pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = made_pages.all_pages()
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    for path in links.pages():
        files.append(File.generated(config, links.place(path), abs_src_path=str(links.ROOT / path)))
    wanted = made_pages.pictures()
    for file in files.documentation_pages():
        wanted |= {*links.linked(_in_clone(file), file.content_string)}
    for path in sorted(wanted):
        uri = links.place(path)
        if files.get_file_from_path(uri) is None and (links.ROOT / path).is_file():
            files.append(File.generated(config, uri, abs_src_path=str(links.ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return links.moved(_in_clone(page.file), markdown)


def _in_clone(file: File) -> str:
    """Returns the path of a page in the clone; pages that are made lie as if in docs/."""
    return next((path for path in links.pages() if links.place(path) == file.src_uri), f"docs/{file.src_uri}")
