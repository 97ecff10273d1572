/** Bounds of the native gateway, with what happens at each. */
export interface GatewayLimits {
  /** Further connections are closed with TOO_MANY. */
  readonly maxConnections: number;
  /** A larger frame closes its connection. */
  readonly maxFrameBytes: number;
  /** Unanswered requests of one connection; further ones are refused with TOO_MANY. */
  readonly maxConnectionRequests: number;
  /** Raw bytes of unanswered sends of one connection; above it nothing is read until some are answered. */
  readonly sendWindowBytes: number;
  /** Bytes queued towards one connection: above it the session is congested, above twice it the connection is destroyed. */
  readonly maxConnectionBufferBytes: number;
  /** A connection that has not said hello by then is closed. */
  readonly helloTimeoutMs: number;
  /** A connection without a frame for so long is closed; clients ping. */
  readonly idleTimeoutMs: number;
}

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  maxConnections: 10_000,
  maxFrameBytes: 16 * 1024 * 1024,
  maxConnectionRequests: 8_192,
  sendWindowBytes: 16 * 1024 * 1024,
  maxConnectionBufferBytes: 32 * 1024 * 1024,
  helloTimeoutMs: 5_000,
  idleTimeoutMs: 60_000,
};
