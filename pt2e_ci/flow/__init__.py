"""One PT2E flow, whatever the torch: export, prepare, calibrate, convert, and the quantizer.

What differs from one torch to the next is found by looking for the feature, never by comparing versions.
"""
