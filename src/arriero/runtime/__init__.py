"""Workflows: prepared once, then run many at a time.

:mod:`arriero.runtime.runner` is the way in. It loads the workflow engine, so it is imported where it is used.
"""
