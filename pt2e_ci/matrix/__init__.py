"""Cells side by side: as jobs of this machine, as images, and as jobs of GitHub Actions."""
