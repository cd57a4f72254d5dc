from pathlib import Path

import families
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_picture_of_the_readme_is_what_the_published_models_make():
    stored = np.asarray(Image.open(ROOT / "docs/families.png").convert("L"), float)

    made = np.asarray(families.picture(), float)

    assert made.shape == stored.shape
    assert np.abs(made - stored).mean() < 1  # of 255: arithmetic differs between machines
