"""Damages for copies of healthy fixtures: what each rule must find. One file for each hundred of codes.

A file lists its damages in ``DAMAGES``, and :mod:`support.damages.table` gathers them.
"""
