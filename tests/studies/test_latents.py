"""Colour images to try recipes on, and the report of pixels and latents."""

import colour_images
import numpy as np
import pytest
from latents import markdown


def test_a_dyed_image_shows_the_piece_before_a_wall():
    pixels = np.zeros((28, 28), np.uint8)
    pixels[10:18, 10:18] = 255

    one, same = (np.asarray(colour_images.dye(pixels, np.random.default_rng(0))) for _ in range(2))

    assert np.array_equal(one, same)
    assert one.shape == (64, 64, 3)
    wall, piece = one[2], one[31:34, 31:34].reshape(-1, 3)
    assert (wall == wall[0]).all()  # lit evenly along a row
    assert (one[2, 0] > one[-1, 0]).all()  # and from above
    assert piece.std(0).max() < 5
    assert np.abs(piece.mean(0) - wall[0]).max() > 30


def test_a_folder_that_exists_is_left_alone(tmp_path):
    with pytest.raises(ValueError, match="must not exist yet"):
        colour_images.write_images(tmp_path)


def test_the_report_counts_the_time_of_the_autoencoder():
    row = {"images": 1000, "distances": {"1": 3.0, "1.25": 2.0}}
    latents = {"images": 5000, "distances": {"1": 2.0, "1.25": 1.5}, "autoencoder_minutes": 15, "reconstructions": 1}
    report = {"size": 64, "minutes": 30, "device": "chip", "count": 500, "tested": 100, "floor": 0.5}

    text = markdown(report | {"rows": {"pixels": row, "latents": latents}})

    assert "| pixels | 1,000 | 2.00 |  |" in text
    assert "| latents | 5,000 | 1.50 | 1.00 |" in text
    assert "15 minutes of the latents' went into the autoencoder" in text
