"""Students that translate: what they compute, that it can be differentiated twice, and how translations are found."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import l2t_bench as l2t
from l2t_bench.data.specials import BEGIN, END, PAD
from l2t_bench.students.attention_lstm import AttentionLSTM
from l2t_bench.students.lstm import BidirectionalLSTM
from l2t_bench.students.search import Search
from l2t_bench.students.translation_transformer import TranslationTransformer
from l2t_bench.students.translator import Translator

SOURCE, TARGET = 9, 7
MAKERS: dict[str, Callable[[], Translator]] = {
    "lstm1": lambda: AttentionLSTM(SOURCE, TARGET, 4, 5, layers=1),
    "lstm2": lambda: AttentionLSTM(SOURCE, TARGET, 4, 5, layers=2),
    "transformer": lambda: TranslationTransformer(SOURCE, TARGET, 6, 2, 8, layers=2, activation="gelu"),
}
EACH = pytest.mark.parametrize("name", MAKERS)


def student_of(name: str) -> Translator:
    """A student in general position, in float64: no bias is zero and no two words are alike."""
    torch.manual_seed(3)
    student = MAKERS[name]().double().eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return student


def inputs_of(count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sources of 2 to 5 words and their END, words before of 3 positions."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, SOURCE, (count, 6), generator=generator)
    for row in range(count):
        source[row, 2 + row % 4] = END
        source[row, 3 + row % 4 :] = PAD
    before = torch.randint(4, TARGET, (count, 3), generator=generator)
    before[:, 0] = BEGIN
    return source, before


# -- what they compute -------------------------------------------------------------------------------------------------


def test_the_bidirectional_layer_is_torchs_on_packed_sequences() -> None:
    torch.manual_seed(0)
    ours, theirs = BidirectionalLSTM(4, 5).double(), nn.LSTM(4, 5, bidirectional=True, batch_first=True).double()
    order = torch.cat(
        [torch.arange(5) + 5 * part for part in (0, 1, 3, 2)]
    )  # torch's gates: input, forget, cell, output
    with torch.no_grad():
        for direction, end in enumerate(("l0", "l0_reverse")):
            rows = slice(20 * direction, 20 * (direction + 1))
            getattr(theirs, f"weight_ih_{end}").copy_(ours.inputs.weight[rows][order])
            getattr(theirs, f"bias_ih_{end}").copy_(ours.inputs.bias[rows][order])
            getattr(theirs, f"bias_hh_{end}").zero_()
            getattr(theirs, f"weight_hh_{end}").copy_(ours.recurrent[direction].T[order])
    inputs, lengths = torch.randn(3, 6, 4, dtype=torch.float64), torch.tensor([6, 4, 1])
    padding = torch.arange(6) >= lengths[:, None]
    packed, (last, _) = theirs(pack_padded_sequence(inputs, lengths, batch_first=True))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    states, ends = ours(inputs, padding)
    torch.testing.assert_close(states[~padding], expected[~padding], rtol=0, atol=1e-14)
    torch.testing.assert_close(ends, torch.cat([last[0], last[1]], dim=-1), rtol=0, atol=1e-14)


def test_the_decoder_is_bahdanaus_formula_written_out() -> None:
    student, (source, before) = student_of("lstm1"), inputs_of()
    assert isinstance(student, AttentionLSTM)
    states, last = student.encoder[0](student.source(source), source == PAD)
    recurrent = dict(zip(("Q", "R"), student.recurrent.weight.split([5, 20]), strict=True))
    for row in range(len(source)):
        h, c = torch.tanh(student.first(last[row])), torch.zeros(5, dtype=torch.float64)
        read = [states[row, at] for at in range(6) if source[row, at] != PAD]
        for position, word in enumerate(before[row].tolist()):
            e = student.target.weight[word]
            energies = [student.energy.weight[0] @ torch.tanh(recurrent["Q"] @ h + student.keys(m)) for m in read]
            a = torch.softmax(torch.stack(energies), dim=0)
            context = sum(weight * m for weight, m in zip(a, read, strict=True))
            gates = student.inputs(e) + recurrent["R"] @ h + student.values(context)
            i, f, o, g = gates.split(5)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            logits = student.output(torch.tanh(student.readout(torch.cat([h, context, e]))))
            torch.testing.assert_close(student((source, before))[row, position], logits, rtol=0, atol=1e-13)


def test_the_transformers_layers_are_torchs() -> None:
    student, (source, before) = student_of("transformer"), inputs_of()
    assert isinstance(student, TranslationTransformer)
    padding, ahead = source == PAD, torch.ones(3, 3, dtype=torch.bool).triu(1)
    options = {"dim_feedforward": 8, "dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
    states = student.source(source)
    for ours in student.encoder:
        theirs = nn.TransformerEncoderLayer(6, 2, **options).double()  # type: ignore[arg-type]
        pairs = {"self_attn": ours.itself, "linear1": ours.wide, "linear2": ours.narrow}
        copy_into(theirs, {**pairs, "norm1": ours.itself_norm, "norm2": ours.wide_norm})
        states = theirs(states, src_key_padding_mask=padding)
    memory, written = student.source_norm(states), student.target(before)
    for ours in student.decoder:
        theirs = nn.TransformerDecoderLayer(6, 2, **options).double()  # type: ignore[arg-type]
        pairs = {"self_attn": ours.itself, "multihead_attn": ours.across, "linear1": ours.wide, "linear2": ours.narrow}
        norms = {"norm1": ours.itself_norm, "norm2": ours.across_norm, "norm3": ours.wide_norm}
        copy_into(theirs, {**pairs, **norms})
        written = theirs(written, memory, tgt_mask=ahead, memory_key_padding_mask=padding)
    expected = student.output(student.target_norm(written))
    torch.testing.assert_close(student((source, before)), expected, rtol=0, atol=1e-13)


def copy_into(theirs: nn.Module, ours: dict[str, nn.Module]) -> None:
    """Our layers' parameters into torch's, whose attention keeps those of queries, keys and values in one."""
    with torch.no_grad():
        for name, layer in ours.items():
            target = theirs.get_submodule(name)
            if isinstance(target, nn.MultiheadAttention):
                for end in ("weight", "bias"):
                    parts = [getattr(getattr(layer, part), end) for part in ("query", "memory")]
                    getattr(target, f"in_proj_{end}").copy_(torch.cat(parts))
                target.out_proj.load_state_dict(layer.get_submodule("output").state_dict())
            else:
                target.load_state_dict(layer.state_dict())


@EACH
def test_word_by_word_gives_the_logits_of_all_words_at_once(name: str) -> None:
    student, (source, before) = student_of(name), inputs_of()
    memory = student.encode(source)
    state, found = student.begin(memory), []
    for word in before.unbind(1):
        logits, state = student.step(memory, state, word)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, dim=1), student((source, before)), rtol=0, atol=1e-13)


@EACH
def test_padding_changes_nothing_and_a_word_only_what_comes_after_it(name: str) -> None:
    student, (source, before) = student_of(name), inputs_of()
    logits = student((source, before))
    wider = nn.functional.pad(source, (0, 3), value=PAD), nn.functional.pad(before, (0, 2), value=PAD)
    torch.testing.assert_close(student(wider)[:, :3], logits, rtol=0, atol=1e-13)
    alone = student((source[1:2, : int((source[1] != PAD).sum())], before[1:2]))
    torch.testing.assert_close(alone, logits[1:2], rtol=0, atol=1e-13)
    other = before.clone()
    other[:, 2] = 4 + (other[:, 2] - 3) % (TARGET - 4)
    changed = student((source, other))
    assert torch.equal(changed[:, :2], logits[:, :2]) and bool((changed[:, 2] != logits[:, 2]).any(-1).all())


@EACH
def test_several_translations_of_a_source_have_the_logits_that_each_has_alone(name: str) -> None:
    student, (source, before) = student_of(name), inputs_of()
    several = torch.stack([before, before.flip(0), before.roll(1, 0)], dim=1)
    found = student((source, several))
    for at in range(3):
        torch.testing.assert_close(found[:, at], student((source, several[:, at])), rtol=0, atol=1e-13)


# -- derivatives -------------------------------------------------------------------------------------------------------


def loss_of(student: Translator) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    def loss(params: dict[str, Tensor], source: Tensor, before: Tensor) -> Tensor:
        logits: Tensor = functional_call(student, params, ((source, before),))
        return torch.log_softmax(logits, dim=-1)[..., 4].sigmoid().mean()

    return loss


# torch makes its own forward-mode rules by its own deprecated function, when they are first needed
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@EACH
def test_second_derivatives_in_both_orders_are_differences_of_the_gradient(name: str) -> None:
    student, (source, before) = student_of(name), inputs_of()
    params = {key: value.detach() for key, value in student.named_parameters()}
    along = {key: torch.randn_like(value) for key, value in params.items()}
    loss = loss_of(student)

    def gradient(at: dict[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = grad(loss)(at, source, before)
        return found

    _, forward_over_reverse = jvp(gradient, (params,), (along,))
    (reverse_over_reverse,) = vjp(gradient, params)[1](along)
    size = 2e-6
    ends = [gradient({key: params[key] + sign * size * along[key] for key in params}) for sign in (1, -1)]
    norm = torch.cat([tensor.flatten() for tensor in forward_over_reverse.values()]).norm()
    for key in params:
        difference = (ends[0][key] - ends[1][key]) / (2 * size)
        torch.testing.assert_close(forward_over_reverse[key], reverse_over_reverse[key], rtol=1e-10, atol=1e-12)
        assert float((difference - reverse_over_reverse[key]).norm() / norm) < 1e-8


@EACH
def test_students_can_be_stacked_by_vmap(name: str) -> None:
    student, (source, before) = student_of(name), inputs_of()
    params = {key: torch.stack([value, 0.9 * value]).detach() for key, value in student.named_parameters()}
    sources, words = torch.stack([source, source.flip(0)]), torch.stack([before, before])
    together = vmap(grad(loss_of(student)))(params, sources, words)
    for at in range(2):
        alone = grad(loss_of(student))({key: value[at] for key, value in params.items()}, sources[at], words[at])
        for key in alone:
            torch.testing.assert_close(together[key][at], alone[key], rtol=1e-11, atol=1e-13)


@EACH
def test_every_parameter_is_used_and_initialised_by_its_layer(name: str) -> None:
    from l2t_bench.modules import fresh_parameters

    student, (source, before) = student_of(name), inputs_of()
    assert fresh_parameters(student, 0)[1] == []
    loss_of(student)(dict(student.named_parameters()), source, before).backward()
    assert all(bool((value.grad != 0).any()) for value in student.parameters() if value.grad is not None)
    assert all(value.grad is not None for value in student.parameters())


# -- searches ----------------------------------------------------------------------------------------------------------


def log_p(student: Translator, source: Tensor, words: Tensor) -> Tensor:
    """log p (B, K) of words (B, K, L) up to their END, PAD and BEGIN being never said."""
    before = torch.cat([torch.full_like(words[:, :, :1], BEGIN), words[:, :, :-1]], dim=2)
    logits = student((source, before)).clone()
    logits[..., [PAD, BEGIN]] = -torch.inf
    each = torch.log_softmax(logits, dim=-1).gather(-1, words[..., None]).squeeze(-1)
    return each.masked_fill(words == PAD, 0).sum(-1)


def all_translations(longest: int) -> Tensor:
    """Every translation of up to ``longest`` words, (1, K, longest): those that end with END, and those cut there."""
    said = [word for word in range(TARGET) if word not in (PAD, BEGIN, END)]
    rows = [
        [*words, END, *[PAD] * (longest - length - 1)]
        for length in range(longest)
        for words in itertools.product(said, repeat=length)
    ]
    return torch.tensor([[*rows, *map(list, itertools.product(said, repeat=longest))]])


@torch.no_grad()
@EACH
def test_a_beam_that_drops_nothing_finds_the_best_of_all_translations(name: str) -> None:
    student, (source, _) = student_of(name), inputs_of()
    candidates = all_translations(3)
    found = student.decode((source, Search(count=200, grow=0, more=3)))
    for row in range(len(source)):
        scores = log_p(student, source[row : row + 1], candidates)[0] / (candidates[0] != PAD).sum(-1)
        order = scores.argsort(descending=True)[:20]
        assert found[row, :20].tolist() == candidates[0, order].tolist()


@torch.no_grad()
@EACH
def test_greedy_takes_the_likeliest_word_each_time_and_pads_after_the_end(name: str) -> None:
    student, inputs = student_of(name), inputs_of(8)
    words = student.decode(inputs)
    assert bool(((words != PAD).sum(1) <= (1.2 * (inputs[0] != PAD).sum(1)).long() + 5).all())
    before = torch.cat([torch.full_like(words[:, :1], BEGIN), words[:, :-1]], dim=1)
    logits = student((inputs[0], before))
    logits[..., [PAD, BEGIN]] = -torch.inf
    live = words != PAD
    assert torch.equal(logits.argmax(-1)[live], words[live])
    for row in words.tolist():
        assert END not in row or set(row[row.index(END) + 1 :]) <= {PAD}


@torch.no_grad()
@pytest.mark.parametrize("search", [Search(), Search(count=5)], ids=["greedy", "beam"])
@EACH
def test_a_sentence_is_translated_in_a_batch_as_alone(name: str, search: Search) -> None:
    student, (source, _) = student_of(name), inputs_of(6)
    together = student.decode((source, search))
    for row in range(6):
        alone = student.decode((source[row : row + 1], search))[0]
        width = min(alone.shape[1], together.shape[2])
        assert torch.equal(alone[:, :width], together[row][:, :width])
        assert bool((together[row][:, width:] == PAD).all()) and bool((alone[:, width:] == PAD).all())


@torch.no_grad()
def test_a_beam_of_five_finds_no_worse_a_translation_than_greedy_in_the_mean() -> None:
    student, (source, before) = student_of("lstm1"), inputs_of(64)
    best, greedy = student.decode((source, Search(count=5)))[:, :1], student.decode((source, before))[:, None]
    scores = [log_p(student, source, words) / (words != PAD).sum(-1) for words in (best, greedy)]
    assert scores[0].mean() > scores[1].mean()


@torch.no_grad()
def test_samples_come_as_often_as_the_student_says_and_are_a_function_of_the_seed() -> None:
    student, (source, _) = student_of("lstm1"), inputs_of(1)
    candidates = all_translations(2)
    p = log_p(student, source, candidates)[0].exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    count = 4000
    drawn = student.decode((source, Search("sample", count, seed=1, grow=0, more=2)))[0]
    assert torch.equal(drawn, student.decode((source, Search("sample", count, seed=1, grow=0, more=2)))[0])
    assert not torch.equal(drawn, student.decode((source, Search("sample", count, seed=2, grow=0, more=2)))[0])
    shares = (drawn[:, None] == candidates[0]).all(-1).double().mean(0)
    assert bool(((shares - p).abs() < 5 * (p * (1 - p) / count).sqrt() + 1e-9).all())


def test_a_search_for_nothing_is_an_error() -> None:
    with pytest.raises(l2t.UserError, match="a search needs count and more of at least 1"):
        Search(count=0)
