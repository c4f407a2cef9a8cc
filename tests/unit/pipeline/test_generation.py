"""Generating images of classes: with our arguments, and with those of diffusers."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig
from bigr.sampling.sampler import Progress, Sampler
from tests.models import tiny_autoencoder, tiny_generator
from tests.pictures import pixels

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


def contents(pictures: Any) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


def drawn(seed: int, count: int) -> list[int]:
    """The first numbers of a generator, one after the other, as its documentation defines them."""
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(2**62, (1,), generator=generator)) for _ in range(count)]


def test_generate_is_the_samplers(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.generate([0, 2], num_per_class=2, seed=7, **FAST)
    codes = Sampler(SamplerConfig(**FAST)).sample(
        pipeline.models.generator, torch.tensor([0, 0, 2, 2]), seeds=range(7, 11)
    )
    for picture, image in zip(pictures, pipeline.decode(codes), strict=True):
        expected = (image * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels(picture), expected)
    assert pipeline.generate(2, seed=10, **FAST)[0].tobytes() == pictures[3].tobytes()


def test_unknown_setting(pipeline: BiGRPipeline) -> None:
    with pytest.raises(TypeError, match="guidance: there is no such argument"):
        pipeline.generate(0, guidance=3)


def test_stream_says_what_each_image_is_of(pipeline: BiGRPipeline) -> None:
    """Classes and seeds, image by image; two processes share the batches."""
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    expected = pipeline.generate([2, 0], num_per_class=3, seed=4, **FAST)
    parts = [
        list(small.stream([2, 0], num_per_class=3, seed=4, share=(rank, 2), **FAST))
        for rank in (0, 1)
    ]
    assert [len(part) for part in parts] == [4, 2]
    for found in parts[0] + parts[1]:
        assert found.class_id == (2, 0)[(found.seed - 4) // 3]
        assert found.picture.tobytes() == expected[found.seed - 4].tobytes()
    assert {found.seed for part in parts for found in part} == set(range(4, 10))


def test_stream_begins_with_the_first_image(pipeline: BiGRPipeline) -> None:
    """Mistakes are reported at once, and nothing is sampled before an image is asked for."""
    with pytest.raises(ValueError, match=r"has the classes 0\.\.2"):
        pipeline.stream([0, 7], **FAST)
    seen: list[Progress] = []
    found = pipeline.stream(0, on_iteration=seen.append, **FAST)
    assert seen == []
    next(found)
    assert len(seen) == 3


def test_the_null_class_has_a_number(pipeline: BiGRPipeline) -> None:
    picture = pipeline.generate(3, seed=2, guidance_scale=5.0, **FAST)[0]
    assert picture.tobytes() == pipeline.generate(3, seed=2, **FAST)[0].tobytes()  # no guidance
    codes = Sampler(SamplerConfig(**FAST)).sample(
        pipeline.models.generator, torch.tensor([3]), seeds=[2]
    )
    assert np.array_equal(
        pixels(picture), (pipeline.decode(codes)[0] * 255).round().permute(1, 2, 0).numpy()
    )


def test_the_sampler_is_reused_and_counts(pipeline: BiGRPipeline) -> None:
    pipeline.generate(0, **FAST)
    sampler, once = pipeline.sampler, pipeline.sampler.flops
    assert once > 0
    pipeline.generate(0, **FAST)
    assert pipeline.sampler is sampler
    assert sampler.flops == 2 * once
    pipeline.generate(0, guidance_scale=1.5, **FAST)
    assert pipeline.sampler is not sampler


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.generate("tabby"), "no names for its classes"),
        (lambda p: p.generate(4), "has the classes 0..2"),
        (lambda p: p.generate([]), "give at least one class"),
        (lambda p: p.generate(0, num_per_class=0), "num_per_class must be a positive integer"),
        (lambda p: p.generate(0, num_per_class=1.5), "num_per_class must be .* got 1.5"),
        (lambda p: p.generate([0, 1], num_per_class=10**6), "at most 1,000,000 images in one"),
        (lambda p: p.generate(0, num_denoise_steps=999), "num_denoise_steps must be between"),
        (lambda p: p.generate([0, 1], seeds=[4]), "2 images need 2 seeds, got 1"),
        (lambda p: p.generate(0, seeds=4), "seeds must be a list with a number for each image"),
        (lambda p: p.generate(0, seeds=[-4]), "seeds must lie in"),
        (lambda p: p([0, 1], generator=[torch.Generator()]), "need one generator, or 2, got 1"),
        (lambda p: p(0, generator=torch.Generator(), seeds=[1]), "generator or seeds, not both"),
        (lambda p: p(0, output_type="jpg"), "output_type='jpg': it must be one of pil, pt and np"),
        (
            lambda p: p(0, num_inference_steps=3, num_iterations=4),
            "num_inference_steps and num_iterations are the same",
        ),
        (lambda p: p(0, num_inference_steps=0), "num_iterations must be a positive integer"),
        (
            lambda p: p(0, callback_on_step_end_tensor_inputs=["latents"]),
            "there is no tensor latents. There are codes, is_masked, confidence",
        ),
        (lambda p: p.get_label_ids(["0", "eight"]), "class 'eight': this generator has no names"),
    ],
)
def test_bad_arguments(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.generate(1.5), "a class is given by its number or name, got 1.5"),
        (lambda p: p.generate([0, 1.5]), "a class is given by its number or name, got 1.5"),
        (lambda p: p.generate(0, seed="a"), "seed must be an integer, got 'a'"),
        (lambda p: p.generate(0, sampler="fast"), "sampler must be a bigr.SamplerConfig, got 'fas"),
        (lambda p: Sampler("fast"), "a Sampler needs a SamplerConfig, got 'fast'"),
    ],
)
def test_arguments_of_another_type(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(pipeline)


def test_names_of_diffusers_are_explained(pipeline: BiGRPipeline) -> None:
    """Methods other than a call do not have them."""
    with pytest.raises(TypeError, match=r"num_inference_steps: .* called num_iterations here"):
        pipeline.generate(0, num_inference_steps=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"guidance_scal: .* Did you mean guidance_scale"):
        pipeline.generate(0, guidance_scal=3.0)  # type: ignore[call-arg]


def test_without_a_class(pipeline: BiGRPipeline) -> None:
    """None is the null class, alone or in a list."""
    (picture,) = pipeline.generate(None, seed=2, **FAST)
    assert contents([picture]) == contents(pipeline.generate(3, seed=2, **FAST))
    both = pipeline.generate([1, None], seed=1, **FAST)
    assert both[1].tobytes() == picture.tobytes()
    assert contents(pipeline(seeds=[2], **FAST).images) == contents([picture])


def test_a_call_is_generate_with_the_seeds_that_it_returns(pipeline: BiGRPipeline) -> None:
    """One generator draws them one after the other, and goes on in the next call."""
    generator = torch.Generator().manual_seed(33)
    first = pipeline(class_labels=[2, 0], generator=generator, num_inference_steps=3,
                     num_denoise_steps=4, guidance_scale=3.0)  # fmt: skip
    assert first.seeds == drawn(33, 2)
    expected = pipeline.generate([2, 0], seeds=first.seeds, guidance_scale=3.0, **FAST)
    assert contents(first.images) == contents(expected)
    assert pipeline(1, generator=generator, **FAST).seeds == drawn(33, 3)[2:]


def test_one_generator_for_each_image(pipeline: BiGRPipeline) -> None:
    """An image is the one that its generator gives alone, in any batch."""
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = pipeline(torch.tensor([1, 2]), generator=generators, **FAST)
    assert both.seeds == [*drawn(5, 1), *drawn(6, 1)]
    alone = pipeline(2, generator=torch.Generator().manual_seed(6), **FAST)
    assert contents(both.images)[1:] == contents(alone.images)


def test_the_global_generator_draws_the_seeds_by_default(pipeline: BiGRPipeline) -> None:
    torch.manual_seed(7)
    assert pipeline([0, 0], **FAST).seeds == drawn(7, 2)
    assert pipeline([0, 0], generator=torch.manual_seed(7), **FAST).seeds == drawn(7, 2)


def test_forms_of_the_output(pipeline: BiGRPipeline) -> None:
    """The same pixels as PIL images, tensor and array; and as a tuple."""
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    found = {
        kind: small([0, 1, 2], seeds=[4, 5, 6], output_type=kind, **FAST).images
        for kind in ("pil", "pt", "np")
    }
    assert found["pt"].shape == (3, 3, 8, 8)
    assert found["pt"].dtype == torch.float32
    assert found["np"].shape == (3, 8, 8, 3)
    assert np.array_equal(found["np"].transpose(0, 3, 1, 2), found["pt"].numpy())
    for picture, image in zip(found["pil"], found["np"], strict=True):
        assert np.array_equal(pixels(picture), (image * 255).round())
    (images,) = small([0, 1, 2], seeds=[4, 5, 6], return_dict=False, **FAST)
    assert contents(images) == contents(found["pil"])


def test_callback_at_the_end_of_a_step(pipeline: BiGRPipeline) -> None:
    """Steps from 0, fewer and fewer masked tokens, and the tensors that were asked for."""
    seen: list[Any] = []
    progress: list[Progress] = []
    pipeline.generate([0, 1], seeds=[4, 5], on_iteration=progress.append, **FAST)

    def record(who: BiGRPipeline, step: int, left: int, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((who, step, left, tensors))
        return tensors

    names = ["codes", "is_masked"]
    pipeline(
        [0, 1], seeds=[4, 5], callback_on_step_end=record,
        callback_on_step_end_tensor_inputs=names, **FAST,
    )  # fmt: skip
    assert [(who is pipeline, step) for who, step, _, _ in seen] == [
        (True, 0),
        (True, 1),
        (True, 2),
    ]
    for (_, _, left, tensors), state in zip(seen, progress, strict=True):
        assert list(tensors) == names
        assert torch.equal(tensors["codes"], state.codes)
        assert left == tensors["is_masked"].sum() == state.is_masked.sum()
    assert seen[0][2] > seen[1][2] > seen[2][2] == 0


def test_progress_bar(pipeline: BiGRPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """A call shows it: all iterations of all batches. It can be turned off, and configured."""
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    small([0, 1, 2], **FAST)
    assert "6/6" in capsys.readouterr().err
    small.generate([0, 1, 2], **FAST)
    assert capsys.readouterr().err == ""
    small.set_progress_bar_config(disable=True)
    small([0, 1, 2], **FAST)
    assert capsys.readouterr().err == ""
    stream = io.StringIO()
    small.set_progress_bar_config(desc="painting", file=stream)
    seen: list[int] = []
    small([0, 1], callback_on_step_end=lambda _, step, *__: seen.append(step), **FAST)
    assert "painting: 100%" in stream.getvalue()
    assert "3/3" in stream.getvalue()
    assert seen == [0, 1, 2]


def test_labels() -> None:
    """All names of the classes, as DiTPipeline has them, and their numbers."""
    models = tiny_generator(), tiny_autoencoder()
    names = ["tench, Tinca tinca", "bee", "ant"]
    pipeline = BiGRPipeline(*models, class_names=names, device="cpu")
    assert list(pipeline.labels) == ["Tinca tinca", "ant", "bee", "tench", "tench, Tinca tinca"]
    assert pipeline.get_label_ids(list(pipeline.labels)) == list(pipeline.labels.values())
    assert pipeline.get_label_ids("Bee") == [1]
    assert BiGRPipeline(*models, device="cpu").labels == {"0": 0, "1": 1, "2": 2}
    with pytest.raises(ValueError, match=r"'tensh': no class has this name\. Did you mean tench"):
        pipeline.get_label_ids(["tensh"])


def test_the_scheduler_cannot_be_exchanged(
    pipeline: BiGRPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """Scripts that do so run, and are told that it has no effect."""
    before = pipeline.generate(0, **FAST)[0].tobytes()
    assert pipeline.scheduler.config == {}
    with caplog.at_level(logging.WARNING):
        pipeline.scheduler = torch.Generator()  # type: ignore[assignment]
    assert "assigning a Generator has no effect" in caplog.text
    assert pipeline.generate(0, **FAST)[0].tobytes() == before
