"""The reconstruction of images: its metrics and pictures, and that its normalisation is undone."""

import math
from functools import partial

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from src.data.synthetic import SyntheticDataModule
from src.models.components.conv_autoencoder import ConvAutoencoder
from src.models.reconstruction import Reconstruction


def task(net: nn.Module, **options: float) -> Reconstruction:
    adamw = partial(torch.optim.AdamW, lr=0.01)
    return Reconstruction(net, adamw, None, (1, 8, 8), score="mse", mode="min", **options)


def test_metrics_are_the_means_over_images_whatever_the_batches() -> None:
    model = task(nn.Identity())
    metrics, errors = model.make_metrics("val"), [0.01, 0.1, 0.001]
    for batch in (errors[:2], errors[2:]):
        target = torch.zeros(len(batch), 1, 8, 8)
        output = target + torch.tensor(batch).sqrt().view(-1, 1, 1, 1)
        model.update_metrics(
            metrics, model.losses({"image": output}, {"image": target}), {"image": output}, {"image": target}
        )
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["mse"] == pytest.approx(sum(errors) / 3) and found["loss"] == pytest.approx(sum(errors) / 3)
    assert found["psnr"] == pytest.approx(sum(-10 * math.log10(error) for error in errors) / 3)


def test_a_net_that_undoes_the_normalisation_makes_no_errors() -> None:
    data = SyntheticDataModule(
        num_classes=4, channels=1, image_size=8, train_size=32, val_size=8, test_size=16, batch_size=8
    )
    data.setup()
    card = data.input_card()

    class Undo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = nn.Parameter(torch.zeros(()))

        def forward(self, images: Tensor) -> Tensor:
            return images * card["std"][0] + card["mean"][0] + 0 * self.anything

    model = task(Undo())
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert trainer.callback_metrics["test/mse"] < 1e-10
    pixels = data.data_test.tensors[0].float() / 255  # type: ignore[union-attr]
    batch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(model.targets(batch)["image"], pixels[:8])


def test_data_that_do_not_tell_their_normalisation_are_refused() -> None:
    data = L.LightningDataModule.from_datasets(TensorDataset(torch.rand(8, 1, 8, 8), torch.zeros(8)))
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2]))
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"mean and std in input_card\(\), which LightningDataModule does not return"):
        trainer.fit(model, datamodule=data)


def test_it_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[16, 8]))
    images, labels = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.long)
    optimizer = model.make_optimizer()
    losses = []
    for _ in range(150):
        loss, outputs = model.step([images, labels], model.train_metrics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert list(outputs) == ["image"] and losses[-1] < 0.3 * losses[0]


def test_a_sample_is_shown_as_input_output_and_difference_with_its_error() -> None:
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2]))
    target, output = torch.zeros(2, 1, 8, 8), torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.5)])
    panels = model.panels(target, output, target)
    assert list(panels) == ["input", "output", "difference"]
    assert torch.equal(panels["difference"], output) and torch.equal(panels["input"], target)
    assert model.sample_errors(output, target).tolist() == [0.0, 0.25]
    facts = model.describe_samples(output, target, {})
    assert [model.caption(one) for one in facts] == ["mse 0", "mse 0.25"]


def test_noise_to_measure_a_step_on_fits_the_net() -> None:
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2]))
    batch = model.example_batch(5)
    loss, outputs = model.step(batch, model.train_metrics)
    assert outputs["image"].shape == batch[0].shape == (5, 1, 8, 8) and loss.isfinite()


def test_how_the_data_are_normalised_travels_with_the_weights() -> None:
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2]))
    model.mean.fill_(0.3)
    model.std.fill_(0.2)
    other = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2]))
    other.load_state_dict(model.state_dict())
    assert other.mean.item() == pytest.approx(0.3) and other.std.item() == pytest.approx(0.2)


def test_structural_similarity_is_measured_in_evaluation_alone() -> None:
    model = task(nn.Identity())
    image, other = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16)
    for output, expected in ((image, 1.0), (other, ssim(other, image, data_range=1.0).item())):
        metrics, values = model.make_metrics("val"), {"image": output}
        model.update_metrics(metrics, model.losses(values, {"image": image}), values, {"image": image})
        assert metrics.compute()["ssim"].item() == pytest.approx(expected, abs=1e-5)
    assert abs(expected) < 0.5
    assert "ssim" not in model.make_metrics("train").names


def test_noise_has_the_given_strength_in_pixels_and_is_in_the_input_alone() -> None:
    model = task(nn.Identity(), noise_std=0.2)
    model.std.fill_(0.25)
    clean, labels = torch.rand(64, 1, 8, 8), torch.zeros(64)
    for training in (True, False):
        images, *_ = batch = model.train(training).prepare([clean, labels])
        assert model.pixels(images).sub(model.pixels(clean)).std().item() == pytest.approx(0.2, rel=0.05)
        assert torch.equal(model.targets(batch)["image"], model.pixels(clean)) and batch[-1] is labels
        loss, outputs = model.step([clean, labels], model.make_metrics("train"))
        assert outputs["image"].shape == clean.shape and loss > 0  # the net is given the images alone


def test_images_are_corrupted_on_their_own_device() -> None:
    model = task(nn.Identity(), noise_std=0.2)
    images, clean, _ = model.prepare([torch.rand(2, 1, 8, 8, device="meta"), torch.zeros(2)])
    assert images.device == clean.device == torch.device("meta")


@pytest.mark.parametrize(("fraction", "patch_size", "masked"), [(0.5, 4, 2), (0.26, 2, 4), (0.12, 1, 8), (0.5, 5, 2)])
def test_as_many_patches_as_asked_for_are_masked(fraction: float, patch_size: int, masked: int) -> None:
    model = task(nn.Identity(), mask_fraction=fraction, patch_size=patch_size)
    clean = 1 + torch.rand(128, 1, 8, 8)
    images = model.prepare([clean, torch.zeros(128)])[0]
    is_masked = images != clean
    assert not images[is_masked].any() and (clean[~is_masked] == images[~is_masked]).all()
    patches = nn.functional.max_pool2d(is_masked.float(), patch_size, ceil_mode=True)  # (B, 1, rows, columns)
    whole = -nn.functional.max_pool2d(-is_masked.float(), patch_size, ceil_mode=True)
    assert torch.equal(patches, whole) and (patches.flatten(1).sum(1) == masked).all()
    assert len(patches.unique(dim=0)) > 1  # others in each image
    assert patches.mean(dim=0).min() > 0  # everywhere


def test_what_training_draws_comes_from_the_global_generator() -> None:
    model, clean = task(nn.Identity(), noise_std=0.1, mask_fraction=0.5), torch.rand(2, 1, 8, 8)
    state = torch.get_rng_state()
    first = model.prepare([clean, torch.zeros(2)])[0]
    assert not torch.equal(first, model.prepare([clean, torch.zeros(2)])[0])
    torch.set_rng_state(state)
    assert torch.equal(first, model.prepare([clean, torch.zeros(2)])[0])


def test_in_evaluation_what_becomes_of_an_image_depends_on_it_alone() -> None:
    model = task(nn.Identity(), noise_std=0.1, mask_fraction=0.5).eval()
    model.mean.fill_(0.3)
    model.std.fill_(0.2)
    pixels = torch.randint(256, (6, 1, 8, 8)) / 255
    clean = (pixels - 0.3) / 0.2
    state = torch.get_rng_state()
    images = model.prepare([clean, torch.zeros(6)])[0]
    one_by_one = [model.prepare([image[None], torch.zeros(1)])[0] for image in clean.flip(0)]
    assert torch.equal(images, torch.cat(one_by_one).flip(0))
    assert torch.equal(torch.get_rng_state(), state)
    model.mask_fraction = 0.0
    images = torch.stack([clean[0], clean[1], clean[0].flip(2)])  # the last has the first one's values elsewhere
    noise = model.prepare([images, torch.zeros(3)])[0] - images
    assert noise[0].sub(noise[1]).abs().mean() > 0.1 and noise[0].sub(noise[2]).abs().mean() > 0.1


def test_what_was_corrupted_is_shown_beside_what_it_should_become() -> None:
    model = task(nn.Identity(), noise_std=0.1)
    panels = model.panels(torch.full((1, 1, 8, 8), 2.0), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8))
    assert list(panels) == ["input", "output", "target", "difference"] and panels["input"].max() == 1


def test_a_code_is_an_output_but_not_trained_by_itself() -> None:
    model = task(ConvAutoencoder(in_channels=1, image_size=8, channels=[2], bottleneck=3))
    assert model.output_card({}) == {"image": {"kind": "image"}, "code": {"kind": "vector"}}
    batch = model.example_batch(4)
    loss, outputs = model.step(batch, model.make_metrics("val"))
    assert outputs["code"].shape == (4, 3)
    torch.testing.assert_close(loss, (outputs["image"] - model.targets(batch)["image"]).square().mean())


@pytest.mark.parametrize(("name", "value"), [("noise_std", -0.1), ("mask_fraction", 1.0), ("patch_size", 0)])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must"):
        task(nn.Identity(), **{name: value})
