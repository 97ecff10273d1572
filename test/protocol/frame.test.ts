import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LedgerError } from '../../src/protocol/errors.ts';
import {
  decodeBrokerFrame,
  decodeRequest,
  encodeFrame,
  encodePush,
  encodeRefusal,
  encodeRequest,
  encodeResponse,
  pullHeadroomBytes,
  sendHeadroomBytes,
} from '../../src/protocol/frame.ts';
import { unpack } from '../../src/protocol/msgpack.ts';
import { Op, PushKind, type Requests } from '../../src/protocol/requests.ts';
import { forEachSendAck, SendAckWriter } from '../../src/protocol/send-acks.ts';
import { assignment, REQUESTS, RESPONSES } from './samples.ts';

const ALL_OPS = Object.keys(REQUESTS).map(Number) as (keyof Requests)[];
const rawOf = (op: number): Uint8Array => (op === Op.send || op === Op.pull ? Uint8Array.of(1, 2, 3) : new Uint8Array(0));

/** What refuses it: the whole frame, or this request alone. */
function code(run: () => unknown): string {
  try {
    const made = run();
    if (typeof made === 'object' && made !== null && 'error' in made && made.error instanceof LedgerError) return made.error.code;
  } catch (error) {
    if (error instanceof LedgerError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('frame', () => {
  test.each(ALL_OPS)('request of operation %i comes back as it was', (op) => {
    const raw = op === Op.send ? rawOf(op) : new Uint8Array(0);
    const frame = encodeRequest(op, 0xffff_ffff, 3000, REQUESTS[op] as never, raw);
    expect(decodeRequest(frame)).toEqual({ op, requestId: 0xffff_ffff, deadlineMs: 3000, body: REQUESTS[op], raw });
  });

  test.each(ALL_OPS.filter((op) => op !== Op.send))('response of operation %i comes back as it was', (op) => {
    const body = RESPONSES[op as keyof typeof RESPONSES];
    const frame = encodeResponse(op as never, 9, body as never, rawOf(op));
    expect(decodeBrokerFrame(frame, () => op)).toEqual({ kind: 'response', requestId: 9, body, raw: rawOf(op) });
  });

  test('F24 F08 what a pull may say besides comes back as it was, and an older release passes over it', () => {
    for (const options of [{}, { suggested: true }, { filter: "a = 'x'" }, { suggested: true, filter: '' }]) {
      const body = { ...REQUESTS[Op.pull], ...options };
      const frame = encodeRequest(Op.pull, 1, 0, body);
      expect(decodeRequest(frame)).toMatchObject({ body });
      const header = unpack(frame.subarray(4)) as unknown[];
      expect(header.slice(0, 4)).toEqual((unpack(encodeRequest(Op.pull, 1, 0, REQUESTS[Op.pull]).subarray(4)) as unknown[]).slice(0, 4));
    }
    for (const [flag, filter] of [
      [0, 5],
      [1, null],
      [1, 'x'.repeat(4_097)],
    ]) {
      const [op, id, deadline, body] = unpack(encodeRequest(Op.pull, 1, 0, REQUESTS[Op.pull]).subarray(4)) as unknown[];
      expect(code(() => decodeRequest(encodeFrame([op, id, deadline, body, flag, filter])))).toBe('BAD_REQUEST');
    }
  });

  test('refusals, pushes and late answers', () => {
    expect(decodeBrokerFrame(encodeRefusal(5, 'NOT_LEADER', 'why'), () => Op.ping)).toEqual({
      kind: 'error',
      requestId: 5,
      error: 20,
      detail: 'why',
    });
    expect(decodeBrokerFrame(encodePush(PushKind.assignment, assignment), () => undefined)).toEqual({
      kind: 'push',
      push: { kind: PushKind.assignment, body: assignment },
    });
    expect(decodeBrokerFrame(encodeResponse(Op.ping, 5, {}), () => undefined)).toEqual({ kind: 'ignored' });
    expect(decodeBrokerFrame(encodeFrame([Op.push, 0, 999, {}]), () => undefined)).toEqual({ kind: 'ignored' });
  });

  test('a fraction of a deadline is rounded up, one that has passed is not taken for none', () => {
    expect(decodeRequest(encodeRequest(Op.ping, 1, 1.25, {}))).toMatchObject({ deadlineMs: 2 });
    expect(decodeRequest(encodeRequest(Op.ping, 1, -3, {}))).toMatchObject({ deadlineMs: 1 });
    expect(decodeRequest(encodeRequest(Op.ping, 1, 0, {}))).toMatchObject({ deadlineMs: 0 });
  });

  test('an unknown operation can be answered, a newer one may say more', () => {
    expect(decodeRequest(encodeFrame([999, 5, 0, null]))).toMatchObject({ requestId: 5, error: { code: 'UNKNOWN_OPERATION' } });
    const frame = encodeFrame([Op.topicDelete, 5, 0, { topic: 't', later: [1] }, 'more']);
    expect(decodeRequest(frame)).toMatchObject({ body: { topic: 't' } });
  });

  test('the header goes into the headroom: the frame is a view of the caller’s memory, raw is a view of the frame', () => {
    const body = REQUESTS[Op.send];
    const headroom = sendHeadroomBytes(1, 1);
    const memory = new Uint8Array(headroom + 3);
    memory.set([1, 2, 3], headroom);
    const frame = encodeRequest(Op.send, 1, 0, body, memory, headroom);
    expect(frame.buffer).toBe(memory.buffer);
    const decoded = decodeRequest(frame);
    expect(decoded).toMatchObject({ body });
    if ('error' in decoded) throw decoded.error;
    expect(decoded.raw.buffer).toBe(memory.buffer);
    expect([...decoded.raw]).toEqual([1, 2, 3]);
  });

  test('promised headrooms suffice for the largest fields; too little headroom costs a copy, not correctness', () => {
    const topic = 'x'.repeat(127);
    const parts = Array.from({ length: 20 }, () => ({ topic, queueId: 0xffff, sizeBytes: 0 }));
    const sendRoom = sendHeadroomBytes(parts.length, topic.length);
    const send = new Uint8Array(sendRoom);
    expect(encodeRequest(Op.send, 0xffff_ffff, 0xffff_ffff, { oneWay: false, replication: 3, parts }, send, sendRoom).buffer).toBe(
      send.buffer,
    );

    const big = Number.MAX_SAFE_INTEGER;
    const batches = Array.from({ length: 20 }, () => ({ baseOffset: big, logTimeMs: big, position: big, sizeBytes: 0 }));
    const response = { minOffset: big, maxOffset: big, nextOffset: big, batches };
    const pullRoom = pullHeadroomBytes(batches.length);
    const pull = new Uint8Array(pullRoom);
    expect(encodeResponse(Op.pull, 0xffff_ffff, response, pull, pullRoom).buffer).toBe(pull.buffer);

    const tight = Uint8Array.of(9, 9, 1, 2, 3);
    const decoded = decodeRequest(encodeRequest(Op.send, 1, 0, REQUESTS[Op.send], tight, 2));
    expect(decoded).toMatchObject({ raw: Uint8Array.of(1, 2, 3) });
  });

  test('a raw region that the operation does not have is not kept', () => {
    expect(decodeRequest(encodeRequest(Op.ping, 1, 0, {}, new Uint8Array(1000)))).toMatchObject({ raw: new Uint8Array(0) });
  });

  test('parts and batches must fill the raw region exactly', () => {
    expect(code(() => decodeRequest(encodeRequest(Op.send, 1, 0, REQUESTS[Op.send], new Uint8Array(4))))).toBe('BAD_REQUEST');
    const pull = encodeResponse(Op.pull, 1, RESPONSES[Op.pull], new Uint8Array(2));
    expect(code(() => decodeBrokerFrame(pull, () => Op.pull))).toBe('BAD_REQUEST');
  });

  test('small frames that claim much memory or depth are refused before anything is reserved', () => {
    const frameOf = (...header: number[]): Uint8Array => Uint8Array.of(header.length, 0, 0, 0, ...header);
    expect(code(() => decodeRequest(frameOf(0xdd, 0x01, 0xff, 0xff, 0xff)))).toBe('BAD_REQUEST');
    expect(code(() => decodeRequest(frameOf(0xdf, 0xff, 0xff, 0xff, 0xff)))).toBe('BAD_REQUEST');
    expect(code(() => decodeRequest(frameOf(0xdb, 0xff, 0xff, 0xff, 0xff)))).toBe('BAD_REQUEST');
    expect(code(() => decodeRequest(frameOf(...new Array<number>(200).fill(0x91), 0xc0)))).toBe('BAD_REQUEST');
    expect(code(() => decodeRequest(frameOf(0xd4, 0x72, 0x40)))).toBe('BAD_REQUEST');
    expect(code(() => decodeRequest(Uint8Array.of(0xff, 0xff, 0xff, 0xff)))).toBe('BAD_REQUEST');
  });

  test('any bytes give a value or a BAD_REQUEST, on both sides', () => {
    const valid = fc
      .constantFrom(...ALL_OPS)
      .map((op) => encodeRequest(op, 1, 2, REQUESTS[op] as never, op === Op.send ? rawOf(op) : undefined));
    const damaged = fc
      .tuple(valid, fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }))
      .map(([frame, hits]) => {
        const bytes = Uint8Array.from(frame);
        for (const [at, value] of hits) bytes[at % bytes.length] = value;
        return bytes;
      });
    const values = fc.anything({ withNullPrototype: false, maxDepth: 3 }).filter((value) => !hasOdd(value));
    const shaped = fc.tuple(fc.constantFrom(...ALL_OPS), values).map(([op, body]) => Uint8Array.from(encodeFrame([op, 1, 0, body])));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), damaged, shaped), fc.constantFrom(...ALL_OPS), (bytes, op) => {
        expect(['accepted', 'BAD_REQUEST', 'UNKNOWN_OPERATION']).toContain(code(() => decodeRequest(bytes)));
        expect(['accepted', 'BAD_REQUEST']).toContain(code(() => decodeBrokerFrame(bytes, () => op)));
        expect(['accepted', 'BAD_REQUEST']).toContain(code(() => forEachSendAck(bytes, () => {})));
      }),
      { numRuns: 5_000 },
    );
  });
});

/** Values that msgpack itself cannot carry. */
function hasOdd(value: unknown): boolean {
  if (typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'function' || value === undefined) return true;
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).some(hasOdd);
}

describe('send acks', () => {
  test('what was added comes back in order, over several growths', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            requestId: fc.integer({ min: 0, max: 0xffff_ffff }),
            results: fc.array(
              fc.record({
                error: fc.integer({ min: 0, max: 100 }),
                baseOffset: fc.oneof(fc.constant(-1), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })),
                logTimeMs: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
              }),
              { minLength: 1, maxLength: 5 },
            ),
          }),
          { minLength: 1, maxLength: 60 },
        ),
        (acks) => {
          const writer = new SendAckWriter();
          for (const { requestId, results } of acks) {
            const [first] = results;
            if (results.length === 1 && first !== undefined) writer.add(requestId, first.error, first.baseOffset, first.logTimeMs);
            else
              writer.addParts(
                requestId,
                results.flatMap(({ error, baseOffset, logTimeMs }) => [error, baseOffset, logTimeMs]),
              );
          }
          const frame = decodeBrokerFrame(writer.take(), () => undefined);
          expect(writer.empty).toBe(true);
          if (frame.kind !== 'sendAcks') throw new Error(frame.kind);
          const seen: unknown[] = [];
          forEachSendAck(frame.raw, (requestId, results) => seen.push({ requestId, results }));
          expect(seen).toEqual(acks);
        },
      ),
    );
  });
});
