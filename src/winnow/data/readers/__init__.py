"""Readers of published file formats: one file each, with a class `Options` and a function `read`.

`read(entry, files)` takes a `DatasetEntry` and the local path of each of its files, and yields `Batch`es; it
never holds a whole image split in memory. A new module here is a new reader; nothing else has to name it.
"""
