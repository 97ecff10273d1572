/** A byte stream between two replicas. No callback is called after onClose. */
export interface StreamConnection {
  readonly remoteAddress: string;
  /** Bytes accepted by write() that the operating system has not taken yet. */
  readonly bufferedBytes: number;
  /** Queues `bytes`, which must not change until `onFlushed` (not called when the connection ends first: then onClose is). */
  write(bytes: Uint8Array, onFlushed?: () => void): void;
  /** Ends it at once; what was not sent is dropped. onClose follows. */
  destroy(): void;
}

export interface StreamHandlers {
  onOpen?(connection: StreamConnection): void;
  /** `bytes` is valid during the call only: copy what is kept. */
  onData(connection: StreamConnection, bytes: Uint8Array): void;
  /** `reset` = the other process is known to be gone or refused (RST, refused), not merely silent: evidence for an early election. */
  onClose(connection: StreamConnection, reset: boolean): void;
}

/** Whole frames between a client and a broker (ws in a process). No callback is called after onClose. */
export interface FrameConnection {
  readonly remoteAddress: string;
  readonly bufferedBytes: number;
  /** Queues one frame. `frame` must not change until `onFlushed`. */
  send(frame: Uint8Array, onFlushed?: () => void): void;
  /** Stops reading (backpressure) until resume(). */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then closes. */
  close(): void;
  destroy(): void;
}

export interface FrameHandlers {
  onOpen?(connection: FrameConnection): void;
  /** The frame belongs to the callee: views of it may be kept. */
  onFrame(connection: FrameConnection, frame: Uint8Array): void;
  onClose(connection: FrameConnection): void;
}

export interface Listener {
  /** The bound port; of interest when 0 was asked for. */
  readonly port: number;
  /** Stops listening and destroys the connections it accepted. */
  close(): Promise<void>;
}

/** Datagrams: each arrives whole, or not, or twice, or late. */
export interface DatagramSocket {
  /** The bound port; of interest when 0 was asked for. */
  readonly port: number;
  /**
   * Sends `bytes` (at most MAX_DATAGRAM_BYTES), which may be used again after the call. `host` may be a name: it is resolved by the
   * implementation, again and again. What cannot be sent is lost without a word, like what is lost on the way.
   */
  send(bytes: Uint8Array, host: string, port: number): void;
  close(): Promise<void>;
}

/** @param bytes valid during the call only. @param host the sender's address, as send() takes it */
export type DatagramHandler = (bytes: Uint8Array, host: string, port: number) => void;

/** Fits one Ethernet frame with IPv6 and UDP headers and some tunnel around it, so that none is sent in fragments. */
export const MAX_DATAGRAM_BYTES = 1_400;

/** Sockets (invariant I9). */
export interface Net {
  listenDatagrams(host: string, port: number, onDatagram: DatagramHandler): Promise<DatagramSocket>;
  listenStream(host: string, port: number, accept: (connection: StreamConnection) => StreamHandlers): Promise<Listener>;
  /** Never throws: a failed dial ends in onClose. */
  dialStream(host: string, port: number, handlers: StreamHandlers): StreamConnection;
  /** @param maxFrameBytes a longer frame closes the connection */
  listenFrames(
    host: string,
    port: number,
    maxFrameBytes: number,
    accept: (connection: FrameConnection) => FrameHandlers,
  ): Promise<Listener>;
  /** @param url ws://host:port. Never throws: a failed dial ends in onClose. */
  dialFrames(url: string, maxFrameBytes: number, handlers: FrameHandlers): FrameConnection;
}
