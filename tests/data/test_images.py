"""In which order and range images are seen, and what a batch holds."""

import itertools

import pytest
import torch

from genhub.data import Images, Latents, Order, Points, Shape, to_model_range

LENGTH = 7


def test_the_range_is_exact_at_both_ends_and_even_between():
    seen = to_model_range(torch.arange(256, dtype=torch.uint8))

    assert (seen[0], seen[255], seen.dtype) == (-1, 1, torch.float32)
    torch.testing.assert_close(seen, torch.linspace(-1, 1, 256))
    assert torch.equal(((seen + 1) * 127.5).round().byte(), torch.arange(256).byte())


def test_every_epoch_visits_every_image_once_in_an_order_of_its_own():
    epochs = Order(100, seed=3)(0, 500).view(5, 100)
    others = Order(100, seed=4)(0, 500).view(5, 100)

    everything = torch.cat([epochs, others])

    assert torch.equal(everything.sort(dim=1).values, torch.arange(100).expand(10, 100))
    assert len(everything.unique(dim=0)) == 10


@pytest.mark.parametrize("count", [1, 3, LENGTH, 2 * LENGTH + 1])
def test_any_position_continues_the_same_stream(count):
    stream, used = Order(LENGTH, seed=0)(0, 60), Order(LENGTH, seed=0)

    for start in (0, 1, LENGTH - 1, LENGTH, 20, 38, 5):
        assert torch.equal(Order(LENGTH, seed=0)(start, count), stream[start : start + count])
        assert torch.equal(used(start, count), stream[start : start + count])


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_batches_of_all_ranks_are_the_global_batch(ranks, labelled):
    data = Images(
        torch.arange(LENGTH, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(LENGTH) if labelled else None
    )
    begin, total, share = 5, 8, 8 // ranks

    parts = [data.batches(share, begin + rank * share, total, 0, "cpu") for rank in range(ranks)]

    stream = Order(LENGTH, seed=0)(begin, 4 * total)
    for step, batches in enumerate(itertools.islice(zip(*parts, strict=True), 4)):
        expected = data.batch(stream[step * total :][:total])
        assert expected.keys() == ({"sample", "labels"} if labelled else {"sample"})
        for name, value in expected.items():
            assert torch.equal(torch.cat([batch[name] for batch in batches]), value)


@pytest.mark.parametrize("count", [1, 300, 1000, 1001, 2500])
def test_the_mean_and_deviation_are_those_of_at_most_1000_images_from_everywhere(count):
    pixels = torch.randint(256, (count, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels[count // 2 :] //= 2  # a set whose ends differ

    shape = Images(pixels).measure()

    met = to_model_range(pixels)
    tolerance = 5e-4 if count <= 1000 else 0.03  # they are rounded to 3 digits
    assert (shape.mean, shape.std) == pytest.approx((met.mean().item(), met.std(correction=0).item()), abs=tolerance)
    assert shape == Shape(3, 2, 2, mean=0.5, std=0.5)  # not what a model has to fit


def test_latents_have_a_mean_and_deviation_too():
    shape = Latents(torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1)).measure()

    assert (shape.mean, shape.std) == (1, 2)


@pytest.mark.parametrize("values", [torch.rand(2, 1, 2, 2), torch.zeros(2, 1, 2, 2, dtype=torch.int64)])
def test_what_is_not_uint8_is_never_taken_for_pixels(values):
    for function in (to_model_range, Images):
        with pytest.raises(ValueError, match=f"`images` must be uint8, got {values.dtype}"):
            function(values)


def with_everything(kind):
    """Seven samples of a kind of data set: sample i is full of i, has the label i % 3 and the tokens (i, 10 + i)."""
    index = torch.arange(LENGTH)
    values = index.to(torch.uint8 if kind is Images else torch.float32)[:, None, None, None].expand(-1, 2, 3, 1)
    return kind(values, index % 3, ("a", "b", "c"), torch.stack([index, 10 + index], 1))


@pytest.mark.parametrize("kind", [Images, Latents, Points])
def test_labels_and_tokens_stay_with_their_sample(kind):
    data = with_everything(kind)
    parts = [data, data[2:5], data[torch.tensor([6, 1])], data.to("cpu"), data.choose(4, 0), data.draw_labelled(3, 0)]

    batches = [part.batch(slice(None)) for part in parts] + [next(data.batches(5, 4, 5, 0, "cpu"))]

    assert {type(part) for part in parts} == {kind}
    assert {part.class_names for part in parts} == {("a", "b", "c")}
    for batch in batches:
        index = batch["input_ids"][:, 0]
        assert torch.equal(batch["sample"], data.batch(index)["sample"])
        assert torch.equal(batch["labels"], index % 3)
        assert torch.equal(batch["input_ids"][:, 1], 10 + index)


@pytest.mark.parametrize(
    ("kind", "expected"), [(Images, lambda x: x / 127.5 - 1), (Latents, lambda x: x), (Points, lambda x: 2 * x - 1)]
)
def test_each_kind_of_data_is_met_in_its_own_range(kind, expected):
    data = with_everything(kind)

    sample = data.batch(slice(None))["sample"]

    assert sample.dtype == torch.float32
    torch.testing.assert_close(sample[:, 0, 0, 0], expected(torch.arange(7.0)))
    shape = data.shape
    assert (shape.channels, shape.height, shape.width, shape.num_classes) == (2, 3, 1, 3)
