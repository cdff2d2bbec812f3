"""Where Lava's Python is looked for, how it is made, and what is said when it is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from psu_deploy.errors import EngineError, MissingExtraError
from psu_deploy.exporters.lava import environment, python310
from tests.cli.conftest import call

GOOD = '#!/bin/sh\necho \'{"python": [3, 10], "lava-nc": "0.10.0", "lava-dl": "0.6.0"}\'\n'


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No environment of this machine, and none asked before."""
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    monkeypatch.setenv(environment.HOME_VARIABLE, str(tmp_path / "home"))
    environment._fault.cache_clear()
    yield
    environment._fault.cache_clear()


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class TestFind:
    def test_the_variable_comes_first(self, tmp_path, monkeypatch):
        program(tmp_path / "home/bin/python", GOOD)
        (tmp_path / "home/complete").touch()
        named = program(tmp_path / "mine", GOOD)
        monkeypatch.setenv(environment.VARIABLE, str(named))
        assert environment.find() == environment.LavaEnvironment(named, "PSU_DEPLOY_LAVA_PYTHON")

    def test_then_what_setup_made(self, tmp_path):
        made = program(tmp_path / "home/bin/python", GOOD)
        (tmp_path / "home/complete").touch()
        assert environment.find().python == made

    def test_half_made_is_not_made(self, tmp_path):
        program(tmp_path / "home/bin/python", GOOD)
        with pytest.raises(MissingExtraError):
            environment.find()

    def test_nothing(self, tmp_path):
        with pytest.raises(MissingExtraError) as caught:
            environment.find()
        assert str(caught.value) == (
            f"Lava needs a Python 3.10 of its own, and there is none in {tmp_path / 'home'}; make it with "
            "`psu-deploy lava setup`, or let PSU_DEPLOY_LAVA_PYTHON name a Python 3.10 with lava-nc, lava-dl and h5py"
        )

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (None, "there is no such file"),
            ("#!/bin/sh\nexit 3", "it ended with exit status 3"),
            ("#!/bin/sh\necho ModuleNotFoundError: No module named h5py >&2; exit 1", "No module named h5py"),
            ("#!/bin/sh\necho nonsense", "it is no Python"),
            ("\x7fELF", "it is no Python"),
        ],
    )
    def test_a_broken_one(self, text, reason, tmp_path, monkeypatch):
        path = tmp_path / "broken"
        if text is not None:
            program(path, text)
        monkeypatch.setenv(environment.VARIABLE, str(path))
        with pytest.raises(MissingExtraError, match=rf"broken \(PSU_DEPLOY_LAVA_PYTHON\) cannot run Lava: .*{reason}"):
            environment.find()

    def test_another_python(self, monkeypatch):
        monkeypatch.setenv(environment.VARIABLE, sys.executable)
        with pytest.raises(MissingExtraError, match=f"it is Python 3.{sys.version_info.minor}; expected a Python 3.10"):
            environment.find()

    def test_it_is_asked_once(self, tmp_path, monkeypatch):
        counter = tmp_path / "asked"
        monkeypatch.setenv(environment.VARIABLE, str(program(tmp_path / "mine", GOOD + f"echo >> {counter}\n")))
        environment.find()
        environment.find()
        assert counter.read_text() == "\n"

    @pytest.mark.full
    def test_a_real_one(self, monkeypatch, request):
        monkeypatch.undo()
        assert environment.find().python == request.getfixturevalue("lava_python")


class TestHome:
    def test_the_variable(self, tmp_path):
        assert environment.home() == tmp_path / "home"

    def test_in_a_virtual_environment(self, monkeypatch):
        monkeypatch.delenv(environment.HOME_VARIABLE)
        monkeypatch.setattr(sys, "prefix", "/some/venv")
        assert environment.home() == Path("/some/venv/lava")

    def test_in_none(self, monkeypatch, tmp_path):
        monkeypatch.delenv(environment.HOME_VARIABLE)
        monkeypatch.setattr(sys, "prefix", sys.base_prefix)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert environment.home() == tmp_path / "psu-deploy/lava"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert environment.home() == Path.home() / ".cache/psu-deploy/lava"


PIP_FAILS = '#!/bin/sh\ncase "$*" in *pip*) echo "no network" >&2; exit 1;; esac\n'


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """A python3.10 that makes environments whose interpreter is a script."""

    def put(made):
        program(tmp_path / "made", made)
        home = tmp_path / "home"
        text = f'#!/bin/sh\n[ "$3" = venv ] || exit 0\nmkdir -p {home}/bin; touch {home}/pyvenv.cfg\n'
        program(tmp_path / "bin/python3.10", f"{text}cp {tmp_path}/made {home}/bin/python\n")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    return put


class TestSetup:
    def test_makes_it_once(self, maker, tmp_path):
        maker(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n' + GOOD.partition("\n")[2])
        said = []
        made = environment.setup(said.append)
        assert made.python == tmp_path / "home/bin/python"
        calls = (tmp_path / "calls").read_text()
        assert "lava-nc==0.10.0" in calls
        assert "--no-deps lava-dl==0.6.0" in calls
        assert [text.split()[0] for text in said] == ["looking", "making", "installing", "installing", "trying"]
        assert environment.setup(said.append) == made
        assert said[5:] == ["looking at what is there"]

    def test_one_that_broke_is_made_again(self, maker, tmp_path):
        maker(GOOD)
        environment.setup()
        program(tmp_path / "home/bin/python", "#!/bin/sh\nexit 127")
        environment._fault.cache_clear()  # as in another process
        assert environment.setup().python.read_text() == GOOD

    def test_half_made_is_made_again(self, maker, tmp_path):
        maker(GOOD)
        program(tmp_path / "home/rubbish", "")
        (tmp_path / "home/pyvenv.cfg").touch()
        environment.setup()
        assert not (tmp_path / "home/rubbish").exists()

    def test_one_that_was_ended_at_once_is_made_again(self, maker, tmp_path, monkeypatch):
        """venv makes folders before it makes pyvenv.cfg; a process that is killed cannot clear them away."""
        maker(GOOD)

        def killed(*_):
            program(tmp_path / "home/bin/rubbish", "")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(environment, "_call", killed)
            patch.setattr(environment.shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                environment.setup()
        environment.setup()
        assert not (tmp_path / "home/bin/rubbish").exists()

    @pytest.mark.parametrize(
        ("made", "error", "sentence"),
        [
            (PIP_FAILS, EngineError, "was not made; .*pip install.*\n  no network"),
            ("#!/bin/sh\ncase $* in *pip*) ;; *) exit 5;; esac", MissingExtraError, "exit status 5"),
        ],
    )
    def test_a_failure_leaves_nothing(self, maker, tmp_path, made, error, sentence):
        maker(made)
        with pytest.raises(error, match=sentence):
            environment.setup()
        assert not (tmp_path / "home").exists()

    def test_somebody_elses_folder_is_not_touched(self, maker, tmp_path):
        maker(GOOD)
        program(tmp_path / "home/letters", "dear")
        with pytest.raises(EngineError, match="is not empty and no environment; let PSU_DEPLOY_LAVA_HOME name another"):
            environment.setup()
        assert (tmp_path / "home/letters").read_text() == "dear"

    def test_no_python_310(self, monkeypatch, tmp_path):
        monkeypatch.setattr(python310, "_candidates", lambda: iter([tmp_path / "shim", Path(sys.executable)]))
        program(tmp_path / "shim", "#!/bin/sh\nexit 127")
        with pytest.raises(MissingExtraError, match=r"no Python 3.10 was found.*uv python install 3.10.*lava setup"):
            environment.setup()
        assert not (tmp_path / "home").exists()

    def test_a_shim_is_passed_over(self, monkeypatch, tmp_path):
        """pyenv's is there whether its Python is or not."""
        program(tmp_path / "bin/python3.10", "#!/bin/sh\nexit 127")
        program(tmp_path / "bin/pyenv", "#!/bin/sh\nexit 1")
        real = program(tmp_path / "pyenv/versions/3.10.4/bin/python3.10", "#!/bin/sh\nexit 0")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin")
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
        assert python310.find_python310("setup") == real

    def test_uv_is_asked_last(self, monkeypatch, tmp_path):
        real = program(tmp_path / "python", "#!/bin/sh\nexit 0")
        program(tmp_path / "bin/uv", f"#!/bin/sh\necho {real}")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin")
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
        assert python310.find_python310("setup") == real


def test_the_verb(tmp_path, monkeypatch):
    named = program(tmp_path / "mine", GOOD)
    monkeypatch.setenv(environment.VARIABLE, str(named))
    result = call("lava", "setup")
    assert result.code == 0, result
    assert str(named) in result.out
    assert "next: psu-deploy export model.psm --to lava --calibrate x.npy --out out/" in result.err


def test_the_verb_when_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "nowhere"))
    call("lava", "setup").failed_with("nowhere (PSU_DEPLOY_LAVA_PYTHON) cannot run Lava: there is no such file")
