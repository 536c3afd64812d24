"""The suite: every case of the catalogue as a pytest item. Run it with ``pytest --pyargs pt2e_ci.suite``."""
