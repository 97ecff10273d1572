import { describe, expect, test } from 'vitest';
import { decodeBrokerFrame, decodeRequest, encodePush, encodeRefusal, encodeRequest, encodeResponse } from '../../src/protocol/frame.ts';
import { Op, PushKind, type RequestOp } from '../../src/protocol/requests.ts';
import { forEachSendAck, SendAckWriter } from '../../src/protocol/send-acks.ts';
import { PUSHES, REQUESTS, RESPONSES } from '../protocol/samples.ts';
import { golden, PINNED_LEVELS } from './golden.ts';

const RAW = Uint8Array.of(1, 2, 3);
const NO_RAW = new Uint8Array(0);
const REQUEST_ID = 0xffff_fff0;
const ACK = { error: 32, baseOffset: 2 ** 40, logTimeMs: 1_800_000_000_000 };

/** The operations that a level brought, by their numbers. */
const OPS: ReadonlyMap<number, readonly number[]> = new Map([
  [1, [2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 31, 32, 33, 34, 35, 36, 37, 40, 41, 42, 43]],
  [2, [38, 44, 45, 47]],
]);

/** Pushes of level 1 end here; later ones are pinned with their level. */
const LAST_FIRST_PUSH = 3;

const opsOf = (level: number): [string, RequestOp][] => {
  const names = new Map(Object.entries(Op).map(([name, op]) => [op as number, name]));
  return (OPS.get(level) as readonly number[]).map((op) => [names.get(op) as string, op as RequestOp]);
};
const requestRaw = (op: number): Uint8Array => (op === Op.send ? RAW : NO_RAW);
const responseRaw = (op: number): Uint8Array => (op === Op.pull ? RAW : NO_RAW);

describe('golden files', () => {
  test.each(PINNED_LEVELS)('F38 requests of feature level %i are written and read as ever', (level) => {
    const ops = opsOf(level);
    const made = ops.map(([name, op]): [string, Uint8Array] => [
      name,
      encodeRequest(op, REQUEST_ID, 3000, REQUESTS[op] as never, requestRaw(op)).slice(),
    ]);
    const pinned = golden(`requests-${level}`, new Map(made));
    for (const [name, op] of ops) {
      const read = decodeRequest(pinned.get(name) as Uint8Array);
      expect(read).toEqual({ op, requestId: REQUEST_ID, deadlineMs: 3000, body: REQUESTS[op], raw: requestRaw(op) });
    }
  });

  test.each(PINNED_LEVELS)('F38 responses of feature level %i are written and read as ever', (level) => {
    // Sends are answered together, by sendAcks.
    const ops = opsOf(level).filter(([, op]) => op !== Op.send) as [string, keyof typeof RESPONSES][];
    const made = ops.map(([name, op]): [string, Uint8Array] => [
      name,
      encodeResponse(op as never, REQUEST_ID, RESPONSES[op] as never, responseRaw(op)).slice(),
    ]);
    const pinned = golden(`responses-${level}`, new Map(made));
    for (const [name, op] of ops) {
      const read = decodeBrokerFrame(pinned.get(name) as Uint8Array, () => op);
      expect(read).toEqual({ kind: 'response', requestId: REQUEST_ID, body: RESPONSES[op], raw: responseRaw(op) });
    }
  });

  test('F38 what the broker says by itself is written and read as ever', () => {
    const acks = new SendAckWriter();
    acks.add(REQUEST_ID, ACK.error, ACK.baseOffset, ACK.logTimeMs);
    const kinds = (Object.entries(PushKind) as [string, keyof typeof PUSHES][]).filter(([, kind]) => kind <= LAST_FIRST_PUSH);
    const pinned = golden(
      'broker-frames-1',
      new Map<string, Uint8Array>([
        ...kinds.map(([name, kind]): [string, Uint8Array] => [name, encodePush(kind, PUSHES[kind] as never).slice()]),
        ['refusal', encodeRefusal(REQUEST_ID, 'NOT_LEADER', 'leader is 3').slice()],
        ['sendAcks', acks.take().slice()],
      ]),
    );
    const read = (name: string): unknown => decodeBrokerFrame(pinned.get(name) as Uint8Array, () => Op.send);
    for (const [name, kind] of kinds) expect(read(name)).toEqual({ kind: 'push', push: { kind, body: PUSHES[kind] } });
    expect(read('refusal')).toEqual({ kind: 'error', requestId: REQUEST_ID, error: 20, detail: 'leader is 3' });
    const results: unknown[] = [];
    const frame = read('sendAcks') as { raw: Uint8Array };
    forEachSendAck(frame.raw, (requestId, found) => results.push([requestId, found]));
    expect(results).toEqual([[REQUEST_ID, [ACK]]]);
  });
});
