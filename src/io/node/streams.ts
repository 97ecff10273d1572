import { createConnection, createServer, type Socket } from 'node:net';
import type { Listener, StreamConnection, StreamHandlers } from '../net.ts';
import { listenerOf, remoteAddressOf } from './sockets.ts';

/** A silent peer is probed by the kernel after this; the heartbeats above notice long before. */
const KEEP_ALIVE_MS = 10_000;
/** A dial that hears nothing at all (a lost SYN, a host that is gone) ends after this. */
const DIAL_TIMEOUT_MS = 2_000;

/**
 * A socket that dials reads into one buffer of its own instead of a new one of 64 KB for each read: 2 to 3 times the bytes per
 * second of receiving, measured over loopback. Node offers it for such sockets only, so the side that receives much should dial.
 */
const READ_BUFFER_BYTES = 256 * 1024;

/** Errors by which the other machine's kernel says that no process is there (any more). */
const RESET_CODES: ReadonlySet<string | undefined> = new Set(['ECONNRESET', 'ECONNREFUSED', 'EPIPE']);

class NodeStream implements StreamConnection {
  readonly #socket: Socket;
  #destroyed = false;
  #open: boolean;
  #onData: StreamHandlers['onData'] | null = null;

  constructor(socket: Socket, open: boolean) {
    this.#socket = socket;
    this.#open = open;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  get remoteAddress(): string {
    return remoteAddressOf(this.#socket);
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Uint8Array, onFlushed?: () => void): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(
      bytes,
      onFlushed === undefined
        ? undefined
        : (error) => {
            if (error === null || error === undefined) onFlushed();
          },
    );
  }

  destroy(): void {
    this.#destroyed = true;
    this.#socket.destroy();
  }

  /** `bytes` is valid during the call only. */
  received(bytes: Uint8Array): void {
    if (!this.#socket.destroyed) this.#onData?.(this, bytes);
  }

  bind(handlers: StreamHandlers): void {
    const socket = this.#socket;
    let reset = false;
    socket.on('connect', () => {
      this.#open = true;
      socket.setTimeout(0);
      handlers.onOpen?.(this);
    });
    this.#onData = handlers.onData.bind(handlers);
    // A dialled socket never emits it: received() gets its bytes.
    socket.on('data', (bytes: Buffer) => this.received(bytes));
    // The end of a stream between replicas is never agreed upon: a process that dies has its sockets closed by its kernel.
    socket.on('end', () => {
      reset = true;
    });
    socket.on('timeout', () => {
      if (!this.#open) socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (RESET_CODES.has(error.code)) reset = true;
    });
    socket.on('close', () => {
      const own = this.#destroyed;
      this.#destroyed = true;
      handlers.onClose(this, reset && !own);
    });
  }
}

export async function listenStream(
  host: string,
  port: number,
  accept: (connection: StreamConnection) => StreamHandlers,
): Promise<Listener> {
  const server = createServer((socket) => {
    const connection = new NodeStream(socket, true);
    const handlers = accept(connection);
    connection.bind(handlers);
    handlers.onOpen?.(connection);
  });
  return listenerOf(server, host, port);
}

export function dialStream(host: string, port: number, handlers: StreamHandlers): StreamConnection {
  const socket = createConnection({
    host,
    port,
    timeout: DIAL_TIMEOUT_MS,
    onread: {
      buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
      callback: (sizeBytes, buffer) => {
        connection.received(buffer.subarray(0, sizeBytes));
        return true;
      },
    },
  });
  const connection = new NodeStream(socket, false);
  connection.bind(handlers);
  return connection;
}
