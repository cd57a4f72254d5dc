"""A card says of which classes and arguments the networks of a recipe are, as code."""

from genhub import recipes
from genhub.training.describe import describe_networks


def test_networks_are_written_as_code_and_what_the_recipe_does_not_build_is_left_out():
    recipe = recipes.load(
        "dcgan", {"components.generator.latent_channels": 50, "components.generator.out_channels": 1}
    )

    told = describe_networks(recipe, ["generator", "image_processor", "discriminator"])

    assert told == [
        ("generator", "`DCGANGenerator(latent_channels=50, out_channels=1)`"),
        ("discriminator", "`DCGANDiscriminator()`"),
    ]
