"""Compiled or eager: what decides, that small batches run eager, and that compiled training resumes to the same bytes."""

import pytest
import torch

from lt.training import engine, precision
from tests.training.test_engine import after_steps, die, make_run, result, schedule, state  # noqa: F401  (state is a fixture)


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.setattr(precision, "can_compile", lambda: True)


def images(count, size):
    return torch.zeros(count, 3, size, size, dtype=torch.uint8)


def test_auto_decides_from_the_pixels_of_the_whole_training(compiler):
    assert not precision.is_compiled(schedule(epochs=60, compile="auto"), images(1297, 8))
    assert not precision.is_compiled(schedule(epochs=10, compile="auto"), images(10_847, 32))
    assert precision.is_compiled(schedule(epochs=20, compile="auto"), images(10_847, 32))
    assert precision.is_compiled(schedule(epochs=200, compile="auto"), images(10_847, 32))
    assert not precision.is_compiled(schedule(epochs=200, compile="off"), images(10_847, 32))
    assert precision.is_compiled(schedule(epochs=1, compile="on"), images(10, 8))


def test_the_decision_and_its_reason_are_told(compiler, monkeypatch):
    assert precision.told(schedule(epochs=60, compile="auto"), images(1000, 8)) == (
        "1,000 images, 60 epochs; not compiled (which pays in longer trainings only), float32"
    )
    assert precision.told(schedule(epochs=60, compile="off", precision="bf16"), images(10, 8)) == (
        "10 images, 60 epochs; not compiled (compile: off), float32, not bf16, on a CPU"
    )
    monkeypatch.setattr(precision, "can_compile", lambda: False)
    assert precision.told(schedule(epochs=200, compile="auto"), images(10_847, 32)) == (
        "10,847 images, 200 epochs; not compiled (nothing to compile with), float32"
    )


def test_without_a_compiler_auto_is_eager_and_on_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert not precision.can_compile()
    assert not precision.is_compiled(schedule(epochs=200, compile="auto"), images(10_847, 32))
    with pytest.raises(ValueError, match="compile: got on, but a C[+][+] compiler.*use auto or off"):
        precision.is_compiled(schedule(compile="on"), images(10, 8))


def test_only_full_batches_run_compiled(compiler, monkeypatch):
    sizes, asked = [], []

    def recording(function, **options):
        asked.append(options)

        def compiled(images):
            sizes.append(len(images))
            return function(images)

        return compiled

    monkeypatch.setattr(torch, "compile", recording)
    compiled, eager = make_run(compile="on"), make_run(compile="off")
    engine.train(compiled)
    assert set(sizes) == {8} and len(sizes) == 6
    assert asked == [{"dynamic": False, "mode": None}]
    engine.train(eager)
    assert result(compiled) == result(eager)


@pytest.mark.slow
@pytest.mark.skipif(not precision.can_compile(), reason="nothing to compile with")
@pytest.mark.filterwarnings("default")  # torch's compiler has warnings of its own
def test_compiled_training_computes_the_same_and_resumes_to_the_same_bytes(state, monkeypatch):  # noqa: F811
    whole, resumed, eager = make_run(compile="on"), make_run(state, compile="on"), make_run(compile="off")
    engine.train(whole)
    engine.train(eager)
    assert [row["loss"] for row in whole.log] == pytest.approx([row["loss"] for row in eager.log], rel=1e-4)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, 4, die)
        engine.train(make_run(state, compile="on"))
    engine.train(resumed)
    assert result(resumed) == result(whole)


def test_with_bf16_the_backbone_computes_in_it_and_the_head_does_not():
    run = make_run()
    run.model.eval()
    forward = precision.Forward(run.model, run.settings, run.images)
    forward.bf16 = True  # which a GPU alone is given
    batch = run.images[:8].float() / 255
    features, logits = forward(batch)
    assert features.dtype == logits.dtype == torch.float32
    whole = run.model.features(batch)
    assert not torch.equal(features, whole)
    torch.testing.assert_close(features, whole, rtol=0.02, atol=0.02)
    assert torch.equal(logits, run.model.head(features))
