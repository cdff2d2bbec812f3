"""Networks of norse and snnTorch, exported by norse and snnTorch themselves: the machine has the spikes they have."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from tests.exporters.nir.importing.nir_graphs import Later, nir, optional

norse = Later("norse.torch")
snntorch = optional("snntorch")

pytestmark = pytest.mark.filterwarnings("ignore")  # what they do is theirs to mend

T, B, FEATURES = 30, 3, 8


def inputs(features=(FEATURES,)):
    return 2.0 * (torch.randn(T, B, *features) + 0.3)


def machine_of(net_graph, dt, tmp_path):
    """The machine of the graph and, where NIR can write it, of its file."""
    machine = psu.importers.nir.load(net_graph, dt=dt)
    file = tmp_path / "net.nir"
    nir.write(file, net_graph, compression=None)  # NIR cannot compress the single numbers that both of them write
    assert psu.importers.nir.load(file, dt=dt).content_hash == machine.content_hash
    return machine


def compare(machine, x, outputs, spikes):
    """Every spike is the same."""
    trace = machine.trace(x)
    assert set(machine.spiking) == set(spikes)
    for name, theirs in spikes.items():
        ours = trace.spikes[name]
        assert 0.02 < float(ours.mean()) < 0.98
        assert int((ours != theirs).sum()) == 0
    torch.testing.assert_close(trace.output, outputs, rtol=1e-5, atol=1e-5)


class TestNorse:
    def run(self, net, x, spiking):
        """The outputs of norse's own network, and the spikes of its layers."""
        spikes = {name: [] for name in spiking}
        modules = dict(net.named_children())
        hooks = [
            modules[name].register_forward_hook(lambda _, i, out, name=name: spikes[name].append(out[0].to_dense()))
            for name in spiking
        ]
        state, outputs = None, []
        with torch.no_grad():
            for now in x:
                y, state = net(now, state)
                outputs.append(y)
        for hook in hooks:
            hook.remove()
        return torch.stack(outputs), {name: torch.stack(seen) for name, seen in spikes.items()}

    def lif(self, **dt):
        return norse.SequentialState(
            nn.Linear(FEATURES, 24),
            norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.4)), **dt),
            nn.Linear(24, 20),
            norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.1)), **dt),
            nn.Linear(20, 5),
            norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=torch.tensor(200.0)), **dt),
        )

    @pytest.mark.parametrize(
        ("cells", "export", "dt"),
        [({}, {}, 1e-6), ({}, {"dt": 1.0}, 1e-3), ({"dt": 5e-4}, {}, 5e-7), ({"dt": 5e-4}, {"dt": 1.0}, 5e-4)],
    )
    def test_lif_and_li(self, cells, export, dt, tmp_path):
        """It writes tau = d/tau_inv, so dt is the cells' times the exporter's."""
        net, x = self.lif(**cells), inputs()
        machine = machine_of(norse.to_nir(net, torch.randn(FEATURES), **export), dt, tmp_path)
        compare(machine, x, *self.run(net, x, ["1", "3"]))

    def test_a_wrong_time_step_is_seen(self, tmp_path):
        net, x = self.lif(), inputs()
        machine = machine_of(norse.to_nir(net, torch.randn(FEATURES)), 5e-7, tmp_path)
        with pytest.raises(AssertionError):
            compare(machine, x, *self.run(net, x, ["1", "3"]))

    def test_lif_with_currents_needs_its_gain_back(self, tmp_path):
        """LIFCell adds its input to the current as it is; the export says that it adds dt/tau_syn of it."""
        net = norse.SequentialState(nn.Linear(FEATURES, 24), norse.LIFCell(), nn.Linear(24, 5))
        net_graph = norse.to_nir(net, torch.randn(FEATURES), dt=1.0)
        (cuba,) = [node for node in net_graph.nodes.values() if isinstance(node, nir.CubaLIF)]
        cuba.w_in = np.asarray(cuba.w_in) * cuba.tau_syn.numpy() / 1e-3
        x = inputs()
        compare(machine_of(net_graph, 1e-3, tmp_path), x, *self.run(net, x, ["1"]))

    def test_if_needs_its_gain_back(self, tmp_path):
        net = norse.SequentialState(nn.Linear(FEATURES, 24), norse.IAFCell(), nn.Linear(24, 5))
        net_graph = norse.to_nir(net, torch.randn(FEATURES), dt=1.0)
        (node,) = [node for node in net_graph.nodes.values() if isinstance(node, nir.IF)]
        node.r = node.r / 1e-3
        x = inputs()
        compare(machine_of(net_graph, 1e-3, tmp_path), x, *self.run(net, x, ["1"]))

    def test_its_own_reader(self):
        """A graph with an LIF of currents, as norse reads it."""
        weight = torch.randn(12, FEATURES).numpy()
        ones = np.ones(12, np.float32)
        net_graph = nir.NIRGraph.from_list(
            nir.Affine(weight, 0.1 * ones),
            nir.CubaLIF(2e-3 * ones, 4e-3 * ones, 1.5 * ones, 0 * ones, 0.4 * ones, w_in=2 * ones),
        )
        x = inputs()
        net, state, outputs = norse.from_nir(net_graph, dt=1e-3), None, []
        with torch.no_grad():
            for now in x:
                y, state = net(now, state)
                outputs.append(y)
        outputs = torch.stack(outputs)
        compare(psu.importers.nir.load(net_graph, dt=1e-3), x, outputs, {"cubalif": outputs})


class TestSnnTorch:
    def leaky(self, n, beta, threshold, **more):
        return snntorch.Leaky(
            torch.full((n,), beta), torch.full((n,), threshold), reset_mechanism="zero", init_hidden=True, **more
        )

    def synaptic(self, n, **more):
        numbers = (torch.full((n,), value) for value in (0.7, 0.8, 1.5))
        return snntorch.Synaptic(*numbers, reset_mechanism="zero", init_hidden=True, reset_delay=False, **more)

    def exported(self, net):
        from snntorch.export_nir import export_to_nir

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = export_to_nir(net, torch.randn(1, FEATURES), ignore_dims=[0])
        for module in net:
            if hasattr(module, "reset_mem"):
                module.reset_mem()
        return found

    def run(self, net, x, spiking):
        spikes = {name: [] for name in spiking}
        outputs = []
        with torch.no_grad():
            for now in x:
                y = now
                for name, module in net.named_children():
                    y = module(y)
                    y = y[0] if isinstance(y, tuple) else y
                    if name in spikes:
                        spikes[name].append(y)
                outputs.append(y)
        return torch.stack(outputs), {name: torch.stack(seen) for name, seen in spikes.items()}

    def test_leaky(self, tmp_path):
        net = nn.Sequential(
            nn.Linear(FEATURES, 24),
            self.leaky(24, 0.9, 1.0),
            nn.Linear(24, 12, bias=False),
            self.leaky(12, 0.6, 0.5, output=True),
        )
        machine, x = machine_of(self.exported(net), 1e-4, tmp_path), inputs()
        compare(machine, x, *self.run(net, x, ["1", "3"]))

    def test_synaptic(self, tmp_path):
        """With reset_delay, snnTorch drops the input of the step after a spike, and NIR does not."""
        net = nn.Sequential(
            nn.Linear(FEATURES, 24), self.synaptic(24), nn.Linear(24, 12), self.synaptic(12, output=True)
        )
        machine, x = machine_of(self.exported(net), 1e-4, tmp_path), inputs()
        compare(machine, x, *self.run(net, x, ["1", "3"]))

    @pytest.mark.parametrize("change", [{"reset_mechanism_val": 0}, {"reset_delay": True}], ids=["subtract", "delay"])
    def test_what_its_export_does_not_say(self, change, tmp_path):
        """Another reset makes other spikes and the same graph: the docstring of `load` says so."""
        net = nn.Sequential(nn.Linear(FEATURES, 24), self.synaptic(24, output=True))
        layer = net[1]
        vars(layer).update(change)
        layer.state_function = layer._base_sub if "reset_mechanism_val" in change else layer._base_zero
        machine, x = machine_of(self.exported(net), 1e-4, tmp_path), inputs()
        with pytest.raises(AssertionError):
            compare(machine, x, *self.run(net, x, ["1"]))

    def test_an_array_of_one_number_is_no_layer(self):
        """Its export of one number for the layer; NIR's own type check refuses it, ours takes 0-d as one for all."""
        node = nir.LIF(*(np.float32(value) for value in (1e-3, 10.0, 0.0, 1.0)))
        net_graph = nir.NIRGraph(
            {"in": nir.Input(np.array([FEATURES])), "lif": node, "out": nir.Output(np.array([FEATURES]))},
            [("in", "lif"), ("lif", "out")],
            type_check=False,
        )
        net = nn.Sequential(snntorch.Leaky(0.9, threshold=1.0, reset_mechanism="zero", init_hidden=True, output=True))
        x = inputs()
        outputs, _ = self.run(net, x, [])
        compare(psu.importers.nir.load(net_graph, dt=1e-4), x, outputs, {"lif": outputs})


class TestOnnx:
    @pytest.mark.full
    def test_a_nir_file_runs_in_onnxruntime(self, tmp_path):
        optional("onnxruntime")
        x = inputs()
        net = TestNorse().lif()
        machine = machine_of(norse.to_nir(net, torch.randn(FEATURES)), 1e-6, tmp_path)
        artifact = psu.export(machine, tmp_path / "net.onnx", target="onnx")
        assert psu.verify(machine, artifact, x).ok
        runner = psu.load(artifact)
        runner.reset(batch_size=B)
        outputs = np.stack([runner.step(now.numpy()) for now in x])
        expected, _ = TestNorse().run(net, x, [])
        np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-5, atol=1e-5)
