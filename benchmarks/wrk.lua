-- Sends ready-made requests in turn, and prints what wrk measured as one line of JSON.
--
-- The file of requests is made by benchmarks/inputs.py: for each request its length in bytes as
-- decimal digits, a line feed, and the request itself, headers and all. Nothing is put together
-- while the clock runs, so that the load costs the two cores as little as possible.

local requests = {}
local next_one = 0

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local length = file:read("*n")
   while length do
      file:read(1)
      requests[#requests + 1] = file:read(length)
      length = file:read("*n")
   end
   file:close()
end

function request()
   next_one = next_one % #requests + 1
   return requests[next_one]
end

function done(summary, latency, _)
   local errors = summary.errors
   print(string.format(
      "JSON{\"requests\": %d, \"answered\": %d, \"seconds\": %.6f, \"errors\": %d, "
         .. "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}",
      summary.requests,
      summary.requests - errors.status, -- wrk counts refusals among the requests that are done
      summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3,
      latency.max / 1e3
   ))
end
