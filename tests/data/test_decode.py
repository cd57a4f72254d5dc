"""Decoding is what Pillow does; a broken image is named; what was decoded once is read from disk."""

import io
import re

import numpy as np
import pytest
import torch
from pictures import chunk, encode, noise, write_png
from PIL import Image
from safetensors.torch import load_file, save_file

import genhub.data.decode as module
from genhub.data.config import DataConfig
from genhub.data.decode import CHUNK, decode_cached
from genhub.utils.cache import cached as store
from genhub.utils.cache import content_hash

GREY, RGB = noise(7, 9, 1, seed=1), noise(7, 9, 3, seed=2)


def decode(files, shape=None, **config) -> np.ndarray:
    return module.decode(files, DataConfig(**config), "Image {}".format, shape).images


def by_pillow(encoded: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    return (pixels[..., None] if pixels.ndim == 2 else pixels).transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [1, 2, 9])
def test_every_filter_is_undone(width, channels):
    images = noise(5, 6, width, channels, seed=width)
    encoded = [write_png(image, np.roll((4, 3, 2, 1, 0), i)) for i, image in enumerate(images)]

    assert np.array_equal(decode(encoded), images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("encoded", "expected"),
    {
        "several IDAT": (write_png(RGB, (4,), parts=3), RGB),
        "a last IDAT that is empty": (write_png(RGB, (4,))[:-12] + chunk(b"IDAT", b"") + chunk(b"IEND", b""), RGB),
        "interlaced": (write_png(RGB, (4, 1, 3), interlaced=True), RGB),
        "interlaced grey": (write_png(GREY, (2, 4), interlaced=True), GREY),
        "a chunk of text": (write_png(GREY, (3,), extra=chunk(b"tEXt", b"Author\0me")), GREY),
        "palette": (encode(RGB[:, :2].copy()), RGB[:, :2]),
        "one bit": (encode(GREY[..., 0] > 127), np.where(GREY > 127, 255, 0)),
        "opaque alpha": (encode(np.concatenate([RGB, RGB[..., :1] * 0 + 255], 2)), RGB),
        "grey of opaque alpha": (encode(np.concatenate([GREY, GREY * 0 + 255], 2)), GREY),
        "BMP": (encode(RGB, "BMP"), RGB),
    }.values(),
)
def test_any_file_gives_its_pixels_also_between_files_of_another_kind(encoded, expected):
    plain = write_png(expected)

    pixels = decode([plain, encoded, plain])

    assert np.array_equal(pixels, [expected.transpose(2, 0, 1)] * 3)
    assert np.array_equal(decode([encoded, memoryview(plain)]), pixels[:2])


def test_a_palette_and_a_jpeg_are_what_pillow_shows():
    palette, jpeg = io.BytesIO(), encode(RGB, "JPEG")
    Image.fromarray(RGB).quantize(8).save(palette, "PNG")

    pixels = decode([palette.getvalue(), jpeg])

    assert np.array_equal(pixels[0], np.asarray(Image.open(palette).convert("RGB")).transpose(2, 0, 1))
    assert np.array_equal(pixels[1], by_pillow(jpeg))


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
@pytest.mark.parametrize(("background", "value"), [("black", 0), ("white", 255)])
def test_what_is_transparent_shows_the_background_and_is_counted(pixels, background, value):
    alpha = np.zeros_like(pixels[..., :1])
    alpha[:, :4] = 255
    files = [encode(np.concatenate([pixels, part], 2)) for part in (alpha, alpha * 0 + 255)]

    found = module.decode(files, DataConfig(background=background), str)

    assert np.array_equal(found.images[0], np.where(alpha > 0, pixels, value).transpose(2, 0, 1))
    assert np.array_equal(found.images[1], pixels.transpose(2, 0, 1))
    assert found.notes(DataConfig(background=background)) == (
        f"1 images have transparent pixels, which are {background}.",
    )


@pytest.mark.parametrize(("colours", "channels"), [(GREY.repeat(3, 2), 1), (RGB, 3)], ids=["grey", "colour"])
def test_a_palette_of_greys_is_grey(colours, channels):
    file = io.BytesIO()
    Image.fromarray(colours).quantize(63).save(file, "PNG")

    assert decode([file.getvalue()]).shape[1] == channels
    if channels == 1:  # beside colours it is one of them
        assert np.array_equal(decode([write_png(RGB), file.getvalue()])[1, 0], decode([file.getvalue()])[0, 0])


@pytest.mark.parametrize(
    "encoded",
    {
        "PNG, grey": write_png(GREY.astype(int) * 257, bits=16),
        "PNG, RGB": write_png(RGB.astype(int) * 257, bits=16),
        "TIFF, float": encode(GREY[..., 0].astype(np.float32), "TIFF"),
    }.values(),
)
def test_pixels_of_more_than_8_bits_are_refused(encoded):
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode([encoded])


def test_another_size_of_as_many_bytes_is_told_apart():
    with pytest.raises(ValueError, match=r"is 3x3 with 1 channel\(s\), the first one 5x2 with 1"):
        decode([write_png(np.zeros((2, 5, 1))), write_png(np.zeros((3, 3, 1)))])


def test_another_size_is_told_apart_also_in_a_later_chunk():
    encoded = [write_png(np.zeros((2, 5, 1)))] * CHUNK + [write_png(np.zeros((3, 3, 1)))] * 2

    with pytest.raises(ValueError, match="is 3x3") as caught:
        decode(encoded)

    assert str(caught.value).startswith(f"Image {CHUNK} ")


def broken_files() -> dict[str, bytes]:
    whole = write_png(GREY, (4,))
    return {
        "empty": b"",
        "text": b"hello",
        "cut in the signature": whole[:5],
        "cut in the header": whole[:30],
        "cut after the header": whole[:33],
        "cut in a length": whole[:35],
        "cut in the pixels": whole[:60],
        "damaged pixels": whole[:50] + bytes([whole[50] ^ 255]) + whole[51:],
        "an unknown filter": write_png(GREY, (7,)),
    }


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("index", [0, 1, 2 * CHUNK])
@pytest.mark.parametrize("name", broken_files())
def test_all_broken_files_are_named_by_their_index(name, index):
    encoded = [write_png(GREY)] * (2 * CHUNK + 2)
    encoded[index] = encoded[-1] = broken_files()[name]
    expected = decode(encoded[:index] + encoded[index + 1 : -1])

    with pytest.raises(ValueError, match="is not a readable image|is empty") as caught:
        decode(encoded)

    assert re.findall(r"Image (\d+)", str(caught.value)) == [str(index), str(len(encoded) - 1)]
    assert torch.equal(decode(encoded, on_bad_image="skip"), expected)


def test_the_names_of_many_broken_files_are_shortened():
    with pytest.raises(ValueError, match=r"^Image 0 is empty; .*Image 4 is empty; and 25 more of 30 images; `data"):
        decode([b""] * 30)


def test_an_image_of_another_size_is_not_skipped():
    with pytest.raises(ValueError, match=r"^Image 2 is 3x3 .*; `data.size`"):
        decode([write_png(GREY), b"", write_png(np.zeros((3, 3, 1)))], on_bad_image="skip")


@pytest.mark.usefixtures("threads")
def test_many_images_come_out_in_their_order():
    images = noise(3 * CHUNK + 1, 3, 5, 1)

    pixels = decode([write_png(image) for image in images])

    assert np.array_equal(pixels, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("height", "width"), [(8, 20), (20, 8)])
def test_size_crops_the_centre_and_leaves_the_right_size_alone(height, width):
    image = noise(height, width, 3)
    centre = image[(height - 8) // 2 :, (width - 8) // 2 :][:8, :8]

    cropped = decode([encode(image), encode(centre)], size=8)

    assert np.array_equal(cropped, [centre.transpose(2, 0, 1)] * 2)


@pytest.mark.parametrize("size", [5, 32])
def test_size_resizes_and_keeps_a_constant(size):
    pixels = decode([encode(np.full((16, 24), 77, np.uint8))], size=size)

    assert np.array_equal(pixels, np.full((1, 1, size, size), 77))


def test_channels_convert_and_grey_survives_the_way_to_colour_and_back():
    colour = decode([write_png(GREY)], channels=3)
    back = decode([write_png(colour[0].permute(1, 2, 0).numpy())] * 2, channels=1)
    green = decode([encode(np.full((1, 1, 3), (0, 255, 0), np.uint8))], channels=1)

    assert np.array_equal(colour[0], np.repeat(GREY.transpose(2, 0, 1), 3, 0))
    assert np.array_equal(back, [GREY.transpose(2, 0, 1)] * 2)
    assert green.item() == round(0.587 * 255)  # luma (ITU-R BT.601)


def test_a_camera_held_sideways_is_turned_as_datasets_does():
    from datasets import Image as ImageFeature

    exif = Image.Exif()
    exif[0x0112] = 6  # the tag of the orientation; 6: a quarter turn
    encoded = encode(RGB, "JPEG", exif=exif)

    (pixels,) = decode([encoded])

    theirs = ImageFeature().decode_example({"bytes": encoded, "path": None})
    assert np.array_equal(pixels, np.asarray(theirs).transpose(2, 0, 1))
    assert pixels.shape == (3, 9, 7)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GENHUB_CACHE", str(tmp_path))
    return lambda: sorted((tmp_path / "images").iterdir())


ENCODED = [write_png(image) for image in noise(3, 4, 5, 1)]


def cached(encoded=ENCODED, **config):
    return decode_cached(encoded, DataConfig(**config), "image {}".format).images


def test_the_cache_knows_which_files_were_left_out(cache):
    files = [ENCODED[0], b"", ENCODED[1]]

    first, second = (decode_cached(files, DataConfig(on_bad_image="skip"), str) for _ in range(2))

    assert first.kept.tolist() == second.kept.tolist() == [True, False, True]
    assert torch.equal(first.images, second.images)
    for background in ("black", "white"):
        decode_cached(files, DataConfig(on_bad_image="skip", background=background), str)
        with pytest.raises(ValueError, match="is empty"):
            cached(files, background=background)


def test_of_an_older_cache_which_has_the_images_alone_nothing_was_left_out(cache):
    cached()
    (file,) = cache()
    file.unlink()
    store("images", file.stem, lambda: {"images": decode(ENCODED)})

    found = decode_cached(ENCODED, DataConfig(), str)

    assert (found.kept.tolist(), found.notes(DataConfig())) == ([True] * 3, ())


def test_the_same_bytes_are_decoded_once(cache, monkeypatch):
    images, expected = cached(), decode(ENCODED)
    monkeypatch.setattr(module, "decode", None)  # would fail if it were called

    again = cached()

    assert torch.equal(images, again)
    assert torch.equal(again, expected)
    assert len(cache()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda found: {"images": found["images"][:2]},
        lambda found: {**found, "kept": found["kept"][:2]},
        lambda found: {**found, "images": found["images"][:, 0]},
        lambda found: {**found, "images": found["images"].float()},
        lambda found: {"other": found["images"]},
    ],
)
def test_an_entry_that_does_not_hold_all_images_is_decoded_anew(cache, wrong):
    expected = cached().clone()
    (file,) = cache()
    stored = wrong(load_file(file))
    digest = content_hash(*(part for name in sorted(stored) for part in (name, stored[name])))
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, file, {"hash": digest})

    assert torch.equal(cached(), expected)


def test_other_bytes_or_another_shape_are_decoded_anew(cache):
    cached()
    joined = [ENCODED[0][:-1], ENCODED[0][-1:] + ENCODED[1], *ENCODED[2:]]  # the same bytes, divided otherwise

    for other in ({"size": 4}, {"channels": 3}, {"encoded": ENCODED[::-1]}, {"encoded": ENCODED[:2]}):
        cached(**other)
    assert len(cache()) == 5
    with pytest.raises(ValueError, match="image 1 is not a readable image"):
        cached(joined)


def test_the_cache_of_earlier_releases_is_found(cache):
    encoded = [b"P5 3 2 255 " + bytes(range(i, i + 6)) for i in range(3)]  # PGM

    for size in (None, 4):
        cached(encoded, size=size)

    copied = {"4bdc5ccb3ed17c6a2ab0743b48f4871b", "4bbbec92720e3e741c055f60f1a0ead3"}
    assert {path.stem for path in cache()} == copied
