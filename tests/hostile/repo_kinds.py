"""Repositories: weights, `model_index.json` and its `_genhub`, configs, tokenizers; and the feature nets.

A file whose SHA-256 is recorded is read as it was, or refused. Where an attacker records the right SHA-256 of what he
changed, and in a repository without `_genhub`, other weights and configs are right as long as images come of them.
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny import tiny_model
from tiny_pipelines import PIPELINES

import genhub
from genhub.commands.generate import generate
from genhub.evaluation.features import NETS, ClassifierSpace
from genhub.repository import card
from genhub.repository.format import WEIGHTS
from genhub.utils.files import sha256
from hostile.kind import Kind, Value, always, equal
from hostile.mutate import Mutation, change_value, mutate_bytes, mutate_json, mutate_place, write_deep

DEEP = '"@deep@"'


def make(name: str):
    """Returns how to write the tiny pipeline `name` as genhub does."""

    def save(folder: Path):
        pipeline = PIPELINES[name].make()
        genhub.save_repo(pipeline, folder, {"README.md": card.minimal(pipeline, "user/name")})

    return save


def make_foreign(folder: Path):
    """Writes a repository of diffusers, which records no hashes."""
    PIPELINES["DDPMPipeline"].make().save_pretrained(folder)


def words(folder: Path) -> list[str]:
    return ["generate", str(folder), "--count", "2", "--steps", "2", "--output", str(folder.parent / "grid.png")]


def push(folder: Path) -> list[str]:
    return ["push", str(folder), "user/name", "--dry_run"]


def read(folder: Path) -> Value:
    """Loads the pipeline, and draws two images with it."""
    pipeline = genhub.AutoPipeline.from_pretrained(folder)
    tensors = {
        f"{name}.{key}": tensor
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for key, tensor in part.state_dict().items()
    }
    arguments = {"num_inference_steps": 2} if "scheduler" in pipeline.components else {}
    prompts = ["a shirt"] if "tokenizer" in pipeline.components else None
    path = generate(str(folder), 2, prompts=prompts, arguments=arguments, output=str(folder.parent / "grid.png"))
    with Image.open(path) as picture:
        return {"tensors": tensors, "grid": np.asarray(picture)}


def permits_same_weights(found: Value, original: Value, folder: Path) -> bool:
    """Of the index: other arguments of a call, but the same weights."""
    return equal(found["tensors"], original["tensors"])


def rehash(folder: Path):
    """Records the hashes of the files as they are."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    for recorded in (index["_genhub"]["sha256"], index["_genhub"]["texts"]):
        recorded |= {name: sha256(folder / name) for name in recorded if (folder / name).is_file()}
    path.write_text(json.dumps(index))


def rehashed(mutation: Mutation) -> Mutation:
    """Returns the mutation of one who records the right hash of what he changed."""

    def mutate(rng: random.Random, folder: Path, file: Path) -> str:
        what = mutation(rng, folder, file)
        if file.is_file() and file.stat().st_size < 1 << 30:
            rehash(folder)
        return f"{what}, hashed anew"

    return mutate


def mutate_own(rng: random.Random, folder: Path, file: Path) -> str:
    """Changes the entry `_genhub` of the index, which diffusers does not read."""
    index = json.loads(file.read_text())
    index["_genhub"], what = change_value(rng, index["_genhub"])
    if index["_genhub"] is None and rng.random() < 0.5:
        del index["_genhub"]
    file.write_bytes(write_deep(json.dumps(index), DEEP).encode(errors="surrogatepass"))
    return f"_genhub: {what}"


def mutate_tensors(rng: random.Random, folder: Path, file: Path) -> str:
    """Writes other tensors: none, more, of other types and shapes, numbers that are none; as shards, as a pickle."""
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    values = {
        "NaN": np.full_like(tensor, np.nan),
        "infinite": np.full_like(tensor, np.inf),
        "int8": tensor.astype(np.int8),
        "float64": tensor.astype(np.float64),
        "bool": tensor.astype(bool),
        "transposed": np.ascontiguousarray(tensor.T),
        "flat": tensor.reshape(-1),
        "empty": tensor[:0] if tensor.ndim else tensor,
    }
    way = rng.choice([*values, "missing", "extra", "renamed", "shards", "pickle", "outside", "lies"])
    if way in values:
        tensors[name] = values[way]
    elif way in ("missing", "renamed"):
        tensors.pop(name)
    if way in ("extra", "renamed"):
        tensors[f"{name}x"] = tensor
    save_file(tensors, file, {"format": "pt"})
    if way == "shards":
        target = rng.choice(("pytorch_model.bin", "../../secret", file.name, "part.safetensors"))
        (file.parent / "part.safetensors").write_bytes(file.read_bytes())
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, target)}
        file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
        if rng.random() < 0.5:
            file.unlink()
        return f"shards in {target}"
    if way == "pickle":
        torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, file.with_suffix(".bin"))
        file.unlink()
    if way == "lies":
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        entry, field = header[name], rng.choice(("shape", "data_offsets", "dtype"))
        entry[field] = rng.choice(
            {"shape": ([2**40], [-1], [2**32, 2**32], []), "dtype": ("F64", "I8", "X")}.get(
                field, ([0, 2**60], [8, 0], [0, 0])
            )
        )
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        return f"{name}: {field} is {entry[field]}"
    return f"{name}: {way}"


# Feature nets


def make_net(folder: Path):
    tiny_model("ImageClassifier").save_pretrained(folder / "net")


def make_pinned(folder: Path):
    shutil.copytree(NETS / "fashion-mnist-0", folder / "fashion-mnist-0")


def read_net(folder: Path) -> Value:
    (net,) = (path for path in sorted(folder.iterdir()) if path.is_dir())
    space = ClassifierSpace.load("clf", net)
    images = torch.arange(2 * 28 * 28).remainder(251).to(torch.uint8).reshape(2, 1, 28, 28)
    return {"features": space(images)}


def permits_finite(found: Value, original: Value, folder: Path) -> bool:
    """Of a net without a pinned hash: any features that are numbers."""
    return bool(found["features"].isfinite().all())


JSON = (mutate_json,) * 5 + (mutate_bytes, mutate_place)
WEIGHT_FILES = (mutate_bytes,) * 4 + (mutate_place, mutate_tensors, mutate_tensors)
GAN, DIFFUSION, TEXT = "GANPipeline", "CosineDDPMPipeline, null class", "StableDiffusionPipeline"
KINDS = {
    "weights": Kind(make(GAN), (f"*/{WEIGHTS}",), WEIGHT_FILES, read, commands=(words, push)),
    "weights, hashed anew": Kind(
        make(DIFFUSION), (f"*/{WEIGHTS}",), tuple(map(rehashed, WEIGHT_FILES)), read, always, (words, push)
    ),
    "weights of diffusers": Kind(make_foreign, (f"*/{WEIGHTS}",), WEIGHT_FILES, read, always, (words,)),
    "model_index.json": Kind(make(DIFFUSION), ("model_index.json",), JSON, read, permits_same_weights, (words, push)),
    "_genhub": Kind(make(GAN), ("model_index.json",), (mutate_own,), read, permits_same_weights, (words, push)),
    "model_index.json of diffusers": Kind(make_foreign, ("model_index.json",), JSON, read, always, (words, push)),
    "config.json": Kind(make(GAN), ("*/config.json",), JSON, read, commands=(words, push)),
    "config.json, hashed anew": Kind(
        make(DIFFUSION), ("*/config.json",), tuple(map(rehashed, JSON)), read, always, (words, push)
    ),
    "config.json of diffusers": Kind(make_foreign, ("*/config.json",), JSON, read, always, (words, push)),
    "scheduler_config.json": Kind(make(DIFFUSION), ("*/scheduler_config.json",), JSON, read, commands=(words, push)),
    "scheduler_config.json, hashed anew": Kind(
        make(DIFFUSION), ("*/scheduler_config.json",), tuple(map(rehashed, JSON)), read, always, (words, push)
    ),
    "tokenizer, text encoder": Kind(
        make(TEXT),
        ("tokenizer/*.json", "text_encoder/config.json"),
        tuple(map(rehashed, JSON)),
        read,
        always,
        (lambda folder: [*words(folder), "--prompt", "a shirt"],),
    ),
    "feature net": Kind(make_net, ("net/*",), (mutate_bytes, mutate_bytes, mutate_place), read_net, permits_finite),
    "feature net, config": Kind(make_net, ("net/config.json",), JSON, read_net, permits_finite),
    "feature net, tensors": Kind(make_net, (f"net/{WEIGHTS}",), (mutate_tensors,), read_net, permits_finite),
    "pinned feature net": Kind(make_pinned, ("*/*",), (mutate_bytes, mutate_place), read_net, permits_finite),
    "pinned feature net, config": Kind(make_pinned, ("*/config.json",), JSON, read_net, permits_finite),
}
