"""Public data sets, one file each, converted into the data layout of the package.

Every file has `convert(raw, output, *, drop) -> counts`: `raw` is the publisher's file or the
folder that holds it, `output` the data folder to write, `drop` names columns to leave out.
"""
