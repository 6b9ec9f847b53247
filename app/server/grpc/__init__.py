"""The Open Inference Protocol over gRPC: each call becomes a request to the HTTP application.

So handlers, keys, limits, deadlines, metrics and logs are those of `/v2`, and no second set of
them. Needs the extra `grpc`; `app.server.process` imports it where TESSERA_GRPC_PORT is set.
"""
