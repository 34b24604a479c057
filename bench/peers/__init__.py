"""Other services over the same table, one file each, every one exporting `app`."""
