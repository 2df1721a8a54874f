"""Training in a session reports as it goes, and warns where what follows is not that of a trained network."""

import course
import numpy as np
import pytest

from minidiff import nn, schedules, training


def printed(losses, enough, capsys):
    """What `course.train` prints for a training with these losses."""
    rng = np.random.default_rng(0)
    x = np.zeros((8, 1), np.float32)
    options = training.TrainingOptions(batch=4)
    net = nn.MLP(rng, dim=1, width=4, depth=1, T=4)
    trainer = training.Trainer(net, schedules.linear(4), x, options=options, rng=rng)
    trainer.run = lambda steps: (
        training.Step(k + 1, loss, 0.0, 0.0) for k, loss in enumerate(losses[:steps])
    )
    assert len(list(course.train(trainer, len(losses), enough))) == len(losses)
    return capsys.readouterr().out


def test_it_reports_five_times_and_does_not_warn_of_a_low_loss(capsys):
    output = printed([1.0] * 50 + [0.1] * 50, 0.2, capsys)
    assert output.count("step ") == 5 and "step 100 of 100: loss 0.1000" in output
    assert "WARNING" not in output


@pytest.mark.parametrize("losses", [[1.0] * 10, [0.1] * 90 + [1.0] * 10, [float("nan")] * 10])
def test_it_warns_of_a_loss_that_is_high_at_the_end_or_nan(losses, capsys):
    assert "WARNING: a loss of " in printed(losses, 0.2, capsys)
