"""`python -m psu_deploy` is the psu-deploy command."""

from psu_deploy.cli import main

main()
