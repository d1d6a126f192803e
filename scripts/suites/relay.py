"""A relay from one address to another, for suites whose addresses cannot be changed: relay.py HOST PORT TO_HOST TO_PORT."""

import asyncio
import sys


async def pump(reader, writer):
    """Passes on what comes until the end, and then the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(host, port, to_host, to_port):
    """Serves until it is killed."""

    async def serve(reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection(to_host, to_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    server = await asyncio.start_server(serve, host, int(port))
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
