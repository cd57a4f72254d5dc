"""YAML by the core schema of its version 1.2 (yaml.org/spec/1.2.2, Sec. 10.3), but for octal numbers, which are words
here: PyYAML reads 1.1, where `no` is false, `1e-3` a word, `010` is 8 and `1:30` is 90."""

import re

import yaml

BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))
PATTERNS = {  # what is read as such, and by which characters it may start
    BOOL: (r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    INT: (r"[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    FLOAT: (
        r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        "-+.0123456789",
    ),
}
OTHERS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")  # as they are


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag in OTHERS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """Quotes the words that either version would take for something else."""


for tag, (pattern, first) in PATTERNS.items():
    _Loader.add_implicit_resolver(tag, re.compile(pattern), [*first])
    _Dumper.add_implicit_resolver(tag, re.compile(pattern), [*first])


def read_yaml(text: str) -> object:
    """Returns what a text of YAML says.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, _Loader)


def write_yaml(value: object) -> str:
    """Returns `value` as YAML, which both versions read alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
