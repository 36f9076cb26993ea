"""The experiments that tools/experiments.py arranges, the studies that tools/real.py and
tools/reproduce.py make of them, and the tables that all of these write and read. Standard library
only.
"""
