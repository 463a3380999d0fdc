"""A learned loss that does not change: Phi by no s_t, beside the attention teacher's."""

from dataclasses import replace

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.teachers import AttentionTeacher, StaticTeacher
from l2t_bench.verification.samples import random_problem


def test_phi_is_the_same_whatever_the_students_status() -> None:
    teacher = StaticTeacher(4, noise=0.5)
    assert torch.equal(teacher(torch.zeros(7)), teacher(torch.ones(7)))
    assert torch.equal(teacher(torch.zeros(7)), teacher.W)


def test_it_starts_as_each_key_of_the_attention_teacher_does() -> None:
    settings = {"gain": 0.3, "smoothing": 0.1}
    static, attention = StaticTeacher(4, **settings), AttentionTeacher(4, 1, keys=1, **settings)
    assert torch.equal(static.W, attention.W[:, :, 0])


def test_noise_is_drawn_anew_by_the_seed() -> None:
    problem = replace(random_problem(), teacher=StaticTeacher(4, noise=0.5).double())
    first, again, other = (problem.init_teacher(seed)["W"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("backend", ["rmd", "higher", "torchopt", "functorch"])
def test_its_gradient_is_that_of_an_attention_teacher_with_one_key(backend: str) -> None:
    static = replace(random_problem(), teacher=StaticTeacher(4, gain=0.7, smoothing=0.2).double())
    attention = replace(random_problem(), teacher=AttentionTeacher(4, 1, 1, gain=0.7, smoothing=0.2).double())
    method = l2t.load_backend(backend)
    ours, theirs = (
        method.teacher_gradient(problem, problem.init_teacher(0), horizon=6, seed=0).d_theta["W"]
        for problem in (static, attention)
    )
    torch.testing.assert_close(ours, theirs[:, :, 0], rtol=1e-12, atol=1e-15)


def test_a_named_problem_has_it_by_an_option_and_measures_no_features() -> None:
    problem = l2t.build_problem("digits/mlp[teacher=static,gain=0.3]")
    assert isinstance(problem.teacher, StaticTeacher) and problem.features is None
    assert torch.equal(problem.teacher.W, 0.3 * torch.eye(10))
    assert isinstance(l2t.build_problem("digits/mlp").teacher, AttentionTeacher)


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"noise": -1.0}, {"smoothing": 1.5}])
def test_a_start_that_makes_no_sense_is_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(l2t.UserError):
        StaticTeacher(**{"classes": 4, **wrong})  # type: ignore[arg-type]
