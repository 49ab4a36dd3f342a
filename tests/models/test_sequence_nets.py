"""Nets on sequences: same outputs as torch's own modules, and independent of padding."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from src.deploy.inference_net import trace
from src.models.components.recurrent_net import RecurrentNet
from src.models.components.sequence_transformer import SequenceTransformer, sinusoids
from src.models.components.temporal_conv_net import TemporalConvNet
from src.models.counting import count_macs
from tests.models.test_components import SEQUENCE_NETS

VARIANTS = {
    "lstm": partial(RecurrentNet, hidden_size=12),
    "gru of two layers": partial(RecurrentNet, cell="gru", num_layers=2, hidden_size=12),
    "lstm both ways": partial(RecurrentNet, num_layers=2, hidden_size=12, bidirectional=True),
    "gru both ways": partial(RecurrentNet, cell="gru", hidden_size=12, bidirectional=True),
    "transformer": partial(SequenceTransformer, embed_dim=16),
    "transformer with sinusoids": partial(SequenceTransformer, embed_dim=16, positions="sinusoidal"),
    "convolutions": partial(TemporalConvNet, channels=12),
}
# what no named model has, or not for tokens: test_named_models.py compiles the others at each commit
COMPILED_HERE = {"lstm both ways", "transformer with sinusoids", "convolutions"}
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS.keys())
every_net = pytest.mark.parametrize("net_class", SEQUENCE_NETS, ids=lambda net: net.__name__)
SERIES: dict[str, Any] = {"in_features": 5, "length": 9, "num_classes": 4}
TOKENS: dict[str, Any] = {"vocabulary_size": 20, "length": 9, "num_classes": 4}


def some_tokens(lengths: list[int], steps: int) -> Tensor:
    """Return tokens (B, steps) of sequences of these lengths, followed by padding."""
    tokens = torch.randint(1, 20, (len(lengths), steps), generator=torch.Generator().manual_seed(0))
    return tokens * (torch.arange(steps) < torch.tensor(lengths)[:, None])


def test_every_sequence_net_is_tried_here() -> None:
    assert set(SEQUENCE_NETS) == {make.func for make in VARIANTS.values()}


@every_variant
@pytest.mark.parametrize("batch", [1, 3])
def test_series_are_mapped_to_logits_and_every_parameter_learns(make: Any, batch: int) -> None:
    torch.manual_seed(0)
    net = make(**SERIES)
    logits = net(torch.randn(batch, 9, 5))
    assert logits.shape == (batch, 4)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@every_variant
def test_tokens_of_any_length_are_mapped_to_logits_that_padding_does_not_change(make: Any) -> None:
    torch.manual_seed(0)
    net = make(**TOKENS).eval()
    short = some_tokens([1, 3, 5], 5)
    logits = net(short)
    assert logits.shape == (3, 4)
    torch.testing.assert_close(net(nn.functional.pad(short, (0, 4))), logits, atol=1e-6, rtol=1e-5)
    alone = torch.cat([net(row[row != 0][None]) for row in short])  # each without any padding
    torch.testing.assert_close(alone, logits, atol=1e-6, rtol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@every_variant
def test_the_order_and_every_step_of_a_sequence_count(make: Any) -> None:
    torch.manual_seed(0)
    net, tokens = make(**TOKENS).eval(), some_tokens([7], 9)
    logits = net(tokens)
    for step in range(7):
        changed = tokens.clone()
        changed[0, step] = changed[0, step] % 19 + 1
        assert (net(changed) - logits).abs().max() > 1e-5, f"step {step} does not count"
    swapped = tokens[:, [1, 0, *range(2, 9)]]
    assert not torch.equal(swapped, tokens) and (net(swapped) - logits).abs().max() > 1e-5


@every_variant
def test_a_sequence_of_nothing_gives_finite_logits(make: Any) -> None:
    assert make(**TOKENS).eval()(torch.zeros(2, 9, dtype=torch.long)).isfinite().all()


@every_variant
def test_padding_gets_no_gradient(make: Any) -> None:
    torch.manual_seed(0)
    net = make(**TOKENS)
    net(some_tokens([2, 6], 9)).sum().backward()
    assert not net.embed.project.weight.grad[0].any()


@every_variant
@pytest.mark.parametrize("kind", ["series", "tokens"])
def test_it_is_traced_for_batches_of_any_size(make: Any, kind: str) -> None:
    torch.manual_seed(0)
    net = make(**(SERIES if kind == "series" else TOKENS)).eval()
    inputs = torch.randn(5, 4, 5) if kind == "series" else some_tokens([1, 2, 3, 4, 4], 4)
    exported = trace(net, inputs.shape[1:]).module()
    for count in (1, 5):
        torch.testing.assert_close(exported(inputs[:count]), net(inputs[:count]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COMPILED_HERE else pytest.mark.slow) for name in VARIANTS]
)
def test_it_compiles(name: str) -> None:
    net, tokens = VARIANTS[name](**TOKENS).eval(), some_tokens([3, 4], 4)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens), net(tokens), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_net_computes_what_torch_computes_on_packed_sequences(cell: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    net = RecurrentNet(**TOKENS, cell=cell, num_layers=2, hidden_size=12, embed_dim=6, bidirectional=bidirectional)
    published = getattr(nn, cell.upper())(6, 12, num_layers=2, batch_first=True, bidirectional=bidirectional)
    for number, layer in enumerate(net.layers):
        for suffix, module in {"": layer.forwards, "_reverse": layer.backwards}.items():
            for name, weight in module.named_parameters() if module is not None else ():
                getattr(published, name.replace("l0", f"l{number}") + suffix).data.copy_(weight)
    lengths = [2, 9, 5]
    tokens = some_tokens(lengths, 9)
    packed = pack_padded_sequence(net.embed(tokens)[0], torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    state = published(packed)[1]  # of an LSTM with its cells
    states = state[0] if cell == "lstm" else state  # (layers · directions, B, 12)
    final = torch.cat(list(states[-2:] if bidirectional else states[-1:]), dim=1)  # of the last layer
    torch.testing.assert_close(net(tokens), net.head(final), atol=1e-5, rtol=0)


def test_a_transformer_computes_what_torchs_encoder_computes() -> None:
    torch.manual_seed(0)
    net = SequenceTransformer(**TOKENS, embed_dim=16, depth=2, num_heads=4, mlp_ratio=3).eval()
    layer = nn.TransformerEncoderLayer(
        16, 4, 48, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    published = nn.TransformerEncoder(layer, 2, norm=net.norm, enable_nested_tensor=False).eval()
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj": "attention.proj",
        "linear1": "mlp.0",
        "linear2": "mlp.3",
    }
    for ours, theirs in zip(net.blocks, published.layers, strict=True):
        weights = ours.state_dict()
        for name, parameter in theirs.named_parameters():
            for old, new in names.items():
                name = name.replace(old, new)
            parameter.data.copy_(weights[name])
    tokens = some_tokens([2, 9, 5], 9)
    mask = tokens != 0
    x = published(net.embed.project(tokens) + net.position, src_key_padding_mask=~mask)
    means = torch.stack([row[valid].mean(dim=0) for row, valid in zip(x, mask, strict=True)])
    torch.testing.assert_close(net(tokens), net.head(means), atol=1e-5, rtol=0)


def test_sinusoids_are_those_of_the_paper() -> None:
    positions = sinusoids(50, 8)
    for position, place in [(0, 0), (7, 2), (49, 6)]:
        angle = torch.tensor(position / 10_000 ** (place / 8))
        torch.testing.assert_close(positions[position, place], angle.sin())
        torch.testing.assert_close(positions[position, place + 1], angle.cos())


def test_a_convolution_sees_as_many_steps_as_its_documentation_says() -> None:
    torch.manual_seed(0)
    net = TemporalConvNet(in_features=1, length=40, num_classes=2, channels=8, depth=3, kernel_size=3)
    series = torch.randn(1, 40, 1, requires_grad=True)
    net(series).sum().backward()
    assert series.grad is not None
    assert series.grad[0, :, 0].nonzero().min() == 40 - (1 + 2 * (3 - 1) * (2**3 - 1))


@every_net
@pytest.mark.parametrize("name", ["in_features", "num_classes", "length"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_of_the_data_below_1_is_refused_by_name_and_value(net_class: Any, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must be at least 1"):
        net_class(**{**SERIES, name: value})


@pytest.mark.parametrize(
    ("net_class", "options", "message"),
    [
        (RecurrentNet, {"cell": "rnn"}, "cell=rnn must be one of lstm, gru"),
        (RecurrentNet, {"num_layers": 0}, "num_layers=0 must be at least 1"),
        (RecurrentNet, {"vocabulary_size": 9}, "in_features=5 and vocabulary_size=9: give the one for series"),
        (RecurrentNet, {"in_features": None}, "in_features=None and vocabulary_size=None: give the one"),
        (SequenceTransformer, {"positions": "rotary"}, "positions=rotary must be one of sinusoidal, learnt"),
        (SequenceTransformer, {"embed_dim": 10}, "embed_dim=10 must be a multiple of num_heads=4"),
        (
            SequenceTransformer,
            {"embed_dim": 9, "num_heads": 3, "positions": "sinusoidal"},
            "embed_dim=9 must be even for sinusoidal positions",
        ),
        (TemporalConvNet, {"kernel_size": 0}, "kernel_size=0 must be at least 1"),
    ],
)
def test_a_bad_choice_is_refused_by_name_and_value(net_class: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net_class(**{**SERIES, **options})


@every_net
@pytest.mark.parametrize(
    ("facts", "inputs", "message"),
    [
        (SERIES, torch.zeros(2, 10, 5), r"\(2, 10, 5\), but the net takes \(batch, steps, 5\) of at most 9 steps"),
        (SERIES, torch.zeros(2, 9, 6), r"\(2, 9, 6\), but the net takes \(batch, steps, 5\)"),
        (SERIES, torch.zeros(2, 9), r"\(2, 9\), but the net takes \(batch, steps, 5\)"),
        (TOKENS, torch.ones(2, 10, dtype=torch.long), r"\(2, 10\), but the net takes tokens \(batch, steps\)"),
        (TOKENS, torch.zeros(2, 9, 5), r"\(2, 9, 5\), but the net takes tokens \(batch, steps\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(
    net_class: Any, facts: dict[str, Any], inputs: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        net_class(**facts)(inputs)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_the_operations_of_recurrent_layers_are_counted(cell: str, gates: int) -> None:
    net = RecurrentNet(**SERIES, cell=cell, num_layers=2, hidden_size=12, bidirectional=True)
    by_hand = 9 * 2 * gates * 12 * ((5 + 12) + (24 + 12)) + 24 * 4  # steps · directions · weights, and the head
    assert count_macs(net, torch.randn(1, 9, 5)) == by_hand
    assert count_macs(net, torch.randn(3, 9, 5)) == 3 * by_hand
