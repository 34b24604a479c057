"""Other services over the same table, one file each, every one exporting `app`.

They are written as each framework's own guide writes them, with engines and pools as they come. Where a guide did not
work with the release that is measured, the file names what stands in for it.
"""
