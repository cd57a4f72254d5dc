"""Values of a recipe, a scheduler or a call on the command line: `--section.key VALUE`."""


def split_overrides(words: list[str]) -> tuple[list[str], dict[str, object]]:
    """Splits the words into plain ones and the values of `--section.key VALUE` or `--section.key=VALUE`, read as YAML.

    Raises:
        ValueError: a key has no value.
    """
    plain, overrides, remaining = [], {}, iter(words)
    for word in remaining:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in key:
            plain.append(word)
            continue
        if not equals and (value := next(remaining, None)) is None:
            raise ValueError(f"`--{key}` must be followed by a value.")
        overrides[key] = _parse_value(value)
    return plain, overrides


def _parse_value(text: str) -> object:
    """Reads one value as YAML; a value that is not YAML is a word."""
    from genhub.recipes.yaml import read_yaml
    from genhub.utils.reading import FileError

    try:
        return read_yaml(text)
    except FileError:
        return text
