"""Puts Cellvigil on a Debian machine as a service: user, folders, program, configuration, unit.

Standard library only, so that `python3 -m cellvigil.install` runs from a source tree, or straight from the wheel of a
machine without internet, before anything is installed.
"""
