import type { ErrorCode } from '../protocol/errors.ts';
import type { Request } from '../protocol/frame.ts';
import type { HelloRequest, HelloResponse, Pushes, PushKindNumber, RequestOp, Responses } from '../protocol/requests.ts';

/**
 * One connected client as the broker sees it. The gateway implements it; the broker answers through it, at any time, in any
 * order, and each request exactly once (a one-way send never). After RequestHandler.closed() every call is a harmless no-op.
 */
export interface Session {
  /** Unique in this process, from 1. */
  readonly id: number;
  readonly clientId: string;
  readonly namespace: string;
  readonly zone: string;
  /** Name and version of the client library, as it says. */
  readonly agent: string;
  /** host:port of the other end, for people. */
  readonly address: string;
  /** More is queued towards the client than it takes: let pulls wait until RequestHandler.drained(). */
  readonly congested: boolean;
  readonly closed: boolean;
  /**
   * Answers one request; not for Op.send (sendAck).
   * @param raw record batches. Its first `headroomBytes` bytes are free for the frame's header (pullHeadroomBytes() says how
   * many a pull needs), the raw region is the rest; then nothing is copied. It must not change until the frame is sent: give
   * memory that is not used again.
   */
  respond<O extends Exclude<RequestOp, 10>>(op: O, requestId: number, body: Responses[O], raw?: Uint8Array, headroomBytes?: number): void;
  /** Answers with an error, sends included (the whole request failed). */
  refuse(requestId: number, code: ErrorCode, detail?: string): void;
  /** Answers a send of one part. Acks of one turn of the event loop leave in one frame. `error` 0 = stored; `baseOffset` −1 = unknown (leader-only). */
  sendAck(requestId: number, error: number, baseOffset: number, logTimeMs: number): void;
  /** Answers a send of several parts: error, baseOffset, logTimeMs for each, flat and in order. Read during the call only. */
  sendAckParts(requestId: number, results: ArrayLike<number>): void;
  push<K extends PushKindNumber>(kind: K, body: Pushes[K]): void;
}

export type { Request } from '../protocol/frame.ts';

/** What only the broker knows of a HelloResponse; the gateway adds version and its own limits. */
export type BrokerHello = Pick<HelloResponse, 'clusterId' | 'brokerName' | 'replicaId' | 'maxBatchBytes' | 'maxCodec'>;

/** The broker, as the gateways drive it. None of these may throw anything but an AssertionError. */
export interface RequestHandler {
  /** Before any request of the session. @returns the code of a refusal: the connection is closed with it */
  opened(session: Session, hello: HelloRequest): BrokerHello | ErrorCode;
  /** Op.hello never comes here. */
  request(session: Session, request: Request): void;
  /** `session.congested` fell back to false. */
  drained(session: Session): void;
  /** The connection is gone; unanswered requests are nobody's. Called once, and only after opened() accepted. */
  closed(session: Session): void;
}
