"""YAML 1.2: `no` is a word and `1e-3` a number, unlike in PyYAML's version 1.1."""

import re
from pathlib import Path

import yaml
from yamlcore import CCoreDumper, CCoreLoader

from genhub.utils.reading import FileError, check_yaml, checked_copy, one_line, read_text

LARGEST = 2**20  # bytes of a recipe


class _Dumper(CCoreDumper):
    """Quotes each word that either version would read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


for _first, _resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def comment_of(text: str) -> str:
    """Returns the leading comment of a recipe as YAML."""
    return re.findall(r"\A(?:#.*\n)*", text)[0]


def read_yaml(text: str, source: object = "the text") -> object:
    """Parses YAML 1.2 by its core schema; an alias is a copy of what it names.

    Args:
        source: what the error names.

    Raises:
        FileError: the text is not YAML, repeats a key, holds itself, or is beyond the limits of `checked_copy`.
    """
    try:
        if len(text) > LARGEST:
            raise FileError(source, f"it has more than {LARGEST:,} characters")
        check_yaml(text, source, CCoreLoader)
        return checked_copy(yaml.load(text, CCoreLoader), source)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise (
            error if isinstance(error, FileError) else FileError(source, f"it is not YAML: {one_line(error)}")
        ) from error


def read_yaml_file(path: Path) -> object:
    """Reads a YAML file as `read_yaml` does.

    Raises:
        FileError: as `read_yaml`, or it is not there, no regular file, or not UTF-8.
    """
    return read_yaml(read_text(path, LARGEST), path)


def write_yaml(value: object) -> str:
    """Formats `value` as YAML that readers of versions 1.1 and 1.2 take for the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
