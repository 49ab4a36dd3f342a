"""The reconstruction of images: what it measures, what it shows, and that its normalisation is undone."""

import math
from functools import partial

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.models.components.conv_autoencoder import ConvAutoencoder
from src.models.reconstruction import Reconstruction


def task(net: nn.Module) -> Reconstruction:
    return Reconstruction(net, partial(torch.optim.AdamW, lr=0.01), None, (1, 8, 8), score="mse", mode="min")


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
