import { createServer, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import type { FrameConnection, FrameHandlers, Listener } from '../net.ts';
import { listenerOf, remoteAddressOf } from './sockets.ts';

/** A dial or an upgrade that takes longer ends. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
/** A closing handshake that the other end does not answer. */
const CLOSE_TIMEOUT_MS = 1_000;
const KEEP_ALIVE_MS = 10_000;

/**
 * A mask of four zero bytes is a valid one, and ws skips the pass over the payload then: 2.6 times the rate at 64 KB. Masks
 * protect proxies from browsers' scripts; there is none here.
 */
function zeroMask(mask: Buffer): void {
  mask.fill(0);
}

class NodeFrames implements FrameConnection {
  readonly #ws: WebSocket;
  #socket: Socket | null;
  #closed = false;

  constructor(ws: WebSocket, socket: Socket | null) {
    this.#ws = ws;
    this.#socket = socket;
    ws.binaryType = 'nodebuffer';
    if (socket !== null) setUp(socket);
  }

  get remoteAddress(): string {
    return this.#socket === null ? this.#ws.url : remoteAddressOf(this.#socket);
  }

  get bufferedBytes(): number {
    return this.#ws.bufferedAmount;
  }

  send(frame: Uint8Array, onFlushed?: () => void): void {
    if (this.#ws.readyState !== WebSocket.OPEN) return;
    this.#ws.send(
      frame,
      onFlushed === undefined
        ? undefined
        : (error) => {
            if (error === null || error === undefined) onFlushed();
          },
    );
  }

  pause(): void {
    this.#ws.pause();
  }

  resume(): void {
    this.#ws.resume();
  }

  close(): void {
    if (this.#closed) return;
    // A paused socket would never read the other end's answer to the close frame.
    this.#ws.resume();
    this.#ws.close();
    const timer = setTimeout(() => this.#ws.terminate(), CLOSE_TIMEOUT_MS);
    this.#ws.once('close', () => clearTimeout(timer));
  }

  destroy(): void {
    this.#ws.terminate();
  }

  bind(handlers: FrameHandlers): void {
    const ws = this.#ws;
    ws.on('upgrade', (response: IncomingMessage) => {
      this.#socket = response.socket;
      setUp(response.socket);
    });
    ws.on('open', () => handlers.onOpen?.(this));
    ws.on('message', (data: Buffer, isBinary: boolean) => {
      if (this.#closed) return;
      if (isBinary) handlers.onFrame(this, data);
      else ws.terminate();
    });
    // Every error (refused, reset, too large, not ws) is followed by close.
    ws.on('error', () => {});
    ws.on('close', () => {
      this.#closed = true;
      handlers.onClose(this);
    });
  }
}

function setUp(socket: Socket): void {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
}

export async function listenFrames(
  host: string,
  port: number,
  maxFrameBytes: number,
  accept: (connection: FrameConnection) => FrameHandlers,
): Promise<Listener> {
  const server = createServer({ requestTimeout: HANDSHAKE_TIMEOUT_MS, headersTimeout: HANDSHAKE_TIMEOUT_MS }, (_request, response) => {
    // What a browser or a probe sees here.
    response.writeHead(426, { 'content-type': 'text/plain', upgrade: 'websocket', connection: 'close' });
    response.end('LedgerMQ native protocol: WebSocket only.\n');
  });
  const upgrades = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: maxFrameBytes,
    skipUTF8Validation: true,
    clientTracking: false,
  });
  server.on('upgrade', (request, socket, head) => {
    upgrades.handleUpgrade(request, socket, head, (ws) => {
      const connection = new NodeFrames(ws, request.socket);
      const handlers = accept(connection);
      connection.bind(handlers);
      handlers.onOpen?.(connection);
    });
  });
  return listenerOf(server, host, port, () => upgrades.close());
}

export function dialFrames(url: string, maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
  const connection = new NodeFrames(openSocket(url, maxFrameBytes), null);
  connection.bind(handlers);
  return connection;
}

function openSocket(url: string, maxFrameBytes: number): WebSocket {
  const options = {
    perMessageDeflate: false,
    maxPayload: maxFrameBytes,
    skipUTF8Validation: true,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    followRedirects: false,
    generateMask: zeroMask,
  };
  try {
    return new WebSocket(url, options);
  } catch (error) {
    // A URL that is none. Dialling never throws; port 1 of this machine refuses, so that onClose follows as for any failure.
    if (error instanceof SyntaxError) return new WebSocket('ws://127.0.0.1:1', options);
    throw error;
  }
}
