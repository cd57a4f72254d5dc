"""Values of a recipe, a scheduler or a call on the command line: `--section.key VALUE`."""

import argparse
from typing import Any


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


def sampling_arguments(options: argparse.Namespace, overrides: dict[str, object]) -> dict[str, Any]:
    """Returns the arguments of `generate` and `evaluate` that say how images are sampled.

    Raises:
        ValueError: a key is of neither the scheduler nor the pipeline.
    """
    sections: dict[str, dict[str, object]] = {"scheduler": {}, "pipeline": {}}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section not in sections:
            raise ValueError(
                f"There is no option '--{key}'; known are --scheduler.KEY VALUE and --pipeline.KEY VALUE."
            )
        sections[section][name] = value
    short = {"num_inference_steps": options.steps}
    short |= {"guidance_scale": options.guidance_scale, "truncation": options.truncation}
    arguments = sections["pipeline"] | {name: value for name, value in short.items() if value is not None}
    return {
        "batch_size": options.batch_size,
        "scheduler": options.scheduler,
        "scheduler_arguments": sections["scheduler"],
        "arguments": arguments,
    }


def _parse_value(text: str) -> object:
    """Reads one value as YAML; a value that is not YAML is a word."""
    from genhub.recipes.yaml import read_yaml
    from genhub.utils.reading import FileError

    try:
        return read_yaml(text)
    except FileError:
        return text
