"""Damages for copies of healthy fixtures: what each rule must find."""
