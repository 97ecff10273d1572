import type { Server, Socket } from 'node:net';
import type { Listener } from '../net.ts';

/** Connections that the kernel keeps for a process that does not accept them yet. */
const BACKLOG = 4_096;

/** @returns the bound port; rejects when the address cannot be bound */
function listening(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', reject);
      // Failures to accept (too many open files) leave the server listening: the next one may succeed.
      server.on('error', () => {});
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/**
 * A server that listens. Its close() ends every connection that it accepted: one that only stops accepting waits for its peers.
 * @param closing called after that, for what stands on the connections
 */
export async function listenerOf(server: Server, host: string, port: number, closing: () => void = () => {}): Promise<Listener> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  const boundPort = await listening(server, host, port);
  return {
    port: boundPort,
    close: () => {
      for (const socket of sockets) socket.destroy();
      closing();
      return new Promise((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

export function remoteAddressOf(socket: Socket): string {
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined) return 'unknown';
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}
