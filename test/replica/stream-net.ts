import type { Clock } from '../../src/io/clock.ts';
import type { FrameConnection, Listener, Net, StreamConnection, StreamHandlers } from '../../src/io/net.ts';

const LATENCY_MS = 1;

class MemoryStream implements StreamConnection {
  readonly remoteAddress = 'memory';
  bufferedBytes = 0;
  handlers: StreamHandlers | null = null;
  peer: MemoryStream | null = null;
  open = true;
  /** Takes what is written and lets nothing through. */
  silent = false;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  write(bytes: Uint8Array, onFlushed?: () => void): void {
    if (!this.open) return;
    const { peer } = this;
    const copy = bytes.slice();
    const isLost = this.silent;
    this.#clock.setTimer(LATENCY_MS, () => {
      if (!this.open || isLost) return;
      onFlushed?.();
      if (peer?.open) peer.handlers?.onData(peer, copy);
    });
  }

  destroy(): void {
    if (!this.open) return;
    this.#end(false);
    const { peer } = this;
    this.#clock.setTimer(LATENCY_MS, () => {
      if (peer?.open && !this.silent) peer.#end(true);
    });
  }

  #end(reset: boolean): void {
    this.open = false;
    this.#clock.setTimer(0, () => this.handlers?.onClose(this, reset));
  }
}

/** Byte streams between the replicas of one test, by port, over a manual clock. */
export class StreamNet implements Net {
  readonly #clock: Clock;
  readonly listeners = new Map<number, (connection: StreamConnection) => StreamHandlers>();
  /** Every connection ever made, both ends. */
  readonly connections: MemoryStream[] = [];
  /** Time that listening takes. */
  listenMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get openCount(): number {
    return this.connections.filter(({ open }) => open).length;
  }

  listenDatagrams(): never {
    throw new Error('no datagrams here');
  }

  async listenStream(_host: string, port: number, accept: (connection: StreamConnection) => StreamHandlers): Promise<Listener> {
    if (this.listenMs > 0) await new Promise<void>((resolve) => void this.#clock.setTimer(this.listenMs, resolve));
    this.listeners.set(port, accept);
    return {
      port,
      close: async () => {
        this.listeners.delete(port);
      },
    };
  }

  dialStream(_host: string, port: number, handlers: StreamHandlers): StreamConnection {
    const near = new MemoryStream(this.#clock);
    near.handlers = handlers;
    this.connections.push(near);
    this.#clock.setTimer(LATENCY_MS, () => {
      if (!near.open) return;
      const accept = this.listeners.get(port);
      if (accept === undefined) {
        near.open = false;
        handlers.onClose(near, true);
        return;
      }
      const far = new MemoryStream(this.#clock);
      this.connections.push(far);
      far.peer = near;
      near.peer = far;
      far.handlers = accept(far);
      far.handlers.onOpen?.(far);
      handlers.onOpen?.(near);
    });
    return near;
  }

  /** Nothing passes on what is connected now, and nobody is told. */
  silence(): void {
    for (const connection of this.connections) connection.silent = true;
  }

  listenFrames(): Promise<Listener> {
    throw new Error('replicas speak streams');
  }
  dialFrames(): FrameConnection {
    throw new Error('replicas speak streams');
  }
}
