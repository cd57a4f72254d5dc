"""Weights and config of a component fit each other, or are refused by name before anything of their size is made."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from tiny_pipelines import PIPELINES

import genhub
from genhub.repository.format import RepositoryError
from genhub.repository.load import load_part
from genhub.repository.save import record_digests
from genhub.repository.weights import check_component
from genhub.utils.modules import at_most

KINDS = {  # component -> pipeline that has it, and a tensor of its
    "unet": ("StableDiffusionPipeline", "diffusion_pytorch_model", "conv_in.weight"),
    "text_encoder": ("StableDiffusionPipeline", "model", "final_layer_norm.weight"),
    "generator": ("GANPipeline", "diffusion_pytorch_model", "layers.0.weight"),
}
every_kind = pytest.mark.parametrize("part", KINDS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("saved") / "repo" for name in {kind[0] for kind in KINDS.values()}}
    return {name: genhub.save_repo(PIPELINES[name].make(), folder) for name, folder in folders.items()}


@pytest.fixture
def folder(part, saved, tmp_path) -> Path:
    """A copy of a repository that has the component, to be damaged."""
    return shutil.copytree(saved[KINDS[part][0]], tmp_path / "repo")


def change_config(path: Path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refuses(folder: Path, *words: str):
    """Checks that a repository whose digests are renewed is refused in one line that has these words."""
    record_digests(folder)
    with pytest.raises(RepositoryError, match="^[^\n]*" + "[^\n]*".join(words) + "[^\n]*$"):
        genhub.AutoPipeline.from_pretrained(folder)


CHANGES = {
    "missing": lambda tensors, key: tensors.pop(key),
    "extra": lambda tensors, key: tensors.update({f"{key}.extra": torch.zeros(1)}),
    "another shape": lambda tensors, key: tensors.update({key: torch.zeros(3)}),
    "int8": lambda tensors, key: tensors.update({key: tensors[key].to(torch.int8)}),
    "float8": lambda tensors, key: tensors.update({key: tensors[key].to(torch.float8_e4m3fn)}),
    "NaN": lambda tensors, key: tensors[key].view(-1)[-1:].fill_(torch.nan),
    "infinite": lambda tensors, key: tensors[key].view(-1)[-1:].fill_(-torch.inf),
}


@every_kind
@pytest.mark.parametrize("change", CHANGES)
def test_a_tensor_that_is_not_the_models_is_refused_by_name(change, part, folder):
    _, stem, key = KINDS[part]
    tensors = load_file(folder / part / f"{stem}.safetensors")
    CHANGES[change](tensors, key)
    save_file(tensors, folder / part / f"{stem}.safetensors", {"format": "pt"})

    refuses(folder, part, key)
    with pytest.raises(RepositoryError, match=key):
        load_part(folder, part)


def shard(folder: Path, stem: str) -> tuple[dict, Path]:
    """Splits the weights of a model into two files and an index; returns the index and its path."""
    whole = folder / f"{stem}.safetensors"
    tensors, index = load_file(whole), {"metadata": {}, "weight_map": {}}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        file = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(names, file)
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(json.dumps(index))
    return index, path


@every_kind
def test_weights_in_several_files_are_loaded(part, folder):
    expected = load_part(folder, part).state_dict()
    shard(folder / part, KINDS[part][1])
    (folder / part / f"{KINDS[part][1]}.safetensors").unlink()
    record_digests(folder)

    found = load_part(folder, part).state_dict()

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@every_kind
@pytest.mark.parametrize("damage", ["beside", "pickle", "elsewhere", "missing", "less", "list", "nested", "swapped"])
def test_an_index_of_several_files_lists_what_is_there_and_alone(damage, part, folder):
    stem = KINDS[part][1]
    index, path = shard(folder / part, stem)
    if damage != "beside":
        (folder / part / f"{stem}.safetensors").unlink()
    listed = index["weight_map"]
    first, second = sorted(listed)[:2]
    if damage == "pickle":
        torch.save({}, folder / part / f"{stem}.bin")
        listed[first] = f"{stem}.bin"
    elif damage in ("elsewhere", "missing"):
        listed[first] = {"elsewhere": f"../{part}/{listed[first]}", "missing": f"{stem}-3.safetensors"}[damage]
    elif damage == "less":
        del listed[first]
    elif damage == "swapped":
        listed[first], listed[second] = listed[second], listed[first]
    elif damage in ("list", "nested"):
        index["weight_map"] = {"list": [first], "nested": listed | {first: {}}}[damage]
    path.write_text(json.dumps(index))

    refuses(folder, part, stem)


HUGE = {
    "unet": {"layers_per_block": 10**9, "block_out_channels": [8, 10**9], "sample_size": 10**12, "_x": 10**30},
    "text_encoder": {"num_hidden_layers": 10**9, "hidden_size": 10**9, "vocab_size": 10**12},
    "generator": {"channels": [10**9] * 3, "hidden_channels": [2] * 10**5, "latent_channels": 10**9},
}


@pytest.mark.parametrize(("part", "key"), [(part, key) for part, values in HUGE.items() for key in values])
def test_a_config_of_a_network_that_the_weights_cannot_fill_is_refused_at_once(part, key, folder):
    change_config(folder / part / "config.json", **{key: HUGE[part][key]})

    refuses(folder, f"{part}/config.json")


@pytest.mark.parametrize("part", ["unet"])
@pytest.mark.parametrize("value", [10**10, 10**7, -1, 0, "1", None, [1], 1.5])
def test_a_scheduler_of_no_number_of_timesteps_is_refused_at_once(value, folder):
    change_config(folder / "scheduler/scheduler_config.json", num_train_timesteps=value)

    refuses(folder, "scheduler/scheduler_config.json")


@every_kind
@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"a": ' * 10**5, "\xff"])
def test_a_config_that_is_no_json_object_is_one_line(text, part, folder):
    (folder / part / "config.json").write_text(text, encoding="latin-1")

    refuses(folder, f"{part}/config.json cannot be read")


def test_no_more_is_built_than_is_allowed_and_later_again():
    with pytest.raises(ValueError, match="more than 9 tensors"), at_most(9, 10**6):
        torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(10**9)))
    with pytest.raises(ValueError, match="more than 1,000 numbers"), at_most(9, 1000), torch.device("meta"):
        torch.nn.Linear(10**6, 10**6)

    torch.nn.Sequential(*(torch.nn.Linear(10, 100) for _ in range(9)))


@pytest.mark.parametrize("sharded", [False, True])
def test_attention_under_the_names_of_old_diffusers_is_loaded_where_diffusers_does(sharded, tmp_path):
    unet = UNet2DModel(8, 1, 1, block_out_channels=(8,), norm_num_groups=4, down_block_types=("AttnDownBlock2D",),
                       up_block_types=("AttnUpBlock2D",), layers_per_block=1)  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path)
    path, old = tmp_path / "unet/diffusion_pytorch_model.safetensors", {}
    for key, tensor in unet.state_dict().items():
        for new, former in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            key = key.replace(f".{new}.", f".{former}.")
        old[key] = tensor
    save_file(old, path, {"format": "pt"})
    if sharded:
        shard(tmp_path / "unet", "diffusion_pytorch_model")
        path.unlink()
        with pytest.raises(RepositoryError, match="key.bias"):
            genhub.AutoPipeline.from_pretrained(tmp_path)
        return

    loaded = genhub.AutoPipeline.from_pretrained(tmp_path).unet.state_dict()

    assert old.keys() != loaded.keys() == unet.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in unet.state_dict().items())


def test_a_model_with_tied_names_is_held_once(tmp_path, monkeypatch):
    config = transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=50)
    transformers.T5EncoderModel(config).save_pretrained(tmp_path)
    load, devices = transformers.T5EncoderModel.from_pretrained, []

    def observed(*args, **kwargs):
        loaded = load(*args, **kwargs)
        devices.extend({tensor.device.type for tensor in loaded[0].state_dict().values()})
        return loaded

    monkeypatch.setattr(transformers.T5EncoderModel, "from_pretrained", observed)
    check_component(transformers.T5EncoderModel, tmp_path)

    assert devices == ["meta"]


def test_a_vocabulary_has_any_number_of_entries_and_is_an_object(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"merges": [0] * 10**6}))

    check_component(transformers.CLIPTokenizer, tmp_path)

    for text in ("[]", "{", "[" * 10**5):
        path.write_text(text)
        with pytest.raises(RepositoryError, match="tokenizer.json cannot be read: [^\n]*$"):
            check_component(transformers.CLIPTokenizer, tmp_path)
