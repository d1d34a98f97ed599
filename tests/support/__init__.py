"""What several tests share: programs to start, checkpoints to read, damages, hostile files, loaders.

pytest finds it as ``support`` (``pythonpath`` in pyproject.toml); a program that a test starts finds it through
:func:`support.children.environment`.
"""
