import type { Clock } from '../../src/io/clock.ts';
import type { FrameConnection, FrameHandlers, Listener, Net, StreamConnection } from '../../src/io/net.ts';

/** One way takes this long, so that what is sent in one turn arrives in a later one. */
const LATENCY_MS = 1;

class MemoryConnection implements FrameConnection {
  readonly remoteAddress: string;
  readonly bufferedBytes = 0;
  readonly #clock: Clock;
  peer: MemoryConnection | null = null;
  handlers: FrameHandlers | null = null;
  open = true;
  /** Frames are lost, as through a network that is cut without a reset. */
  silent = false;

  constructor(clock: Clock, remoteAddress: string) {
    this.#clock = clock;
    this.remoteAddress = remoteAddress;
  }
  send(frame: Uint8Array, onFlushed?: () => void): void {
    if (!this.open) return;
    const peer = this.peer;
    const copy = Uint8Array.from(frame);
    this.#clock.setTimer(LATENCY_MS, () => {
      if (peer?.open && !this.silent) peer.handlers?.onFrame(peer, copy);
    });
    if (onFlushed !== undefined) this.#clock.defer(onFlushed);
  }
  pause(): void {}
  resume(): void {}
  close(): void {
    this.destroy();
  }
  destroy(): void {
    if (!this.open) return;
    this.open = false;
    this.#clock.defer(() => this.handlers?.onClose(this));
    const peer = this.peer;
    this.#clock.setTimer(LATENCY_MS, () => {
      if (!peer?.open) return;
      peer.open = false;
      peer.handlers?.onClose(peer);
    });
  }
}

/** Frames between a client and listeners of one test, over a manual clock. Addresses that do not listen refuse. */
export class MemoryNet implements Net {
  readonly #clock: Clock;
  readonly #listeners = new Map<string, (connection: FrameConnection) => FrameHandlers>();
  readonly #accepted = new Map<string, Set<MemoryConnection>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  listenDatagrams(): never {
    throw new Error('no datagrams here');
  }

  listen(url: string, accept: (connection: FrameConnection) => FrameHandlers): void {
    this.#listeners.set(url, accept);
  }
  /** Stops listening and resets what is connected. */
  kill(url: string): void {
    this.#listeners.delete(url);
    this.reset(url);
  }
  reset(url: string): void {
    for (const connection of this.#accepted.get(url) ?? []) connection.destroy();
    this.#accepted.delete(url);
  }
  /** Nothing gets through any more, and nobody is told. */
  silence(url: string): void {
    for (const connection of this.#accepted.get(url) ?? []) {
      connection.silent = true;
      if (connection.peer !== null) connection.peer.silent = true;
    }
  }

  dialFrames(url: string, _maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
    const near = new MemoryConnection(this.#clock, url);
    near.handlers = handlers;
    this.#clock.setTimer(LATENCY_MS, () => {
      const accept = this.#listeners.get(url);
      if (!near.open) return;
      if (accept === undefined) {
        near.open = false;
        handlers.onClose(near);
        return;
      }
      const far = new MemoryConnection(this.#clock, 'client');
      far.peer = near;
      near.peer = far;
      far.handlers = accept(far);
      const accepted = this.#accepted.get(url) ?? new Set();
      this.#accepted.set(url, accepted.add(far));
      handlers.onOpen?.(near);
    });
    return near;
  }
  dialStream(): StreamConnection {
    throw new Error('clients dial frames only');
  }
  listenStream(): Promise<Listener> {
    throw new Error('clients do not listen');
  }
  listenFrames(): Promise<Listener> {
    throw new Error('use listen()');
  }
}
