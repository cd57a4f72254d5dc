"""A component that starts from the weights of another: what it takes over and refuses, and what a resume needs."""

import shutil

import pytest
import torch
from pictures import encode, noise, write_folder
from safetensors.torch import load_file
from tiny import tiny_model
from worlds import weights

import genhub
from genhub.training.pretrained import load_pretrained

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def saved(tmp_path):
    """The folder of a repository with a feature autoencoder."""
    tiny_model("FeatureAutoencoder", seed=1).save_pretrained(tmp_path / "repo/autoencoder")
    return tmp_path / "repo"


@pytest.fixture
def recipe(tiny, saved):
    """Overrides that make `pretrained-classifier` train in a second, from `saved`."""
    kept = {key: value for key, value in tiny.items() if key.split(".")[0] in ("data", "training")}
    classifier = {"class": "genhub.ImageClassifier", "block_out_channels": [4, 8], "strides": [1, 2]}
    kept |= {"components.classifier": classifier | {"weights": f"{saved}/autoencoder"}}
    return kept | {"data.labelled": 20, "training.batch_size": 10, "training.ema": {}}


def test_tensors_of_the_same_name_are_taken_over_and_the_others_left_alone(saved):
    classifier = tiny_model("ImageClassifier")
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    shared = load_pretrained(f"{saved}/autoencoder", "classifier", classifier)

    found, now = load_file(saved / "autoencoder" / FILE), classifier.state_dict()
    assert set(shared) == {name for name in now if name.startswith("body.")}
    assert all(torch.equal(now[name], found[name]) for name in shared)
    assert all(torch.equal(now[name], before[name]) for name in now.keys() - set(shared))


def test_the_lower_layers_of_a_dense_classifier_are_the_encoder_of_a_dense_autoencoder(tmp_path):
    autoencoder = genhub.DenseAutoencoder(sample_size=8, hidden_sizes=(6,), latent_channels=4)
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    classifier = genhub.DenseClassifier(sample_size=8, hidden_sizes=(6, 4))

    load_pretrained(f"{tmp_path}/autoencoder", "classifier", classifier)

    sample = torch.rand(5, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(classifier(sample).features, autoencoder(sample).latents)


def test_the_mean_code_of_the_autoencoder_is_a_linear_function_of_the_features_of_the_classifier(saved):
    autoencoder = genhub.FeatureAutoencoder.from_pretrained(saved / "autoencoder")
    classifier = tiny_model("ImageClassifier")

    load_pretrained(f"{saved}/autoencoder/", "classifier", classifier)

    sample, layer = torch.rand(5, 1, 8, 8) * 2 - 1, autoencoder.to_code
    mean_code = autoencoder(sample).latents.unflatten(1, (layer.out_channels, -1)).mean(2)  # over 4 x 4 places
    expected = layer(classifier(sample).features[:, :, None, None]).flatten(1)
    torch.testing.assert_close(mean_code, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": [4, 6]}, r"must fit: body.1.0.weight is \(8, 4, 3, 3\) in .* and \(6, 4, 3, 3\) in"),
        ({"in_channels": 3}, r"must fit: body.0.0.weight is \(4, 1, 3, 3\) in .* and \(4, 3, 3, 3\) in"),
    ],
)
def test_a_tensor_of_another_shape_is_refused_and_nothing_is_taken_over(saved, changes, message):
    classifier = tiny_model("ImageClassifier", **changes)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    with pytest.raises(ValueError, match=f"`components.classifier.weights` {message}"):
        load_pretrained(f"{saved}/autoencoder", "classifier", classifier)

    torch.testing.assert_close(classifier.state_dict(), before, rtol=0, atol=0)


def test_weights_that_share_no_name_are_refused(saved):
    with pytest.raises(ValueError, match="`components.classifier.weights` must share .* DenseClassifier, got none in"):
        load_pretrained(f"{saved}/autoencoder", "classifier", tiny_model("DenseClassifier"))


@pytest.mark.parametrize("weights", ["{}/elsewhere", "{}/autoencoder/deeper", "autoencoder", "", "/nowhere/at/all"])
def test_weights_that_do_not_exist_are_refused_before_any_work(recipe, tmp_path, saved, weights):
    recipe["components.classifier"] |= {"weights": weights.format(saved)}

    with pytest.raises(ValueError, match="`components.classifier.weights` must be FOLDER/COMPONENT"):
        genhub.train("pretrained-classifier", tmp_path / "run", overrides=recipe)

    assert not (tmp_path / "run").exists()


def test_damaged_weights_are_refused(saved):
    (saved / "autoencoder" / FILE).write_bytes(b"short")

    with pytest.raises(ValueError, match="`components.classifier.weights` must be FOLDER/COMPONENT of saved weights"):
        load_pretrained(f"{saved}/autoencoder", "classifier", tiny_model("ImageClassifier"))


def test_a_newcomer_is_told_which_command_makes_the_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {"data.source": tiny["data.source"], "data.val_size": 16, "data.labelled": 20, "training.batch_size": 10}

    command = "`genhub train pretraining-ae` makes it; then `--components.classifier.weights runs/pretraining-ae/"
    with pytest.raises(ValueError, match=command):
        genhub.train("pretrained-classifier", overrides=few)
    command = "`genhub train autoencoder-kl` makes it; then `--components.vae.from runs/autoencoder-kl/autoencoder`"
    with pytest.raises(ValueError, match=command):
        genhub.train("latent-ddpm", overrides={"data.source": tiny["data.source"], "data.val_size": 16})


def test_a_run_starts_from_its_weights_says_so_and_goes_on_without_them(recipe, tmp_path, saved):
    head = {"objective.trains_body": False, "training.max_steps": 2}
    head |= {"optimizers": {"classifier.head": {"class": "torch.optim.SGD", "lr": 0.1}}}
    found = load_file(saved / "autoencoder" / FILE)

    folder = genhub.train("pretrained-classifier", tmp_path / "run", overrides=recipe | head)
    first = weights(folder)
    shutil.rmtree(saved)
    genhub.train(folder, resume=True, overrides={"training.max_steps": 3})

    assert f"weights: {saved}/autoencoder" in (folder / "training/recipe.yaml").read_text()
    after = weights(folder)
    frozen = {name: tensor for name, tensor in after.items() if name.startswith("classifier.body.")}
    assert frozen.keys() == {f"classifier.{name}" for name in found if name.startswith("body.")}
    assert all(torch.equal(tensor, found[name.removeprefix("classifier.")]) for name, tensor in frozen.items())
    assert not torch.equal(after["classifier.head.weight"], first["classifier.head.weight"])


def test_mismatched_sizes_are_ignored_where_that_is_asked_for(saved):
    classifier = tiny_model("ImageClassifier", in_channels=3)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    shared = load_pretrained(f"{saved}/autoencoder", "classifier", classifier, ignore_mismatched_sizes=True)

    now = classifier.state_dict()
    assert "body.0.0.weight" not in shared
    assert torch.equal(now["body.0.0.weight"], before["body.0.0.weight"])
    assert not torch.equal(now["body.1.0.weight"], before["body.1.0.weight"])


def test_fine_tuning_starts_from_the_networks_of_a_repository(tiny, tiny_repo, tmp_path, capsys):
    write_folder(
        tmp_path / "own", {f"{name}/{i}.png": encode(x) for name in "ab" for i, x in enumerate(noise(20, 28, 28, 3))}
    )
    own = {"data.source": str(tmp_path / "own"), "data.val_size": 4, "components.unet.num_class_embeds": "auto"}
    still = {"training.max_steps": 1, "optimizers.unet.lr": 0, "optimizers.unet.adamw_lr": 0}

    folder = genhub.train("ddpm-quick", tmp_path / "run", start_from=tiny_repo, overrides=tiny | own | still)

    theirs, ours = (load_file(repo / "unet" / FILE) for repo in (tiny_repo, folder))
    assert theirs.keys() <= ours.keys()
    for name, tensor in theirs.items():
        assert tensor.shape != ours[name].shape or torch.equal(tensor, ours[name]), name
    new = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    assert any("class" in name for name in new)
    said = f"unet starts from {len(ours) - len(new)} of its {len(ours)} tensors in {tiny_repo}/unet; {new[0]}, "
    assert said in capsys.readouterr().err
    assert f"weights='./{tiny_repo.name}/unet'" in (folder / "README.md").read_text()
    assert genhub.AutoPipeline.from_pretrained(folder).config["id2label"] == {"0": "a", "1": "b"}


def test_a_repository_of_other_networks_is_refused_and_nothing_written(tiny, saved, tmp_path):
    (saved / "model_index.json").write_text('{"autoencoder": ["genhub", "FeatureAutoencoder"], "_class_name": "X"}')

    for repo, message in (
        (saved, "`start_from` must be a repository of unet, got .*/repo of autoencoder"),
        (tmp_path / "none", "`start_from` must be a saved repository, got .*/none"),
    ):
        with pytest.raises(ValueError, match=message):
            genhub.train("ddpm-quick", tmp_path / "run", start_from=repo, overrides=tiny)
    assert not (tmp_path / "run").exists()
