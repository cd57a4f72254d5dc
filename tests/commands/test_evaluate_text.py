"""Evaluation of a model that takes prompts: it is asked for captions, and what they say is measured."""

import json
from dataclasses import replace

import numpy as np
import torch
from tiny_pipelines import tiny_stable_diffusion
from tiny_recipes import tiny_latent_recipe, tiny_text_recipe

from genhub import evaluate, train
from genhub.data import Captions, DataConfig, Images, load
from genhub.evaluation.prompts import attribute_fidelity, captions_to_ask
from genhub.evaluation.sampling import Sampler

CALL = {"num_inference_steps": 1, "guidance_scale": 1.0}


def test_captions_are_asked_for_in_turn_and_padding_is_cut_off():
    asked, pipe = [], tiny_stable_diffusion()
    encode = pipe.encode_prompt
    pipe.encode_prompt = lambda prompt, *rest, **options: asked.append(prompt) or encode(prompt, *rest, **options)
    captions = [("a bag", 8), ("a shirt", 6), ("a coat", 4)]
    options = {"seed": 0, "batch_size": 2, "arguments": CALL, "is_quiet": True}
    sampler = Sampler(pipe, (1, 12, 12), captions=captions, padding=2, **options)

    images, _ = sampler.draw(5)

    assert asked == [["a bag", "a shirt"], ["a coat", "a bag"], "a shirt"]
    assert sampler.labels(5).tolist() == [8, 6, 4, 8, 6]
    whole, _ = Sampler(pipe, (1, 16, 16), captions=captions, **options).draw(5)
    assert torch.equal(images, whole[:, :, 2:-2, 2:-2])


def test_captions_of_a_column_are_asked_for_and_no_rule_checks_them():
    texts = np.array(["a dark bag", "", "a wide coat"], dtype=object)
    images = Images(torch.zeros(3, 1, 16, 16).byte(), captions=texts)
    labelled = replace(images, labels=torch.tensor([8, 4, 4]), class_names=("coat", "bag"))

    for data, labels in ((images, None), (labelled, [8, 4, 4])):
        sampler = Sampler(tiny_stable_diffusion(), (1, 16, 16), 0, 2, captions=captions_to_ask(data, data))
        assert sampler.prompts(4) == ["a dark bag", "", "a wide coat", "a dark bag"]
        found = sampler.labels(3)
        assert labels == (None if found is None else found.tolist())
    assert attribute_fidelity(labelled, sampler.prompts(3), labelled.images, labelled.labels) == []


def test_what_prompts_say_is_measured_and_so_is_what_the_autoencoder_loses(tmp_path, tiny, quick):
    recipe = tiny_text_recipe(tiny, tmp_path / "text.yaml")
    folder = train(recipe, tmp_path / "repo", overrides={"training.max_steps": 1})

    evaluate(str(folder), **quick)

    newest = json.loads((folder / "metrics.json").read_text())["evaluations"][-1]
    found = {metric["name"]: metric["value"] for metric in newest["figures"] if metric["space"] in ("", "clf")}
    assert newest["samples"]["guidance_scale"] == 2.0  # as the recipe says
    assert newest["samples"]["steps"] == 1
    assert 0 <= found["label fidelity"] <= 1
    assert 0 <= found["attribute fidelity"] <= 1
    assert found["FD-FM of reconstructions"] > 1  # of an autoencoder that is not trained


def test_a_latent_model_of_classes_is_judged_and_so_is_its_autoencoder(tmp_path, tiny, quick):
    recipe = tiny_latent_recipe(tiny, tmp_path / "latent.yaml")
    folder = train(recipe, tmp_path / "repo", overrides={"training.max_steps": 1})

    evaluate(str(folder), **quick)

    newest = json.loads((folder / "metrics.json").read_text())["evaluations"][-1]
    found = {metric["name"]: metric["value"] for metric in newest["figures"] if metric["space"] in ("", "clf")}
    assert newest["samples"]["guidance_scale"] == 1.5
    assert 0 <= found["label fidelity"] <= 1
    assert found["FD-FM of reconstructions"] > 1  # of an autoencoder that is not trained


def test_real_images_agree_with_all_that_their_captions_tell(quick):
    train_images, test = (load(DataConfig(quick["data_source"], val_size=0), split) for split in ("train", "test"))
    rule = Captions.fit(train_images)
    captions = rule.write(test)

    agreement = rule.agreement(captions, test.images, test.labels)

    assert len(agreement) > len(test) / 2
    assert agreement.all()
    others = rule.agreement(captions, test.images.flip(0), test.labels)
    assert 0.1 < others.float().mean() < 0.7
