"""Training: a recipe in, a run folder out. Needs the `train` extra (lightning, scikit-learn).

    result = train(Recipe(neuron="rpsu", seed=1), "runs/rpsu")
    run = load_run("runs/rpsu")

Lightning takes seconds to import, so only `train` itself imports it.
"""

from importlib.util import find_spec

from psu_deploy.errors import require

for _module in ("lightning", "sklearn"):
    if find_spec(_module) is None:
        require(_module, extra="train")

from psu_deploy.training.folder import Run, load_run  # noqa: E402  the extra is checked first
from psu_deploy.training.recipe import RECIPES, Recipe  # noqa: E402
from psu_deploy.training.registry import register  # noqa: E402
from psu_deploy.training.run import RunResult, test_data, train  # noqa: E402
from psu_deploy.training.samples import Samples  # noqa: E402
from psu_deploy.training.tasks import Task  # noqa: E402

__all__ = ["RECIPES", "Recipe", "Run", "RunResult", "Samples", "Task", "load_run", "register", "test_data", "train"]
