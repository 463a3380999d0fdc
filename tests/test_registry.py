"""Names and what they stand for: ours, those in a file, those of installed plug-ins."""

import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import l2t_bench as l2t
from l2t_bench import plugins, registry
from l2t_bench.gradient import Capabilities, Exactness, TeacherGradientBackend

_PLUGIN = """
from dataclasses import dataclass
from l2t_bench.backend import Backend, Derivative
from l2t_bench.gradient import Capabilities, Exactness

@dataclass(frozen=True)
class Nothing(Backend):
    share: float = 0.5
    name = "nothing"
    capabilities = Capabilities(Exactness.STOCHASTIC, optimizers=("SGD",), memory_law="P")
    def differentiate(self, run):
        raise NotImplementedError

class NotABackend:
    pass

NotABackend = dataclass(NotABackend)
a_value = 3
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "my_backend.py"
    path.write_text(textwrap.dedent(_PLUGIN))
    return path


def test_the_backends_and_problems_are_listed_in_their_order() -> None:
    libraries = ["higher", "torchopt", "torchopt-implicit", "functorch"]
    assert l2t.list_backends() == [
        *("rmd", "truncated", *libraries),
        *("implicit", "one-step", "evolution", "forward"),
    ]
    small, resnets = ["mlp", "lenet"], ["resnet8", "resnet20", "resnet32"]
    translating = ["lstm1", "lstm2", "transformer"]
    assert l2t.list_problems() == [
        *(f"{data}/{student}" for data in ("digits", "mnist") for student in small),
        *(f"cifar10/{student}" for student in (*resnets, "wrn-16-2", "wrn-40-10")),
        *("cifar10/densenet-bc-40-12", "cifar10/densenet-bc-190-40"),
        *(f"cifar100/{student}" for student in resnets),
        *(f"arrays/{student}" for student in (*small, *resnets, "wrn-16-2", "densenet-bc-40-12")),
        *(f"{text}/{student}" for text in ("numbers", "iwslt14", "parallel-text") for student in translating),
        *("random/recurrent", "random/transformer"),
    ]
    assert "quick" in l2t.list_suites()


def test_the_fixed_losses_are_listed() -> None:
    assert l2t.list_losses() == [
        "cross-entropy",
        "label-smoothing",
        "focal",
        "smooth01",
        "large-margin",
        "forward-correction",
        "word-cross-entropy",
        "reinforce",
        "minimum-risk",
        "softmax-margin",
    ]


@pytest.mark.parametrize("name", l2t.list_backends())
def test_every_listed_backend_loads_under_its_name(name: str) -> None:
    backend = l2t.load_backend(name)
    assert isinstance(backend, TeacherGradientBackend)
    assert backend.name == name and str(backend) == name


@pytest.mark.parametrize("spec", ["truncated[window=5]", "torchopt[api=meta]", "torchopt-implicit[solver=normal-cg]"])
def test_a_backend_with_options_is_written_as_the_string_it_was_loaded_by(spec: str) -> None:
    assert str(l2t.load_backend(spec)) == spec
    assert l2t.load_backend(str(l2t.load_backend(spec))) == l2t.load_backend(spec)


@pytest.mark.parametrize("name", [name for name in l2t.list_problems() if not name.startswith("random/")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_building_a_problem_reads_no_data_until_it_is_needed(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Read(Exception):
        """The data were asked for."""

    def read() -> None:
        raise Read

    for loader in ("load_digits", "load_mnist"):
        monkeypatch.setattr(f"l2t_bench.problems.{loader}", read)
    for loader in ("load_cifar10", "load_cifar100"):
        monkeypatch.setattr(f"l2t_bench.cifar_problems.{loader}", read)
    monkeypatch.setattr("l2t_bench.array_problems.load_arrays", lambda path: read())
    for loader in ("load_numbers", "required", "file_parts"):
        monkeypatch.setattr(f"l2t_bench.translation_problems.{loader}", lambda *given: read())
    data, _, student = name.partition("/")
    path = ",path=nowhere,train=9" if data == "parallel-text" else ""
    sizes = {"wrn-40-10": "filters=1", "densenet-bc-190-40": "growth=1", "transformer": f"width=4{path}"}
    sizes |= dict.fromkeys(("lstm1", "lstm2"), f"hidden=4,embedding=4{path}")
    narrow = f"[{sizes[student]}]" if student in sizes else ""
    problem = l2t.build_problem(name + narrow, dtype=str(dtype).removeprefix("torch."))
    assert problem.dtype == dtype
    problem.init_teacher(0), problem.init_student(0)
    with pytest.raises(Read):
        problem.train(0, 0)
    with pytest.raises(Read):
        _ = problem.dev_batches


def test_a_problem_is_named_as_it_was_asked_for_and_its_options_take_effect() -> None:
    spec = "digits/mlp[batch=5,dev=30,hidden=8,features=none,lr=0.5]"
    problem = l2t.build_problem(spec)
    assert problem.name == spec
    inputs, targets = problem.train(0, 0)
    assert inputs.shape == (5, 1, 8, 8) and targets.shape == (5,)
    assert sum(len(targets) for _, targets in problem.dev_batches) == 30
    assert problem.init_student(0).params["hidden.weight"].shape == (8, 64)
    assert problem.init_teacher(0)["V"].shape == (10, 1)
    assert problem.optimizer.lr_at(0, 10) == 0.5


def test_a_backend_in_a_file_is_loaded_with_its_options(plugin: Path) -> None:
    backend = l2t.load_backend(f"{plugin}:Nothing[share=0.25]")
    assert str(backend) == "nothing[share=0.25]"
    assert type(l2t.load_backend(f"{plugin}:Nothing")) is type(backend), "one file is one module"


@pytest.mark.parametrize(
    ("attribute", "answer"),
    [
        ("Missing", "has no Missing"),
        ("a_value", "is not a class"),
        ("NotABackend", "is not a backend: it lacks name, capabilities, supports, predict or teacher_gradient"),
    ],
)
def test_an_object_in_a_file_that_is_no_backend_is_refused(plugin: Path, attribute: str, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.load_backend(f"{plugin}:{attribute}")


def test_a_file_that_is_missing_or_does_not_import_is_named(tmp_path: Path) -> None:
    with pytest.raises(l2t.UserError, match="there is no file"):
        l2t.load_backend(f"{tmp_path}/nowhere.py:Backend")
    broken = tmp_path / "broken.py"
    broken.write_text("import a_library_that_nobody_has\n")
    for _ in range(2):  # the failed module is not kept as if it had been imported
        with pytest.raises(l2t.UserError, match=r"does not import: ModuleNotFoundError: .*a_library_that_nobody_has"):
            l2t.load_backend(f"{broken}:Backend")


@dataclass(frozen=True)
class Plugged(l2t.Backend):
    """What an installed plug-in would bring."""

    name = "plugged"
    capabilities = Capabilities(Exactness.STOCHASTIC, optimizers=("SGD",), memory_law="P")

    def differentiate(self, run: object) -> object:  # type: ignore[override]
        raise NotImplementedError


def offer(monkeypatch: pytest.MonkeyPatch, *names: str, value: str = "installed_plugin:Plugged") -> None:
    monkeypatch.setitem(sys.modules, "installed_plugin", sys.modules[__name__])
    points = [EntryPoint(name, value, "l2t_bench.backends") for name in names]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point for point in points if group == point.group])


def test_an_installed_plug_in_joins_the_list_and_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "plugged")
    assert l2t.list_backends()[-1] == "plugged"
    assert isinstance(l2t.load_backend("plugged"), Plugged)


def test_an_installed_plug_in_that_takes_one_of_our_names_is_told_and_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = l2t.list_backends()
    offer(monkeypatch, "rmd", "plugged", "plugged")
    assert l2t.list_backends() == [*listed, "plugged"]
    assert not isinstance(l2t.load_backend("rmd"), Plugged)
    ours, others = sorted(registry.left_out("backends"), reverse=True)
    assert "offers 'rmd', which is ours: left out" in ours
    assert "offers 'plugged', which is the installed installed_plugin:Plugged's" in others


def test_an_installed_plug_in_without_its_module_is_listed_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "far", value="a_library_that_nobody_has.backends:Far")
    assert l2t.list_backends()[-1] == "far"
    assert registry.missing_library("backends", "far") == "a_library_that_nobody_has.backends"
    with pytest.raises(l2t.UserError, match="needs a_library_that_nobody_has, which is not installed"):
        l2t.load_backend("far")


def test_a_file_that_takes_a_name_in_use_is_an_error_that_names_it(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours.py"
    ours.write_text(plugin.read_text().replace('"nothing"', '"rmd"'))
    monkeypatch.setenv(plugins.PLUGINS, str(ours))
    with pytest.raises(l2t.UserError, match=r"ours\.py defines 'rmd' among backends, a name that is taken"):
        l2t.list_backends()
    again = tmp_path / "again.py"
    again.write_text(plugin.read_text())
    monkeypatch.setenv(plugins.PLUGINS, f"{plugin}:{again}")
    with pytest.raises(l2t.UserError, match=r"again\.py defines 'nothing' .* also in .*my_backend\.py"):
        l2t.list_backends()


def test_sources_are_told_without_importing_anything(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.write_text("raise RuntimeError('imported')\n")
    monkeypatch.setenv(plugins.PLUGINS, str(plugin))
    found = registry.sources_of("nothing", "digits/mlp", "l2t_bench.engine.gradient_cell:measure")
    assert plugin in found and "problems.py" in {file.name for file in found}
    assert registry.sources_of("rmd", "digits/mlp", f"{plugin}:measure")[0] == plugin


def test_every_public_name_is_there_and_no_other() -> None:
    for name in l2t.__all__:
        assert getattr(l2t, name) is not None
    assert dir(l2t) == sorted(l2t.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode_backend'"):
        _ = l2t.lode_backend
