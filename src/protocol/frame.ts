import { readU32, writeU32 } from '../base/bytes.ts';
import { type BodyCodec, CONTROL_REQUESTS, CONTROL_RESPONSES, PUSHES } from './bodies.ts';
import { ERRORS, type ErrorCode, LedgerError } from './errors.ts';
import { PULL_REQUEST, PULL_RESPONSE, SEND_REQUEST } from './flat-bodies.ts';
import { pack, unpack } from './msgpack.ts';
import { encodeReferences, withReferences } from './pull-references.ts';
import { Op, type Pushes, type PushKindNumber, type RequestOp, type Requests, type Responses } from './requests.ts';
import { int, MAX_TEXT, text, u16, u32 } from './schema.ts';

/** A frame's first bytes: the size of its header. */
export const FRAME_PREFIX_BYTES = 4;
/** A larger header is malformed: 65,536 assigned queues with long names still fit. */
export const MAX_HEADER_BYTES = 4 * 1024 * 1024;

/** A decoded request. `switch (request.op)` narrows `body`. */
export type Request = {
  readonly [O in RequestOp]: {
    readonly op: O;
    /** 32 bits, chosen by the client, unique among its unanswered ones. */
    readonly requestId: number;
    /** ms that the client still waits, counted from arrival; 0 = not said. */
    readonly deadlineMs: number;
    readonly body: Requests[O];
    /** Belongs to the callee: views may be kept. Empty but for sends. */
    readonly raw: Uint8Array;
  };
}[RequestOp];

/** What a client receives. */
export type BrokerFrame =
  /** The body of the operation that `opOf` named for this request. */
  | { readonly kind: 'response'; readonly requestId: number; readonly body: Responses[RequestOp]; readonly raw: Uint8Array }
  | { readonly kind: 'error'; readonly requestId: number; readonly error: number; readonly detail: string }
  | { readonly kind: 'push'; readonly push: PushBody }
  /** Answers to sends; read with forEachSendAck(). */
  | { readonly kind: 'sendAcks'; readonly raw: Uint8Array }
  /** A late answer to a request that was given up, or a push that this version does not know. */
  | { readonly kind: 'ignored' };

export type PushBody = { readonly [K in PushKindNumber]: { readonly kind: K; readonly body: Pushes[K] } }[PushKindNumber];

const NO_BYTES = new Uint8Array(0);

// Send has no response body: acknowledgements are fixed binary (send-acks.ts).
type Answered = Exclude<RequestOp, typeof Op.send>;
const REQUESTS: { readonly [O in RequestOp]: BodyCodec<Requests[O]> } = {
  ...CONTROL_REQUESTS,
  [Op.send]: SEND_REQUEST,
  [Op.pull]: PULL_REQUEST,
};
const RESPONSES: { readonly [O in Answered]: BodyCodec<Responses[O]> } = { ...CONTROL_RESPONSES, [Op.pull]: PULL_RESPONSE };

const REQUEST_CODECS = new Map<number, BodyCodec<unknown>>(Object.entries(REQUESTS).map(([op, codec]) => [Number(op), codec]));
const RESPONSE_CODECS = new Map<number, BodyCodec<unknown>>(Object.entries(RESPONSES).map(([op, codec]) => [Number(op), codec]));
const PUSH_CODECS = new Map<number, BodyCodec<unknown>>(Object.entries(PUSHES).map(([kind, codec]) => [Number(kind), codec]));

/** Room that the header of a send may take: reserve it before the batches, then nothing is copied. */
export function sendHeadroomBytes(parts: number, topicBytes: number): number {
  return 32 + parts * (13 + topicBytes);
}
/** Room that the header of a pull's answer may take. */
export function pullHeadroomBytes(batches: number): number {
  return 64 + batches * 32;
}

/**
 * @param raw the raw region behind `headroomBytes` free bytes. When the header fits there the frame is a view of `raw`,
 *   nothing is copied, and `raw` must not be used again; else header and region are copied once into a new frame
 */
export function encodeFrame(header: readonly unknown[], raw: Uint8Array = NO_BYTES, headroomBytes = 0): Uint8Array {
  const packed = pack(header);
  const prefixed = FRAME_PREFIX_BYTES + packed.length;
  let frame: Uint8Array;
  if (prefixed <= headroomBytes) {
    frame = raw.subarray(headroomBytes - prefixed);
  } else {
    frame = new Uint8Array(prefixed + raw.length - headroomBytes);
    if (raw.length > headroomBytes) frame.set(headroomBytes === 0 ? raw : raw.subarray(headroomBytes), prefixed);
  }
  writeU32(frame, 0, packed.length);
  frame.set(packed, FRAME_PREFIX_BYTES);
  return frame;
}

/** See encodeFrame() for `raw` and `headroomBytes`. @param deadlineMs how long the caller still waits; 0 = not said */
export function encodeRequest<O extends RequestOp>(
  op: O,
  requestId: number,
  deadlineMs: number,
  body: Requests[O],
  raw?: Uint8Array,
  headroomBytes?: number,
): Uint8Array {
  // Fractions are not on the wire, and a deadline that has nearly passed must not become "not said".
  const deadline = deadlineMs === 0 ? 0 : Math.max(1, Math.ceil(deadlineMs));
  const header = [op, requestId, deadline, (REQUESTS[op] as BodyCodec<Requests[O]>).encode(body)];
  if (op === Op.pull) pushPullOptions(header, body as Requests[typeof Op.pull]);
  return encodeFrame(header, raw, headroomBytes);
}

/** A fifth and a sixth element are passed over by releases that do not know them: a flat body has no room for what may be missing. */
function pushPullOptions(header: unknown[], { suggested, filter }: Requests[typeof Op.pull]): void {
  if (filter !== undefined) header.push(suggested === true ? 1 : 0, filter);
  else if (suggested === true) header.push(1);
}

export function encodeResponse<O extends Answered>(
  op: O,
  requestId: number,
  body: Responses[O],
  raw?: Uint8Array,
  headroomBytes?: number,
): Uint8Array {
  const header = [Op.response, requestId, 0, (RESPONSES[op] as BodyCodec<Responses[O]>).encode(body)];
  if (op === Op.pull) {
    const { suggest = 0, batches } = body as Responses[typeof Op.pull];
    const references = encodeReferences(batches);
    if (suggest !== 0 || references !== null) header.push(suggest);
    if (references !== null) header.push(references);
  }
  return encodeFrame(header, raw, headroomBytes);
}

export function encodeRefusal(requestId: number, code: ErrorCode, detail: string = ERRORS[code].text): Uint8Array {
  return encodeFrame([Op.response, requestId, ERRORS[code].number, detail.slice(0, MAX_TEXT)]);
}

export function encodePush<K extends PushKindNumber>(kind: K, body: Pushes[K]): Uint8Array {
  return encodeFrame([Op.push, 0, kind, (PUSHES[kind] as BodyCodec<Pushes[K]>).encode(body)]);
}

interface Parts {
  readonly header: readonly unknown[];
  readonly raw: Uint8Array;
}

/** @throws LedgerError BAD_REQUEST. `raw` is a view of `frame`. */
function split(frame: Uint8Array): Parts {
  if (frame.length < FRAME_PREFIX_BYTES) throw new LedgerError('BAD_REQUEST', 'frame shorter than its prefix');
  const headerBytes = readU32(frame, 0);
  const rawAt = FRAME_PREFIX_BYTES + headerBytes;
  if (headerBytes > MAX_HEADER_BYTES || rawAt > frame.length) throw new LedgerError('BAD_REQUEST', 'header size');
  const header = unpack(frame.subarray(FRAME_PREFIX_BYTES, rawAt));
  // Further elements are a newer version's: ignored.
  if (!Array.isArray(header) || header.length < 4) throw new LedgerError('BAD_REQUEST', 'header is not an array of 4');
  return { header, raw: rawAt === frame.length ? NO_BYTES : frame.subarray(rawAt) };
}

const opNumber = int(0, 0xffff);

/** A request that can be answered with `code`, because its id was readable. */
export interface BadRequest {
  readonly requestId: number;
  readonly error: LedgerError;
}

/**
 * @returns the request, or why it is refused while the connection may live on: an unknown operation (a newer client's)
 * @throws LedgerError BAD_REQUEST when the frame is malformed: the peer is broken, its connection ends
 */
export function decodeRequest(frame: Uint8Array): Request | BadRequest {
  const { header, raw } = split(frame);
  const op = opNumber(header[0], 'op');
  const requestId = u32(header[1], 'requestId');
  const deadlineMs = u32(header[2], 'deadlineMs');
  const codec = REQUEST_CODECS.get(op);
  if (codec === undefined) return { requestId, error: new LedgerError('UNKNOWN_OPERATION', `operation ${op}`) };
  try {
    let body = codec.decode(header[3]);
    if (op === Op.pull && header.length > 4) body = withPullOptions(body as Requests[typeof Op.pull], header);
    if (op === Op.send) checkSendSizes(body as Requests[typeof Op.send], raw.length);
    // Only sends carry batches; a held pull must not keep a large frame alive.
    return { op, requestId, deadlineMs, body, raw: op === Op.send ? raw : NO_BYTES } as Request;
  } catch (error) {
    // It is known which request is wrong, and where the next frame begins: the others on the connection are not to suffer (F15).
    if (!(error instanceof LedgerError)) throw error;
    return { requestId, error };
  }
}

function withPullOptions(body: Requests[typeof Op.pull], header: readonly unknown[]): Requests[typeof Op.pull] {
  const suggested = header[4] === 1 ? { suggested: true } : {};
  const filter = header[5] === undefined ? {} : { filter: text(header[5], 'filter') };
  return { ...body, ...suggested, ...filter };
}

/** The parts must tile the raw region: what follows reads batches at these offsets. */
function checkSendSizes(body: Requests[typeof Op.send], rawBytes: number): void {
  let sum = 0;
  for (const part of body.parts) sum += part.sizeBytes;
  if (sum !== rawBytes) throw new LedgerError('BAD_REQUEST', 'parts do not fill the raw region');
}

/**
 * For clients.
 * @param opOf the operation of an unanswered request, undefined when there is none of this id
 * @throws LedgerError BAD_REQUEST when the frame is malformed
 */
export function decodeBrokerFrame(frame: Uint8Array, opOf: (requestId: number) => RequestOp | undefined): BrokerFrame {
  const { header, raw } = split(frame);
  const kind = opNumber(header[0], 'op');
  const requestId = u32(header[1], 'requestId');
  const third = u16(header[2], 'error');
  switch (kind) {
    case Op.sendAcks:
      return { kind: 'sendAcks', raw };
    case Op.push: {
      const codec = PUSH_CODECS.get(third);
      if (codec === undefined) return { kind: 'ignored' };
      return { kind: 'push', push: { kind: third, body: codec.decode(header[3]) } as PushBody };
    }
    case Op.response:
      break;
    default:
      return { kind: 'ignored' };
  }
  const op = opOf(requestId);
  if (op === undefined) return { kind: 'ignored' };
  if (third !== 0) return { kind: 'error', requestId, error: third, detail: text(header[3], 'detail') };
  const codec = RESPONSE_CODECS.get(op);
  if (codec === undefined) throw new LedgerError('BAD_REQUEST', `a response body for operation ${op}`);
  let body = codec.decode(header[3]) as Responses[RequestOp];
  if (op === Op.pull) body = withPullElements(body as Responses[typeof Op.pull], header, raw.length);
  return { kind: 'response', requestId, body, raw };
}

/** What a flat body has no room for. */
function withPullElements(body: Responses[typeof Op.pull], header: readonly unknown[], rawBytes: number): Responses[typeof Op.pull] {
  checkPullSizes(body, rawBytes);
  if (header[4] === undefined) return body;
  const suggest = u16(header[4], 'suggest');
  const batches = header[5] === undefined ? body.batches : withReferences(body.batches, header[5]);
  return { ...body, batches, ...(suggest === 0 ? {} : { suggest }) };
}

function checkPullSizes(body: Responses[typeof Op.pull], rawBytes: number): void {
  let sum = 0;
  for (const batch of body.batches) sum += batch.sizeBytes;
  if (sum !== rawBytes) throw new LedgerError('BAD_REQUEST', 'batches do not fill the raw region');
}
