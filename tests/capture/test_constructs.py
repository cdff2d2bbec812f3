"""What people write in a forward, one construct each: the machine is the module, or it is refused by name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.neurons import LIF, PSU
from tests.helpers import Forward, check_capture


def heads(x, n):
    T, B, N, C = x.shape
    return x.reshape(T, B, N, n, C // n).permute(0, 1, 3, 2, 4)


def attention(net, x):
    T, B, N, C = x.shape
    q, k, v = (heads(part(x), 2) for part in (net.a, net.b, net.c))
    y = (q @ k.transpose(-2, -1)) * 0.25 @ v
    return net.n(y.transpose(2, 3).reshape(T, B, N, C))


def heads_in_the_batch(net, x):
    T, B, N, C = x.shape
    q = heads(net.a(x), 2).reshape(T * B * 2, N, C // 2)
    y = torch.bmm(q, q.transpose(1, 2)).view(T, B, 2, N, N)
    return net.n(y)


def squeeze_and_excite(net, x):
    gate = torch.sigmoid(net.c3(x.mean((3, 4))))
    return net.n(x * gate[:, :, :, None, None])


def qk_mask(net, x):
    q, k = net.a(x), net.b(x)
    return net.n(q.sum(-1, keepdim=True)) * net.m(k)


SHAPES = {
    "rank": lambda net, x: net.n(net.a(x)) if x.ndim == 4 and x.dim() == 4 and len(x.shape) == 4 else None,
    "size": lambda net, x: net.n(net.a(x)) if x.shape[-1] == 4 and x.size(2) == 5 and len(x) == x.shape[0] else None,
    "starred": lambda net, x: (lambda T, B, *rest: net.n(net.a(x).view(T, B, *rest)))(*x.shape),
    "view of shape": lambda net, x: net.n(net.a(x.flatten(0, 1)).view(*x.shape[:2], *x.shape[2:])),
    "loop over layers": lambda net, x: net.n([x := layer(x) for layer in (net.a, net.b, net.c)][-1]),
    "batch first": lambda net, x: net.n(net.a(x.transpose(0, 1)).transpose(0, 1)),
    "batch slowest": lambda net, x: net.n(
        net.a(x.transpose(0, 1).reshape(-1, 5, 4)).reshape(x.shape[1], x.shape[0], 5, 4).transpose(0, 1)
    ),
    "features folded into the batch": lambda net, x: net.n(net.a(x.reshape(-1, 4)).reshape(x.shape)),
    "movedim": lambda net, x: net.n(net.a5(x.movedim(2, -1)).movedim(-1, 2)),
    "mT": lambda net, x: net.n(net.a5(x.mT).mT),
    "new axis": lambda net, x: net.n(net.a(x)[:, :, None]).squeeze(2),
    "unflatten": lambda net, x: net.n(net.a(x).unflatten(-1, (2, 2)).flatten(2)),
}

STEPS = {
    "stack of steps": lambda net, x: net.n(torch.stack([net.a(x[t]) for t in range(x.shape[0])])),
    "stack over the sequence": lambda net, x: net.n(torch.stack([net.a(x_t) for x_t in x])),
    "stack as another axis": lambda net, x: net.n(torch.stack([net.a(x_t) for x_t in x], 1).transpose(0, 1)),
    "functions of steps": lambda net, x: net.n(torch.stack([net.a(x_t).relu() * 2 + x_t for x_t in x.unbind(0)])),
    "cat of steps": lambda net, x: net.n(torch.cat([net.a(x[t : t + 1]) for t in range(len(x))])),
    "cat of unsqueezed steps": lambda net, x: net.n(torch.cat([net.a(x[t]).unsqueeze(0) for t in range(len(x))])),
    "sum by hand": lambda net, x: (lambda y: sum(net.a(y[t]) for t in range(len(y))))(net.n(x)),
    "mean by hand": lambda net, x: sum(net.a(x_t) for x_t in net.n(x)) / x.shape[0],
    "mean of the sum": lambda net, x: net.n(x).sum(0) / x.shape[0],
    "last of a loop": lambda net, x: [net.a(x_t) for x_t in net.n(x)][-1],
    "shift": lambda net, x: net.n(torch.cat([torch.zeros_like(x[:2]), net.a(x)[:-2]])),
    "running sum": lambda net, x: net.n(net.a(x).cumsum(0)),
    "running maximum": lambda net, x: net.n(net.a(x).cummax(0).values),
    "maximum over time": lambda net, x: net.n(net.a(x)).max(0).values,
    "minimum over time": lambda net, x: net.a(x).amin(0),
    "mean of the last": lambda net, x: net.n(net.a(x))[-3:].mean(0),
    "one mean over time and features": lambda net, x: net.n(x).mean((0, 3)),
    "kept mean": lambda net, x: net.n(x).mean(0, keepdim=True).squeeze(0),
}

FEATURES = {
    "attention": attention,
    "heads in the batch": heads_in_the_batch,
    "einsum of two": lambda net, x: net.n(torch.einsum("tbnc,tbmc->tbnm", net.a(x), x)),
    "einsum without a sum": lambda net, x: net.n(torch.einsum("tbnc,tbmc->tbnmc", x, x).flatten(2)),
    "einsum with a weight": lambda net, x: net.n(torch.einsum("tbnc,oc->tbno", x, net.a.weight)),
    "einsum of one": lambda net, x: net.n(torch.einsum("tbnc->tbc", x)),
    "qk mask": qk_mask,
    "weights and biases": lambda net, x: net.n(x @ net.a.weight.T + net.a.bias),
    "weight from the left": lambda net, x: net.n(net.w5 @ x),
    "position embedding": lambda net, x: net.n(x + net.w5[:, :4]),
    "layer scale": lambda net, x: net.n(x * net.a.bias),
    "class token": lambda net, x: net.n(torch.cat([net.a.bias.expand(*x.shape[:2], 1, 4), x], 2)),
    "cat": lambda net, x: net.n(torch.cat([net.a(x), x], -1)),
    "stack of features": lambda net, x: net.n(torch.stack([net.a(x), x], 2)),
    "difference": lambda net, x: net.n(net.a(x) - x),
    "quotient": lambda net, x: net.n(x / (x * x + 1)),
    "mean removed": lambda net, x: net.n(x - x.mean(-1, keepdim=True)),
    "outer product": lambda net, x: net.n((x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(3)),
    "chunks": lambda net, x: net.n((lambda a, b: a * b)(*x.chunk(2, -1))),
    "split": lambda net, x: net.n(torch.cat(x.split([1, 3], -1)[::-1], -1)),
    "slice": lambda net, x: net.n(x[..., 1::2]),
    "place": lambda net, x: net.n(x[:, :, 1]),
    "places": lambda net, x: net.n(x[:, :, [3, 0, 0]]),
    "expand": lambda net, x: net.n(x.unsqueeze(2).expand(-1, -1, 3, -1, -1).flatten(2, 3)),
    "repeat": lambda net, x: net.n(x.repeat(1, 1, 2, 1)),
    "repeat interleave": lambda net, x: net.n(x.repeat_interleave(2, -1)),
    "sum of features": lambda net, x: net.n(net.a(x)).sum(-1),
    "maximum of features": lambda net, x: net.n(net.a(x)).max(-1, keepdim=True)[0],
    "top of the features": lambda net, x: net.n(net.a(x).topk(2).values),
    "bottom of the features": lambda net, x: net.n(torch.topk(net.a(x), 3, 2, largest=False)[0]),
    "top of the rates": lambda net, x: net.n(net.a(x)).mean(0).topk(3).values,
    "sorted features": lambda net, x: net.n(net.a(x).sort(2, descending=True).values + torch.sort(x).values),
    "median and others": lambda net, x: net.n(x.median(-1)[0] + x.kthvalue(2, 2, keepdim=True).values[:, :, 0, :1]),
    "places of the largest": lambda net, x: net.n(x + net.a(x).max(-1, keepdim=True).indices),
    "place of the smallest": lambda net, x: net.n(net.a(x)).mean(0) + x.mean(0).min(-1, keepdim=True)[1],
    "smallest of all": lambda net, x: net.n(net.a(x)).mean(0) + x.mean(0).argmin(-1, keepdim=True),
    "places of the top": lambda net, x: net.n(net.a(x)).mean(0) + x.mean(0).topk(4).indices,
    "places in order": lambda net, x: net.n(net.a(x)).mean(0).sort(dim=-1, stable=True).indices.float(),
    "order as such": lambda net, x: net.n(net.a(x)).mean(0).argsort(dim=-1, descending=True, stable=True) * 0.5,
    "places counted from one": lambda net, x: net.n(net.a(x)).mean(0) - (x.mean(0).argmax(-1, keepdim=True) + 1),
    "scaled dot product": lambda net, x: net.n(F.scaled_dot_product_attention(net.a(x), net.b(x), net.c(x))),
    "variance": lambda net, x: net.n(x.var(-1, keepdim=True) + x.std(-1, unbiased=False, keepdim=True)),
    "norm": lambda net, x: net.n(x / (x.norm(dim=-1, keepdim=True) + torch.linalg.norm(x, dim=-2, keepdim=True))),
    "logsumexp": lambda net, x: net.n(x.logsumexp(-1)),
    "glu": lambda net, x: net.n(F.glu(net.a(x))),
    "cosine": lambda net, x: net.n(F.cosine_similarity(net.a(x), x, dim=-1)),
    "normalised": lambda net, x: net.n(F.normalize(x, dim=-1)),
    "norms of windows": lambda net, x: net.n(
        F.lp_pool1d(net.a(x).relu().flatten(0, 1), 2, 2).unflatten(0, x.shape[:2])
    ),
    "softmax": lambda net, x: net.n(net.a(x).softmax(-1)),
    "constant choice": lambda net, x: net.n(torch.where(torch.tensor([True, False, True, False]), x, 0.5)),
    "constant mask": lambda net, x: net.n(x.masked_fill(torch.tensor([True, False, False, True]), 0.5)),
    "in place": lambda net, x: net.n(net.a(x).add_(1).mul_(2)),
    "compiled function": lambda net, x: net.n(torch.compile(lambda y: y * 2 + 1)(x)),
}


def parts():
    torch.manual_seed(1)
    layers = {name: nn.Linear(4, 4) for name in "abc"}
    return layers | {"a5": nn.Linear(5, 5), "w5": nn.Parameter(torch.randn(5, 5)), "n": PSU(threshold=0.1), "m": LIF()}


@pytest.mark.rows(200)
@pytest.mark.parametrize("name", [*SHAPES, *STEPS, *FEATURES])
def test_the_machine_is_the_module(name):
    forward = (SHAPES | STEPS | FEATURES)[name]
    check_capture(Forward(forward, **parts()), (5, 4), T=6)


def test_squeeze_and_excitation():
    check_capture(Forward(squeeze_and_excite, c3=nn.Linear(3, 3), n=PSU(threshold=0.1)), (3, 4, 4))


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_own_transformer(batch_first):
    def forward(net, x):
        y = x.flatten(0, 1)
        y = net.encoder(y) if batch_first else net.encoder(y.transpose(0, 1)).transpose(0, 1)
        return net.n(y.unflatten(0, x.shape[:2]))

    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first, norm_first=batch_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    check_capture(Forward(forward, encoder=encoder, n=PSU(threshold=0.1)), (5, 4), T=4)


def test_attention_of_heads():
    attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(net, x):
        y = x.flatten(0, 1)
        return net.n(net.attention(y, y, y)[0].unflatten(0, x.shape[:2]))

    check_capture(Forward(forward, attention=attention, n=PSU(threshold=0.1)), (5, 4), T=4)


def test_rows_written_by_a_loop():
    def forward(net, x):
        y = torch.zeros(x.shape[0], x.shape[1], 5, 4, dtype=x.dtype)
        for t in range(x.shape[0]):
            y[t] = net.a(x[t])
        return net.n(y)

    check_capture(Forward(forward, **parts()), (5, 4))


ALONG_TIME = {
    "chomped": (nn.Conv1d(4, 6, 3, padding=2), lambda net, x: net.c(x.permute(1, 2, 0))[..., :-2].permute(2, 0, 1)),
    "pointwise": (nn.Conv1d(4, 4, 1), lambda net, x: net.c(x.permute(1, 2, 0)).permute(2, 0, 1)),
    "filled with zeros": (
        nn.Conv1d(4, 4, 3, groups=2, dilation=2),
        lambda net, x: net.c(torch.cat([x.new_zeros(*x.shape[1:], 4), x.permute(1, 2, 0)], 2)).permute(2, 0, 1),
    ),
    "normalised": (nn.BatchNorm1d(4), lambda net, x: net.c(x.permute(1, 2, 0)).permute(2, 0, 1)),
    "looking ahead": (nn.Conv1d(4, 4, 3, padding=1), lambda net, x: net.c(x.permute(1, 2, 0)).permute(2, 0, 1)),
}


@pytest.mark.parametrize("name", ALONG_TIME)
def test_convolutions_along_time(name):
    layer, forward = ALONG_TIME[name]
    machine = check_capture(Forward(lambda net, x: net.n(forward(net, x)), c=layer, n=PSU(threshold=0.1)), (4,))
    assert machine.latency == (1 if name == "looking ahead" else 0)


PICTURES = {
    "repeat": lambda net, x: net.n(net.a(x).unsqueeze(0).repeat(5, 1, 1)).mean(0),
    "expand": lambda net, x: net.n(net.a(x)[None].expand(5, -1, -1)).mean(0),
    "stack": lambda net, x: net.n(torch.stack([net.a(x)] * 5)).mean(0),
    "steps it knows": lambda net, x: net.n(x.unsqueeze(0).repeat(net.T, 1, 1)).mean(0),
}


@pytest.mark.full
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_the_network_repeats(name):
    model = Forward(lambda net, x: PICTURES[name](net, x) if x.ndim == 2 else net.fail, a=nn.Linear(4, 4), n=PSU())
    model.T = 3
    model = model.double().eval()
    machine = to_state_machine(model, (4,))
    x = torch.randn(2, 4, dtype=torch.float64)
    steps = 3 if name == "steps it knows" else 5
    with torch.no_grad():
        expected = model(x)
    found = machine.run(x.expand(steps, 2, 4))
    torch.testing.assert_close(found[-1], expected)


REFUSED = {
    "branch": (lambda net, x: net.n(x) if x.mean(-1).max(-1).values.max() > 0 else x, "looks at the numbers|samples"),
    "number": (lambda net, x: net.n(x * float(x[0, 0, 0, 0])), "looks at the numbers"),
    "numpy": (lambda net, x: net.n(x + torch.from_numpy(x.numpy().mean(0))), "looks at the numbers"),
    "batch size": (lambda net, x: net.n(x * x.shape[1]), "from the values or from the sizes"),
    "steps": (lambda net, x: net.n(x / x.shape[0]), "from the values or from the sizes"),
    "chance": (lambda net, x: net.n(x + torch.rand(4)), "from chance"),
    "dropout while training": (lambda net, x: net.n(F.dropout(x, 0.5, True)), "changes the numbers in eval mode"),
    "the end": (lambda net, x: net.n(x - x.mean(0)), "known at the end"),
    "neighbours": (
        lambda net, x: torch.stack([x[t] + x[t + 1] for t in range(len(x) - 1)]),
        "sum of some of the steps",
    ),
    "recurrence": (lambda net, x: torch.stack([x[t] + 2 * x[t - 1] for t in range(len(x))]), "joins"),
    "time turned round": (lambda net, x: net.n(x.flip(0)), "flip|axis 0|time"),
    "samples": (lambda net, x: net.n(x - x.mean(1, keepdim=True)), "over samples"),
    "one sample": (lambda net, x: net.n(x[:, :1]), "every sample"),
    "steps that differ": (lambda net, x: net.n(torch.stack([x[t] * (t + 1) for t in range(len(x))])), "alike"),
    "some of the steps": (lambda net, x: net.n(torch.stack([x[t] for t in range(len(x) - 1)])), "every step"),
    "steps turned round": (lambda net, x: net.n(torch.stack([x[t] for t in range(len(x))][::-1])), "in order"),
    "one step": (lambda net, x: net.n(x)[1], "one step in the middle"),
    "part of the steps": (lambda net, x: net.n(x[1:]), "some of the steps"),
    "comparison": (lambda net, x: net.n((x > 0).to(x)), "gt jumps"),
    "choice": (lambda net, x: net.n(torch.where(x > 0, x, -x)), "gt jumps"),
    "roots of less than nothing": (lambda net, x: net.n(x.sqrt()), "has no value, NaN, at some ordinary numbers"),
    "rounding": (lambda net, x: net.n(x.round()), "round jumps"),
    "most frequent": (lambda net, x: net.n(x.mode(-1).values), "mode jumps"),
    "order of samples": (lambda net, x: net.n(x.sort(1).values), "works over axis 1"),
    "no order": (lambda net, x: net.n(x.topk(2, sorted=False).values), "in no order"),
    "median of all": (lambda net, x: net.n(x - x.median()), "the median of all samples"),
    "place of a median": (lambda net, x: net.n(x + x.median(-1, keepdim=True).indices), "a place that no layer gives"),
    "places of equal numbers": (lambda net, x: net.n(x.relu().topk(3).indices.float()), "places of equal numbers"),
    "step of the maximum": (lambda net, x: net.n(x).max(0).indices, "works over axis 0"),
    "attention over time": (lambda net, x: net.n(torch.einsum("tbnc,sbnc->tsbn", x, x)), "."),
    "linear over time": (lambda net, x: net.n(F.linear(x.movedim(0, -1), torch.ones(4, 4, dtype=x.dtype))), "."),
    "overwritten": (lambda net, x: (lambda view: (x.add_(1), net.n(view))[1])(x.flatten(2)), "in place"),
}


@pytest.mark.rows(100)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_serial_form_is_refused(name):
    forward, reason = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        to_state_machine(Forward(forward, **parts()).double(), (5, 4))
    assert all(problem.reason and problem.remedy for problem in caught.value.problems)


def test_a_refusal_names_file_and_line():
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(Forward(lambda net, x: net.n(x.flip(0)), n=PSU()), (3,))
    assert caught.value.problems[0].path.startswith("forward (test_constructs.py:")


class TestHiddenFromSight:
    """What no mode sees, an example's numbers in a constant, is another number in the second run."""

    def test_a_number_of_the_first_input(self):
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return torch.as_tensor(x.data.__array__().mean(0))

        model = Forward(lambda net, x: net.n(x + Function.apply(x)), n=PSU())
        with pytest.raises(UnsupportedModelError):
            to_state_machine(model, (3,))

    def test_memory_between_calls(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.n, self.calls = PSU(), 0

            def forward(self, x):
                self.calls += 1
                return self.n(x * self.calls)

        with pytest.raises(UnsupportedModelError, match="for another input"):
            to_state_machine(Counting(), (3,))

    def test_a_branch_on_the_batch_size(self):
        model = Forward(lambda net, x: net.n(x if x.shape[1] == 3 else 2 * x), n=PSU())
        with pytest.raises(UnsupportedModelError):
            to_state_machine(model, (3,))


class TestWrappers:
    @pytest.mark.full
    def test_data_parallel_and_compiled(self):
        for wrap in (nn.DataParallel, torch.compile):
            machine = to_state_machine(wrap(Forward(lambda net, x: net.n(net.a(x)), **parts())), (4,))
            assert [node.name for node in machine.nodes] == ["a", "n"]

    @pytest.mark.full
    def test_a_compiled_part(self):
        inner = torch.compile(Forward(lambda net, x: net.n(net.a(x)), **parts()))
        machine = to_state_machine(Forward(lambda net, x: net.inner(x) * 2, inner=inner), (4,))
        assert len(machine.spiking) == 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_captured_as_it_is(self, dtype):
        model = Forward(lambda net, x: net.n(net.a(x)), **parts()).to(dtype)
        machine = to_state_machine(model, (4,))
        weight = model.a.weight.detach().double().numpy()
        assert (machine.nodes[0].layer.weight == weight).all()
        assert model.a.weight.dtype == dtype


@pytest.mark.parametrize("layer", [nn.SiLU(inplace=True), nn.ELU(inplace=True), nn.ReLU6(inplace=True)])
def test_activations_in_place(layer):
    check_capture(Forward(lambda net, x: net.n(net.f(net.a(x))), f=layer, **parts()), (4,))


MEAN = torch.linspace(-1, 1, 3, dtype=torch.float64)


@pytest.mark.parametrize("call", [F.instance_norm, lambda x: F.instance_norm(x, MEAN, MEAN + 1, use_input_stats=False)])
def test_instance_norm(call):
    model = Forward(lambda net, x: net.n(call(x.flatten(0, 1)).unflatten(0, x.shape[:2])), n=PSU(threshold=0.1))
    check_capture(model, (3, 5))
