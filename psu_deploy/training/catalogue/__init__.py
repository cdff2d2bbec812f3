"""The tasks that come with psu-deploy."""

from psu_deploy.training.catalogue.digits import digits_by_columns, digits_by_pixels
from psu_deploy.training.catalogue.drawn import delayed_recall, random_manifolds
from psu_deploy.training.catalogue.events import cifar10_dvs, n_mnist, shd
from psu_deploy.training.catalogue.images import cifar10, cifar100, sequential_cifar10, sequential_cifar100
from psu_deploy.training.catalogue.windowed import windowed_cifar10, windowed_digits

CATALOGUE = {
    "digits": digits_by_columns,
    "digits-pixels": digits_by_pixels,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "sequential-cifar10": sequential_cifar10,
    "sequential-cifar100": sequential_cifar100,
    "shd": shd,
    "n-mnist": n_mnist,
    "cifar10-dvs": cifar10_dvs,
    "delayed-recall": delayed_recall,
    "random-manifolds": random_manifolds,
    "windowed-digits": windowed_digits,
    "windowed-cifar10": windowed_cifar10,
}
"""Name -> function that makes the task; its arguments are the options."""

__all__ = ["CATALOGUE"]
