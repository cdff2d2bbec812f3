"""What is not imported, and what is said about it."""

import argparse
import os
import pickle

import pytest
import torch

from psu_deploy.errors import ArtifactError, InputError, UnsupportedModelError
from psu_deploy.importers import official
from tests.importers.published import SeCifarNet, SHDNet


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model_best.pth.tar"


def saved(file, kind="ppsu", change=lambda state: None, network=SeCifarNet, **args):
    made = network(kind, 4).make()
    change(made.state)
    made.save(file, **args)
    return file


def refusal(file, error, *said, neuron=None, **options):
    with pytest.raises(error) as caught:
        official.load(file, neuron, **options)
    message = str(caught.value)
    assert all(text in message for text in said), message
    return message


class TestFiles:
    def test_a_bomb_does_not_go_off(self, file, tmp_path):
        """A pickle that would create a file."""

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "gone off"),)

        state = SeCifarNet("ppsu", 4).make().state
        torch.save({"state_dict": state, "optimizer": Bomb()}, file)
        refusal(file, ArtifactError, "holds something else than tensors", "nothing in it was executed")
        file.write_bytes(pickle.dumps({"state_dict": Bomb()}))
        refusal(file, ArtifactError, "model_best.pth.tar")
        assert not (tmp_path / "gone off").exists()

    def test_a_bomb_inside_the_arguments(self, file, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "gone off"),)

        saved(file, node_type=Bomb())
        refusal(file, ArtifactError, "nothing in it was executed")
        assert not (tmp_path / "gone off").exists()

    def test_any_other_class_is_named(self, file, tmp_path):
        saved(file, output=tmp_path)  # a pathlib.PosixPath among the arguments
        refusal(file, ArtifactError, "pathlib", "save what is needed alone")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
    def test_damaged(self, file, content):
        file.write_bytes(content)
        refusal(file, ArtifactError, "model_best.pth.tar")

    def test_truncated(self, file):
        saved(file).write_bytes(file.read_bytes()[:-2000])
        refusal(file, ArtifactError, "damaged or was not written by torch.save")

    def test_missing(self, file):
        refusal(file, ArtifactError, "does not exist or is not a file")

    @pytest.mark.parametrize("content", [torch.zeros(3), {"epoch": 3, "lr": 0.1}, {}, [1, 2]])
    def test_no_parameters(self, file, content):
        torch.save(content, file)
        refusal(file, ArtifactError, "model_best.pth.tar holds")

    def test_no_moving_average(self, file):
        refusal(saved(file), ArtifactError, "has no 'state_dict_ema'", ema=True)

    def test_nan(self, file):
        saved(file, change=lambda state: state["conv.0.weight"].fill_(float("nan")))
        refusal(file, ArtifactError, "conv.0.weight holds NaN or infinity")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("conv.0.weight", torch.zeros(1).expand(200_000, 200_000)),
            ("conv.0.weight", torch.zeros(6, 3, 3).to_sparse()),
            ("conv.0.weight", torch.zeros(6, 3, 3, dtype=torch.complex64)),
        ],
    )
    def test_tensors_that_are_not_plain(self, file, key, value):
        saved(file, change=lambda state: state.update({key: value}))
        refusal(file, ArtifactError, "conv.0.weight is sparse, quantised, complex or expanded")

    @pytest.mark.full
    def test_legacy_files_cut_anywhere(self, file):
        torch.save(SeCifarNet("psu", 2).make(2).state, file, _use_new_zipfile_serialization=False)
        whole = file.read_bytes()
        for end in range(0, len(whole) - 1, len(whole) // 97):
            file.write_bytes(whole[:end])
            refusal(file, ArtifactError, "model_best.pth.tar")

    def test_the_same_file_gives_the_same_network_and_draws_nothing(self, file):
        saved(file)
        before = torch.get_rng_state()
        first, second = (official.load(file) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before)
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )


class TestKeys:
    def test_unknown_keys_are_all_listed(self, file):
        def change(state):
            state["conv.20.weight"] = state["head.extra"] = torch.zeros(3)

        refusal(
            saved(file, change=change), ArtifactError, "keys that SeCifarNet does not have: conv.20.weight, head.extra"
        )

    def test_missing_keys_are_all_listed(self, file):
        def change(state):
            del state["conv.4.running_var"], state["fc.3.bias"]

        refusal(saved(file, change=change), ArtifactError, "also has (by our names) conv.4.running_var, fc.3.bias")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("conv.2.m1", torch.zeros(())),
            ("conv.2.fc.bias", torch.zeros(())),
            ("conv.2.mask0", torch.zeros(4)),
            ("conv.2.act_fun.alpha", torch.zeros(3)),
            ("conv.2.threshold", torch.zeros(3)),
            ("conv.2.fc.weight", torch.zeros(4, 3)),
            ("conv.2.m2", torch.zeros(0, 0)),
        ],
    )
    def test_a_neuron_of_a_shape_that_none_has(self, file, key, value):
        saved(file, change=lambda state: state.update({key: value}))
        refusal(file, InputError, f"conv.2: {key.removeprefix('conv.2.')} has shape", "which no neuron has")

    @pytest.mark.parametrize(
        ("key", "value"), [("conv.0.weight", torch.zeros(0, 3, 3)), ("fc.3.weight", torch.zeros(()))]
    )
    def test_a_layer_of_a_shape_that_none_has(self, file, key, value):
        saved(file, change=lambda state: state.update({key: value}))
        refusal(file, ArtifactError, "is not a whole SeCifarNet")

    def test_a_negative_variance(self, file):
        saved(file, change=lambda state: state["conv.1.running_var"].fill_(-1.0))
        refusal(file, ArtifactError, "conv.1.running_var holds a negative variance")

    def test_counters_of_batches_may_be_missing(self, file):
        def change(state):
            for key in [key for key in state if key.endswith("num_batches_tracked")]:
                del state[key]

        official.load(saved(file, change=change))

    def test_a_shape_that_does_not_fit(self, file):
        def change(state):
            state["conv.7.bias"] = torch.zeros(7)

        refusal(saved(file, change=change), ArtifactError, "conv.7.bias has shape (7,), SeCifarNet has (6,)")

    def test_a_network_of_somebody_else(self, file):
        torch.save({"state_dict": {"blocks.0.weight": torch.zeros(2, 2)}}, file)
        refusal(file, ArtifactError, "holds none of the networks SHD_SNN, SeCifarNet", "blocks.0.weight")

    def test_a_neuron_of_somebody_else(self, file):
        def change(state):
            for name in [name for name in state if name.endswith(".m1")]:
                state[name.replace("m1", "w1")] = state.pop(name)

        refusal(saved(file, change=change), ArtifactError, "no known neuron has the keys", "w1", "and others")

    def test_layers_with_different_neurons(self, file):
        def change(state):
            for key in ("fc.weight", "fc.bias", "mask0"):
                del state[f"conv.2.{key}"]

        refusal(saved(file, change=change), InputError, "its layers hold different neurons", "'conv.2': 'psu'")

    def test_batch_norm_with_a_scale_per_step(self, file):
        def change(state):
            state["conv.1.p"] = torch.ones(4, 1, 1, 1)

        refusal(saved(file, change=change), UnsupportedModelError, "conv.1", "TEBN", "4 time steps", "with BatchNorm")

    def test_two_dimensional_convolutions_with_neurons_that_look_ahead(self, file):
        torch.save({"net": {"conv.16.weight": torch.zeros(4, 4, 3, 3)}, "epoch": 3}, file)
        refusal(file, UnsupportedModelError, "CIFAR10Net", "look ahead")


class TestSteps:
    def test_other_than_the_script_was_told(self, file):
        refusal(saved(file, step=10), InputError, "layer conv.2 has matrices for T = 4 steps", "called with T = 10")

    def test_layers_that_differ(self, file):
        other = SeCifarNet("ppsu", 5).make().state

        def change(state):
            state.update({key: value for key, value in other.items() if key.startswith("fc.2.")})

        refusal(saved(file, change=change, step=None), InputError, "layer fc.2 has matrices for T = 5", "conv.2 T = 4")

    @pytest.mark.parametrize("key", ["layer1.0.conv1.weight", "module.layer1.0.conv1.weight"])
    def test_resnet18_with_its_own_idea_of_steps(self, file, key):
        state = {key: torch.zeros(4, 4, 3, 3), "layer1.0.node1.m1": torch.zeros(8, 8)}
        state = {
            name if key.startswith("layer") else f"module.{name.removeprefix('module.')}": v
            for name, v in state.items()
        }
        args = argparse.Namespace(step=4, model="resnet18", node_type="PSU")
        torch.save({"state_dict": state, "args": args}, file)
        refusal(file, UnsupportedModelError, "ResNet18", "always have 8 steps", "[8] steps", "T = 4")


class TestNeurons:
    @pytest.mark.parametrize("kind", ["ipsu", "ppsu"])
    def test_ipsu_or_ppsu_is_a_question(self, file, kind):
        message = refusal(
            saved(file, kind, node_type=None), InputError, "IPSU and PPSU save the same tensors", "args.yaml"
        )
        assert message.endswith("and pass neuron='ipsu' or neuron='ppsu'")

    def test_before_training_it_may_be_any_of_three(self, file):
        def change(state):
            for name in state:
                if name.endswith("fc.bias"):
                    state[name].zero_()

        message = refusal(saved(file, "rpsu", change, node_type=None), InputError, "IPSU and PPSU and RPSU")
        assert "neuron='rpsu'" in message

    @pytest.mark.parametrize("neuron", [None, "ppsu", "ipsu"])
    @pytest.mark.parametrize("node_type", ["PPSU", "IPSU"])
    def test_the_last_bias_of_rpsu_betrays_it(self, file, node_type, neuron):
        saved(file, "rpsu", node_type=node_type)
        refusal(file, InputError, "contradicts itself", f"node_type={node_type}", "its last biases", neuron=neuron)

    def test_a_last_bias_that_was_trained_is_not_rpsu(self, file):
        saved(file, "ppsu", node_type="RPSU")
        refusal(file, InputError, "contradicts itself", "ipsu or ppsu; node_type=RPSU: rpsu")
        saved(file, "ppsu", node_type=None)
        refusal(file, InputError, "contradicts itself", "neuron='rpsu': rpsu", neuron="rpsu")

    def test_biases_set_by_hand_can_be_confirmed(self, file):
        """The last bias of RPSU reaches no spike, so any value will do, if file and caller both say what it is."""
        saved(file, "ppsu", node_type="RPSU")
        refusal(file, InputError, "if it is RPSU with biases set by hand, say so with neuron='rpsu'")
        assert type(official.load(file, "rpsu").fc[2]).__name__ == "RPSU"

    def test_a_number_the_tensors_hold_otherwise(self, file):
        saved(file, "rpsu")
        refusal(file, InputError, "its tensors say tau = 2, but tau=7 is asked for", tau=7.0)
        refusal(file, InputError, "its tensors say threshold = 0.5, but threshold=1", threshold=1.0)
        refusal(file, InputError, "tau must be a finite number, got 'x'", tau="x")
        assert official.load(file, tau=2.0, threshold=0.5)

    def test_no_name(self, file):
        refusal(saved(file), InputError, "neuron must be one of psu, ipsu", "got 3", neuron=3)

    def test_the_caller_against_the_script(self, file):
        saved(file, "ppsu", node_type="PPSU")
        refusal(file, InputError, "contradicts itself", "node_type=PPSU: ppsu; neuron='ipsu': ipsu", neuron="ipsu")

    def test_the_script_against_the_keys(self, file):
        refusal(
            saved(file, "ppsu", node_type="PSU"), InputError, "its keys: ipsu or ppsu or rpsu", "node_type=PSU: psu"
        )
        refusal(saved(file, "psu", node_type="GLIF"), InputError, "its keys: psu", "node_type=GLIF: unknown")

    def test_no_such_neuron(self, file):
        refusal(saved(file), InputError, "neuron must be one of psu, ipsu", "got 'gru'", neuron="gru")

    @pytest.mark.parametrize(("keys", "node_type"), [((), "LIFNode"), (("w",), "PLIFNode")])
    def test_how_lif_resets_is_a_question(self, file, keys, node_type):
        def change(state):
            for name in [name for name in state if name.endswith((".m1", ".m2"))]:
                value = state.pop(name)
                if keys:
                    state[name[:-2] + "w"] = value[0, 0].clone()

        kind = node_type.lower().removesuffix("node")
        saved(file, "psu", change, node_type=node_type)
        for neuron in (None, kind):
            message = refusal(file, InputError, "does not say how its neurons reset", neuron=neuron)
            assert f"neuron='{kind}_soft' or neuron='{kind}_hard'" in message
        assert official.load(file, f"{kind}_hard").fc[2].reset_kind == "hard"

    def test_a_time_constant_that_nobody_says(self, file):
        def change(state):
            for name in [name for name in state if name.endswith((".m1", ".m2"))]:
                del state[name]

        saved(file, "psu", change, node_type="LIFNode", tau=None)
        refusal(file, InputError, "does not say tau; pass tau=...", neuron="lif_soft")
        assert official.load(file, "lif_soft", tau=3.0).fc[2].tau == 3.0
        saved(file, "psu", change, node_type="LIFNode", tau=2.0)
        refusal(file, InputError, "called with tau=2.0, but tau=3.0 is asked for", neuron="lif_soft", tau=3.0)


class TestMatrices:
    @pytest.mark.parametrize(
        ("kind", "key", "at", "value", "said"),
        [
            ("psu", "m1", (2, 1), 0.3, "m1 is not a**(i - j + 1)"),
            ("psu", "m1", (0, 2), 0.1, "m1 is not a**(i - j + 1)"),
            ("rpsu", "m2", (3, 0), 0.0, "m2 is not -c * a**(i - j)"),
            ("ipsu", "m2", (1, 1), -0.1, "m2 is not -c * a**(i - j)"),
            ("psu", "m1", (0, 0), 0.0, "m1[0, 0] = 0 is not 1/tau"),
            ("ppsu", "mask0", (0, 1), 1.0, "mask0 is not the lower triangle"),
        ],
    )
    def test_another_form(self, file, kind, key, at, value, said):
        def change(state):
            state[f"conv.5.{key}"][at] = value

        refusal(saved(file, kind, change), InputError, "conv.5:", said)

    def test_a_reset_that_only_psu_scales(self, file):
        def change(state):
            state["conv.2.m2"] *= 0.5

        refusal(saved(file, "rpsu", change), InputError, "conv.2: m2 is scaled by 0.5, but only PSU scales its reset")

    def test_a_matrix_of_another_shape(self, file):
        def change(state):
            state["conv.2.m2"] = torch.zeros(3, 3)

        refusal(saved(file, "psu", change), InputError, "conv.2: m2 has shape (3, 3), expected (4, 4)")


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sigmoid_thres", True),
            ("n_groups", 2),
            ("spike_output", True),
            ("temporal_flatten", True),
            ("encode", "rate"),
        ],
    )
    def test_that_change_the_network(self, file, name, value):
        refusal(saved(file, **{name: value}), InputError, f"trained with {name}={value!r}", "can be imported")

    def test_an_unknown_surrogate(self, file):
        refusal(saved(file, act_fun="EIGrad"), InputError, "act_fun='EIGrad' may or may not fire at equality")

    def test_matrices_that_ran_over_the_batch(self, file):
        network = SHDNet("ppsu", 4).make()
        network.save(file, layer_by_layer=False)
        refusal(file, InputError, "trained with layer_by_layer=False", "PPSU", "train again with -lbl")

    def test_the_scripts_see_to_psu_themselves(self, file):
        official.load(saved(file, "psu", layer_by_layer=False))
        official.load(saved(file, "ppsu", layer_by_layer=False))

    def test_steps_may_be_text(self, file):
        official.load(saved(file, step="4"))

    def test_masking_without_its_epochs(self, file):
        def change(state):
            for name in [name for name in state if name.endswith((".m1", ".m2", ".threshold", "act_fun.alpha"))]:
                del state[name]
            for name in [name for name in state if name.endswith(".mask0")]:
                state[name.replace("mask0", "fc.mask0")] = state.pop(name)
                state[name.replace("mask0", "fc.mask1")] = torch.ones(4, 4)

        saved(file, "ppsu", change, node_type=None)
        refusal(file, InputError, "does not say epochs; pass epochs=...")
        for epochs in (-3, 0, 3):
            refusal(file, InputError, "was saved in epoch 3; that is none of", epochs=epochs)
