"""A bare grpc.aio server that answers every unary call with the bytes that it received."""

import asyncio
import sys

import grpc


class Echo(grpc.GenericRpcHandler):
    """Serves every method."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """No parsing, no serialising."""
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(answer)


async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """The request."""
    del context
    return request


async def main() -> None:
    """Serve until terminated."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
