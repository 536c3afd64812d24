"""Does PT2E's reference representation really compute in integers, on every torch and every CPU?"""

__version__ = "0.1.0"
