"""YAML 1.2: `no` is a word and `1e-3` a number, unlike in PyYAML's version 1.1."""

import yaml
from yamlcore import CCoreDumper, CCoreLoader


class _Dumper(CCoreDumper):
    """Quotes each word that either version would read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


for _first, _resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def read_yaml(text: str) -> object:
    """Parses YAML 1.2 by its core schema; an alias is a copy of what it names.

    Raises:
        yaml.YAMLError: the text is not YAML, repeats a key, or holds itself.
    """
    try:
        return _copy(yaml.load(text, CCoreLoader))
    except RecursionError as error:
        raise yaml.YAMLError("an alias stands within what it names") from error


def write_yaml(value: object) -> str:
    """Formats `value` as YAML that readers of versions 1.1 and 1.2 take for the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def _copy(value: object) -> object:
    """Copies nested lists and dicts; unlike `copy.deepcopy`, aliases become separate objects."""
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list) else value
