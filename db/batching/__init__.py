"""Many callers, one statement: a batcher runs whatever waits as the next batch. It knows neither SQL nor HTTP.

The first arrival leaves at once; while its batch is in flight, arrivals queue, and leave together as the next one.
"""
