-- What the driver reads back: one line of JSON when the load has ended. Times are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"responses": %d, "failures": %d, "breaks": %d, "duration_us": %d, "p50_us": %.0f, "p99_us": %.0f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
