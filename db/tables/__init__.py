"""A resource kept in a table: a Table is a value, a Store is made of it, and nothing here names a resource.

Each verb of a Store is one compiled statement for a batch of any size. Expected refusals (a value that is taken, a
reference to nothing, a row that others refer to) are conditions of that statement, and so never fail the batch.
"""
