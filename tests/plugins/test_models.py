"""Models: parameter counts of the published networks, the block, and the contract of every file in lt/models."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lt.core.plugins import load, names
from lt.network.classifier import experts_of
from lt.network.resnet import Block

# The large ones share the code of resnet10, and are tested in test_backbones.py at less cost; networks of other libraries in
# test_pretrained_networks.py; identity takes no images, see test_embeddings.py.
LARGE = {"resnet50", "resnet152", "resnext50_32x4d"}
ALL = [name for name in names("models") if name not in LARGE | {"identity", "timm", "torchvision"}]


def make(name, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load("models", name)(**options)


def random_images(size=4, side=8, seed=0):
    return torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(seed))


def feature_shape(model):
    return (model.feature_dim,) if experts_of(model) == 1 else (experts_of(model), model.feature_dim)


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


# The published networks


def test_resnet32_has_the_published_number_of_parameters():
    model = make("resnet32")
    linear = load("heads", "linear")
    assert parameters(model) == 463_504
    assert parameters(model, linear(model.feature_dim, 10)) == 464_154
    assert parameters(model, linear(model.feature_dim, 100)) == 470_004


@pytest.mark.parametrize("name, n", [("resnet8", 1), ("resnet20", 3), ("resnet32", 5)])
def test_depth_is_six_n_plus_two(name, n):
    """Convolutions and the head's one layer."""
    assert sum(isinstance(part, nn.Conv2d) for part in make(name).modules()) + 1 == 6 * n + 2


def test_bbn_has_one_block_more_than_resnet32():
    model = make("resnet32_bbn")
    assert model.feature_dim == 128
    assert parameters(model) == 463_504 + parameters(model.branch2)
    assert parameters(model.branch2) == 2 * (64 * 64 * 9 + 2 * 64)


def test_bbn_branches_give_a_half_of_the_features_each():
    model, images = make("resnet32_bbn").eval(), random_images()
    before = model(images)
    nn.init.zeros_(model.branch2.conv1.weight)
    after = model(images)
    assert torch.equal(before[:, :64], after[:, :64]) and not torch.equal(before[:, 64:], after[:, 64:])


@pytest.mark.parametrize("options, experts, width", [({}, 3, 48), ({"experts": 2, "reduce_dimension": False}, 2, 64)])
def test_ride_shape(options, experts, width):
    model = make("ride_resnet32", **options)
    assert (experts_of(model), model.feature_dim) == (experts, width)
    assert model.eval()(random_images()).shape == (4, experts, width)


def test_ride_with_full_width_and_one_expert_is_resnet32():
    single, plain = make("ride_resnet32", experts=1, reduce_dimension=False), make("resnet32")
    renamed = {key.replace("experts.0.", ""): value for key, value in single.state_dict().items()}
    plain.load_state_dict(renamed)
    images = random_images()
    assert torch.equal(single.eval()(images), plain.eval()(images))


def test_ride_experts_differ_and_share_the_first_stage_only():
    model = make("ride_resnet32").eval()
    features = model(random_images())
    assert not torch.allclose(features[:, 0], features[:, 1]) and not torch.allclose(features[:, 1], features[:, 2])
    nn.init.zeros_(model.experts[0].stage3[0].conv1.weight)
    changed = model(random_images())
    assert not torch.equal(features[:, 0], changed[:, 0]) and torch.equal(features[:, 1:], changed[:, 1:])
    assert {key.split(".")[0] for key in model.state_dict()} == {"stem", "stage1", "experts"}


# Blocks


@pytest.mark.parametrize("in_width, width", [(16, 32), (32, 64), (16, 24), (24, 48)])
def test_shortcut_takes_every_second_pixel_and_pads_with_zeros(in_width, width):
    block, features = Block(in_width, width, stride=2), torch.rand(2, in_width, 8, 8)
    nn.init.zeros_(block.bn2.weight)  # silences the residual
    output, each_side = block(features), (width - in_width) // 2
    torch.testing.assert_close(output[:, each_side : each_side + in_width], features[:, :, ::2, ::2], rtol=0, atol=0)
    assert output.shape == (2, width, 4, 4)
    assert output[:, :each_side].eq(0).all() and output[:, each_side + in_width :].eq(0).all()


def test_block_adds_its_input_to_the_residual():
    block, features = Block(16, 16, stride=1).eval(), torch.randn(2, 16, 8, 8)
    residual = F.conv2d(F.relu(F.conv2d(features, block.conv1.weight, padding=1)), block.conv2.weight, padding=1)
    # Batch norm in its initial state divides by sqrt(1 + eps), here twice.
    torch.testing.assert_close(block(features), F.relu(residual + features), atol=1e-4, rtol=1e-4)


def test_convolutions_start_with_variance_two_over_fan_in():
    for name, part in make("resnet32").named_modules():
        if isinstance(part, nn.Conv2d):
            scaled = part.weight * (part.weight[0].numel() / 2) ** 0.5
            assert scaled.std().item() == pytest.approx(1, abs=4 / (2 * scaled.numel()) ** 0.5), name


# The contract of every model


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size, side", [(4, 8), (1, 8), (2, 32)])
def test_shape(name, size, side):
    model = make(name).eval()
    with torch.inference_mode():
        features = model(random_images(size, side))
    assert features.shape == (size, *feature_shape(model)) and features.dtype == torch.float32
    assert torch.isfinite(features).all() and features.std() > 0


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet32", "resnet32_bbn", "ride_resnet32"])
def test_stages_give_pooled_features_and_end_with_those_of_the_model(name):
    model, images = make(name).eval(), random_images()
    maps = {}
    model.stage1.register_forward_hook(lambda module, inputs, output: maps.update(first=output))
    stages = model.stages(images)
    assert [part.shape for part in stages] == [(4, *feature_shape(model)[:-1], width) for width in model.stage_dims]
    assert torch.equal(stages[-1], model(images)) and model.stage_dims[-1] == model.feature_dim
    shared = stages[0] if experts_of(model) == 1 else stages[0][:, 1]
    torch.testing.assert_close(shared, maps["first"].mean((2, 3)))


@pytest.mark.parametrize("name", ALL)
def test_features_in_evaluation_do_not_depend_on_the_batch(name):
    model, images = make(name), random_images()
    model(images)  # one pass in training mode moves the running statistics
    model.eval()
    torch.testing.assert_close(model(images[:1]), model(images)[:1])


@pytest.mark.parametrize("name", ALL)
def test_the_global_generator_decides_the_weights(name):
    first, again, other = (make(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
def test_a_training_step_reaches_every_parameter_and_lowers_the_loss(name):
    model, images, target = make(name), random_images(16), torch.arange(16) % 4
    weight = torch.randn(4, model.feature_dim, generator=torch.Generator().manual_seed(1)) / 8

    def loss():
        logits = F.linear(model(images), weight)
        return F.cross_entropy(logits.reshape(-1, 4), target.repeat_interleave(experts_of(model)))

    before = loss()
    before.backward()
    assert [key for key, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert loss() < before


@pytest.mark.parametrize("name", ALL)
def test_memory_layout_makes_no_difference(name):
    model, images = make(name).eval(), random_images()
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_compiles_to_one_graph(name):
    model, images = make(name).eval(), random_images()
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(images), model(images))
