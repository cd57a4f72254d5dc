"""Text to image: a recipe of captions trains tokens, text encoder and network, and saves a Stable Diffusion."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from diffusers import StableDiffusionPipeline
from fresh import run
from PIL import Image as Picture
from safetensors.torch import load_file
from tiny_recipes import tiny_text_recipe

import genhub
from genhub.commands.subject import load_subject
from genhub.data import DataConfig, load
from genhub.data.tokens import learn_merges
from genhub.repository.format import RepositoryError
from genhub.repository.save import record_digests

PLAIN = """
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image

pipe = StableDiffusionPipeline.from_pretrained({folder!r})
call = {{"num_inference_steps": 2, "guidance_scale": 2.0, "generator": torch.Generator().manual_seed(0)}}
(image,) = pipe("a dark bag", **call).images
(edited,) = StableDiffusionImg2ImgPipeline.from_pipe(pipe)(prompt="a coat", image=image, strength=0.5, **call).images
mask = Image.new("L", image.size, 255)
inpaint = StableDiffusionInpaintPipeline.from_pipe(pipe)
(whole,) = inpaint(prompt="a coat", image=image, mask_image=mask, height=32, width=32, **call).images
print(image.mode, image.size, edited.mode, edited.size, whole.mode, whole.size)
"""


@pytest.fixture(scope="module")
def recipe(tiny_always, tmp_path_factory) -> Path:
    return tiny_text_recipe(tiny_always, tmp_path_factory.mktemp("recipe") / "text.yaml")


@pytest.fixture(scope="module")
def repo(recipe, tmp_path_factory) -> Path:
    """A trained repository. Read only."""
    return genhub.train(recipe, tmp_path_factory.mktemp("text") / "repo")


def test_plain_diffusers_runs_it_in_three_pipelines(repo):
    assert run(PLAIN.format(folder=str(repo)), without_genhub=True).split() == ["L", "(32,", "32)"] * 3


def test_the_text_encoder_fits_the_tokenizer_that_was_learnt_from_the_captions(repo):
    pipe = StableDiffusionPipeline.from_pretrained(repo)
    config, tokenizer = pipe.text_encoder.config, pipe.tokenizer

    assert config.vocab_size == len(tokenizer)
    assert config.max_position_embeddings == tokenizer.model_max_length == 16
    assert (config.bos_token_id, config.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert len(tokenizer("a dark ankle boot")["input_ids"]) == 6
    index = json.loads((repo / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]


def test_other_tokens_make_another_model(repo, tmp_path):
    copy = shutil.copytree(repo, tmp_path / "copy", ignore=shutil.ignore_patterns("training"))
    assert load_subject(str(copy), "cpu").key == load_subject(str(repo), "cpu").key

    path = copy / "tokenizer/tokenizer.json"
    path.write_text(path.read_text() + "\n")
    record_digests(copy)

    assert load_subject(str(copy), "cpu").key != load_subject(str(repo), "cpu").key


def test_the_end_of_a_prompt_is_one_token(repo, tmp_path):
    """transformers takes a list in the config, and fails with it in the first prompt."""
    copy = shutil.copytree(repo, tmp_path / "copy", ignore=shutil.ignore_patterns("training"))
    path = copy / "text_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1]}))
    record_digests(copy)

    with pytest.raises(RepositoryError, match=r"`eos_token_id` of CLIP must be a whole number, got \[1\]"):
        genhub.AutoPipeline.from_pretrained(copy)


def test_the_card_shows_a_prompt_and_the_settings_that_the_model_was_made_for(repo):
    text = (repo / "README.md").read_text()

    call = '"a bright wide ankle boot", num_images_per_prompt=16, num_inference_steps=20, guidance_scale=2.0'
    assert text.count(f"images = pipe({call}).images") == 2  # with genhub and without it
    assert "pipeline_tag: text-to-image" in text


def test_network_and_text_encoder_are_trained_and_the_autoencoder_makes_standard_latents(repo, recipe, tmp_path):
    longer = genhub.train(recipe, tmp_path / "run", overrides={"training.max_steps": 5})

    for part in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        one, two = load_file(repo / f"{part}.safetensors"), load_file(longer / f"{part}.safetensors")
        assert any(not torch.equal(one[name], two[name]) for name in one)
    config = json.loads((repo / "vae/config.json").read_text())
    assert config["scaling_factor"] not in (1, 0.18215)
    assert config["shift_factor"] is None


def test_a_resumed_run_ends_where_a_whole_one_does(repo, recipe, tmp_path):
    genhub.train(recipe, tmp_path / "run", overrides={"training.max_steps": 2})

    genhub.train(tmp_path / "run", resume=True, overrides={"training.max_steps": 4})

    for path in repo.glob("*/*.safetensors"):
        one, two = load_file(path), load_file(tmp_path / "run" / path.relative_to(repo))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_is_not_resumed_with_other_tokens(recipe, tmp_path, monkeypatch):
    genhub.train(recipe, tmp_path / "run", overrides={"training.max_steps": 1})
    monkeypatch.setattr("genhub.data.tokens.learn_merges", lambda words: learn_merges(words)[::-1])

    with pytest.raises(ValueError, match="The frozen component tokenizer is another one"):
        genhub.train(tmp_path / "run", resume=True, overrides={"training.max_steps": 2})


def test_an_encoder_of_texts_is_not_loaded_without_its_tokenizer(recipe, repo, tmp_path):
    loaded = {"components.text_encoder": {"from": f"{repo}/text_encoder", "frozen": True}}

    with pytest.raises(ValueError, match="`components.tokenizer` must be loaded, too"):
        genhub.train(recipe, tmp_path / "run", overrides=loaded)


def test_calls_that_name_no_guidance_or_steps_have_those_of_the_recipe(repo, tmp_path):
    pipe = genhub.AutoPipeline.from_pretrained(repo)
    images = [
        genhub.generate(str(repo), prompts=["a dark bag"], count=1, output=str(tmp_path / f"{name}.png"), **arguments)
        for name, arguments in {
            "own": {},
            "same": {"arguments": {"num_inference_steps": 20, "guidance_scale": 2.0}},
            "other": {"arguments": {"guidance_scale": 7.5}},
        }.items()
    ]

    assert pipe.default_arguments == {"num_inference_steps": 20, "guidance_scale": 2.0}
    own, same, other = (path.read_bytes() for path in images)
    assert own == same != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.captions": None}, "`components` must hold tokenizer"),
        (
            {"components.text_encoder.vocab_size": 20},
            r"`components.text_encoder.vocab_size` must be at least \d+",
        ),
        (
            {"components.text_encoder.max_position_embeddings": 8},
            "`components.text_encoder.max_position_embeddings` must be at least 16, got 8",
        ),
        (
            {"data.captions": "poems"},
            "`data.captions` must be templates or left out: there is no column of texts, got 'poems'",
        ),
        ({"data.caption_length": 2}, "`data.caption_length` must be at least 3"),
        (
            {"data.caption_length": 6},
            r"`data.caption_length` must lie in 1\d\.\.4096, .*, got 6",
        ),
        ({"data.streaming": True}, "`data.captions` must be left out of data that are decoded while training"),
        (
            {"components.unet.cross_attention_dim": 32},
            "`components.unet.cross_attention_dim` must be the text encoder",
        ),
        ({"pipeline.call": {"guidance": 2}}, "pipeline.call"),
    ],
)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(tmp_path, recipe, change, message):
    if change.get("data.streaming"):
        change |= {"data.padding": 0}
    with pytest.raises(ValueError, match=message):
        genhub.train(recipe, tmp_path / "run", overrides=change)

    assert not (tmp_path / "run").exists()


def test_captions_of_a_column_are_learnt_asked_for_and_cut_where_they_are_too_long(
    tmp_path, recipe, tiny_always, capsys
):
    texts = ["a small square", "a large square", "", "a square that is neither small nor large but somewhere between"]
    features = Features({"image": Image(), "text": Value("string")})
    images = [Picture.new("L", (28, 28), 60 * (index % 4)) for index in range(160)]
    rows = {"image": images, "text": texts * 40}
    for split in ("train", "test"):
        Dataset.from_dict(rows, features).to_parquet(tmp_path / f"data/{split}.parquet")
    column = {"data.source": str(tmp_path / "data"), "data.captions": "text", "data.val_size": 16}

    repo = genhub.train(recipe, tmp_path / "repo", overrides=column | {"data.caption_length": 8})

    pipe = StableDiffusionPipeline.from_pretrained(repo)
    assert len(pipe.tokenizer("a large square")["input_ids"]) == 5
    assert pipe.text_encoder.config.max_position_embeddings == 8
    seen = load(DataConfig(str(tmp_path / "data"), val_size=16, captions="text")).captions.tolist()
    assert f"{seen.count(texts[-1])} of 144 captions are cut: `data.caption_length` is 8" in capsys.readouterr().err
    assert f'pipe("{texts[-1]}"' in (repo / "README.md").read_text()


def test_a_column_without_any_caption_is_refused(tmp_path, recipe):
    features = Features({"image": Image(), "text": Value("string")})
    rows = {"image": [Picture.new("L", (28, 28), 9)] * 160, "text": [None, ""] * 80}
    Dataset.from_dict(rows, features).to_parquet(tmp_path / "data/train.parquet")

    column = {"data.source": str(tmp_path / "data"), "data.captions": "text", "data.val_size": 16}

    with pytest.raises(ValueError, match="`data.captions` must be a column that holds texts: all are empty"):
        genhub.train(recipe, tmp_path / "run", overrides=column)


def test_a_size_that_the_pipeline_refuses_is_refused_before_the_first_step(tmp_path, recipe):
    change = {"data.size": 30, "data.padding": 3}

    with pytest.raises(ValueError, match="`pipeline` cannot make images of 36 x 36, .* by 8"):
        genhub.train(recipe, tmp_path / "run", overrides=change)

    assert not (tmp_path / "run").exists()
