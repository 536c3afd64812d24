"""``python -m pt2e_ci`` is the ``pt2e-ci`` command."""

from pt2e_ci.cli import main

if __name__ == "__main__":
    main(prog_name="python -m pt2e_ci")
