import type { Clock, Timer } from '../../src/io/clock.ts';
import type { FrameConnection, FrameHandlers, Net } from '../../src/io/net.ts';

/** Time stands still until it is told to go on; deferred calls run by endTurn(). */
export class FakeClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Map<object, { atMs: number; callback: () => void }>();
  #deferred: (() => void)[] = [];

  wallMs(): number {
    return this.#nowMs;
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = {};
    this.#timers.set(timer, { atMs: this.#nowMs + delayMs, callback });
    return timer;
  }
  clearTimer(timer: Timer): void {
    this.#timers.delete(timer);
  }
  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }
  endTurn(): void {
    for (const callback of this.#deferred.splice(0)) callback();
  }
  advance(byMs: number): void {
    const end = this.#nowMs + byMs;
    for (;;) {
      const due = [...this.#timers].filter(([, { atMs }]) => atMs <= end).sort((a, b) => a[1].atMs - b[1].atMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.#nowMs = due[1].atMs;
      due[1].callback();
    }
    this.#nowMs = end;
  }
}

/** The broker's end of a connection. What the broker sends is kept in `sent`; take() is the client reading. */
export class FakeConnection implements FrameConnection {
  readonly remoteAddress = '192.0.2.1:5';
  readonly sent: Uint8Array[] = [];
  #queued: { bytes: number; onFlushed: (() => void) | undefined }[] = [];
  bufferedBytes = 0;
  paused = false;
  closing = false;
  closed = false;
  handlers: FrameHandlers | null = null;
  /** False: the client takes nothing, bytes queue up until take(). */
  reading = true;

  send(frame: Uint8Array, onFlushed?: () => void): void {
    if (this.closed || this.closing) return;
    this.sent.push(Uint8Array.from(frame));
    this.#queued.push({ bytes: frame.length, onFlushed });
    this.bufferedBytes += frame.length;
    if (this.reading) this.take();
  }
  take(): void {
    for (const { bytes, onFlushed } of this.#queued.splice(0)) {
      this.bufferedBytes -= bytes;
      onFlushed?.();
    }
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  close(): void {
    this.closing = true;
  }
  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    this.handlers?.onClose(this);
  }
  /** A frame from the client. */
  receive(frame: Uint8Array): void {
    this.handlers?.onFrame(this, frame);
  }
}

/** A Net whose only listener is called by connect(). */
export class FakeNet implements Net {
  #accept: ((connection: FrameConnection) => FrameHandlers) | null = null;
  listening = false;

  async listenFrames(_host: string, _port: number, _max: number, accept: (connection: FrameConnection) => FrameHandlers) {
    this.#accept = accept;
    this.listening = true;
    return {
      port: 7460,
      close: async () => {
        this.listening = false;
      },
    };
  }
  connect(): FakeConnection {
    const connection = new FakeConnection();
    if (this.#accept === null) throw new Error('nobody listens');
    connection.handlers = this.#accept(connection);
    connection.handlers.onOpen?.(connection);
    return connection;
  }
  listenDatagrams(): never {
    throw new Error('no datagrams here');
  }
  listenStream(): never {
    throw new Error('no streams here');
  }
  dialStream(): never {
    throw new Error('no streams here');
  }
  dialFrames(): never {
    throw new Error('no dialling here');
  }
}
