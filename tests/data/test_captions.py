"""Captions tell what their rule measures, as often as they should, and can be checked by it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture
from torch.testing import assert_close

from genhub.data import DataConfig, Images, load
from genhub.data.captions import ATTRIBUTES, Captions, brightness, width

NAMES = ("T-shirt/top", "Ankle boot")


def bars(count=600):
    """Images of two classes: a bar of random brightness and width; those of class 1 are wider and brighter."""
    random, labels = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 2
    value = 60 + 90 * random[:, 0] + 80 * labels
    columns = 1 + (31 * random[:, 1]).long() + 28 * labels
    shown = (torch.arange(64) < columns[:, None])[:, None, None, :].expand(-1, 1, 16, -1).clone()
    shown[:, :, :4] = False  # empty rows do not count
    images = (shown * value[:, None, None, None]).to(torch.uint8)
    return Images(images, labels, NAMES), value, columns


def test_the_measures_are_those_of_the_pixels_that_are_not_background():
    images, value, columns = bars()

    assert_close(brightness(images.images), value.to(torch.uint8) / 255, rtol=0, atol=1e-4)
    assert_close(width(images.images), columns.float())
    assert_close(width(F.pad(images.images, (2, 2, 2, 2))), columns.float())


def test_an_attribute_is_told_of_the_lowest_and_the_highest_third_of_each_class():
    images, value, columns = bars()
    captions = Captions.fit(images)

    words = captions.words(images.images, images.labels)

    for label in (0, 1):
        own = [set(found) for found, other in zip(words, images.labels, strict=True) if other == label]
        for low, high in ATTRIBUTES.values():
            for word in (low, high):
                assert 0.25 < sum(word in found for found in own) / len(own) < 0.45
        dark = value[[i for i, found in enumerate(words) if "dark" in found and images.labels[i] == label]]
        bright = value[[i for i, found in enumerate(words) if "bright" in found and images.labels[i] == label]]
        assert dark.max() < bright.min()


def test_captions_name_the_class_and_nothing_wrong():
    images, _, _ = bars()
    captions = Captions.fit(images)

    written = captions.write(images)

    every = {word for pair in ATTRIBUTES.values() for word in pair}
    for text, words, label in zip(written, captions.words(images.images, images.labels), images.labels, strict=True):
        assert ("t-shirt", "ankle boot")[label] in text
        assert {word.strip(",") for word in text.split()} & every <= set(words)
    assert written == captions.write(images) != captions.write(images, seed=1)


@pytest.mark.parametrize(
    ("label", "words", "template", "text"),
    [
        (0, ["dark", "wide"], 0, "dark wide t-shirt"),
        (1, [], 1, "an ankle boot"),
        (1, ["dark"], 2, "a picture of a dark ankle boot"),
        (0, ["dark", "wide"], 3, "t-shirt, dark, wide"),
        (0, [], 3, "t-shirt"),
    ],
)
def test_a_caption_is_english(label, words, template, text):
    assert Captions(("t-shirt", "ankle boot"), {}).caption(label, words, template) == text


def test_images_without_names_of_their_classes_have_no_captions():
    images, _, _ = bars(60)

    with pytest.raises(ValueError, match="the images have no classes with names"):
        Captions.fit(Images(images.images, images.labels))
    with pytest.raises(ValueError, match="a class has fewer than three images"):
        Captions.fit(images[:4])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Shirt/top", "shirt/long"), "names of their own up to a slash, got 'shirt' twice"),
        (("Bag", "Wide bag"), "no attribute that captions tell, got 'wide bag'"),
    ],
)
def test_names_that_captions_cannot_tell_apart_are_refused(names, message):
    images, _, _ = bars(60)

    with pytest.raises(ValueError, match=message):
        Captions.fit(Images(images.images, images.labels, names))


def test_examples_name_all_classes_and_all_attributes_in_turn():
    captions = Captions(("t-shirt", "ankle boot"), {})

    examples = captions.examples()

    assert examples[:3] == ["a t-shirt", "a narrow ankle boot", "a wide t-shirt"]
    assert len(set(examples)) == len(examples) == 18
    assert len(set(Captions(("bag", "shirt", "coat"), {}).examples())) == 27
    assert set(examples) < set(captions.all())


def captioned(folder, texts, **columns):
    """A data set of flat images with a caption each, as bright as their caption is long."""
    images = [Picture.new("L", (16, 16), 3 * len(text or "")) for text in texts]
    features = Features({"image": Image(), "text": Value("string"), "number": Value("int64")})
    rows = {"image": images, "text": texts, "number": list(range(len(texts)))}
    for split in ("train", "test"):
        Dataset.from_dict(rows, features).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_a_column_of_captions_stays_with_its_images(tmp_path):
    texts = ["a bag", None, "a wide coat", "two shoes"] * 5
    told = {3 * len(text or ""): text or "" for text in texts}  # by the brightness of their image
    config = DataConfig(captioned(tmp_path, texts), val_size=4, captions="text")

    images, held_out = load(config), load(config, "val")

    assert (len(images), len(held_out)) == (16, 4)
    for part in (images, held_out):
        assert part.captions.tolist() == [told[value] for value in part.images[:, 0, 0, 0].tolist()]
    for part in (images[3:9], images.choose(5, seed=0), images[torch.tensor([7, 0])]):
        assert [3 * len(text) for text in part.captions] == part.images[:, 0, 0, 0].tolist()
    assert load(replace(config, captions=None)).captions is None


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("txt", r"must be templates or a column of texts \(text\), got 'txt' \(did you mean 'text'\?\)"),
        ("number", r"must be templates or a column of texts \(text\), got 'number'"),
    ],
)
def test_a_column_of_no_texts_is_refused(tmp_path, column, message):
    with pytest.raises(ValueError, match=message):
        load(DataConfig(captioned(tmp_path, ["a"] * 8), val_size=2, captions=column))


def test_data_without_columns_have_no_column_of_captions():
    with pytest.raises(ValueError, match="`data.captions` must be templates: points has no columns, got 'text'"):
        load(DataConfig("points", captions="text"))
