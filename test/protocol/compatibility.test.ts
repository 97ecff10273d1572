import { describe, expect, test } from 'vitest';
import { CONTROL_REQUESTS, CONTROL_RESPONSES, PUSHES as PUSH_CODECS } from '../../src/protocol/bodies.ts';
import { pack, unpack } from '../../src/protocol/msgpack.ts';
import { PeerFrameType, PeerFrameWriter } from '../../src/protocol/peer-frame.ts';
import { encodeControl, PeerChannel } from '../../src/protocol/peer-frame-handshake.ts';
import { Op, PushKind } from '../../src/protocol/requests.ts';
import { PUSHES, REQUESTS, RESPONSES } from './samples.ts';

/** What a newer release may add: to the body and to every map in it, whatever its type. */
const LATER = { later: [1, { more: 'x' }], laterStill: null };

function withLater(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withLater);
  if (typeof value !== 'object' || value === null) return value;
  return { ...Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withLater(inner)])), ...LATER };
}

/** As it comes over the wire. */
const wired = (value: unknown): unknown => unpack(Uint8Array.from(pack(value)));

type Codecs = Readonly<Record<number, { decode(wire: unknown): unknown }>>;
const nameOf = (op: number): string => Object.entries(Op).find(([, number]) => number === op)?.[0] ?? String(op);
const cases = (codecs: Codecs): [string, number][] => Object.keys(codecs).map((op) => [nameOf(Number(op)), Number(op)]);

describe('newer and older releases on the wire', () => {
  test.each(cases(CONTROL_REQUESTS))('F38 a newer client may say more in %s', (_, op) => {
    const body = (REQUESTS as Readonly<Record<number, unknown>>)[op];
    expect((CONTROL_REQUESTS as Codecs)[op]?.decode(wired(withLater(body)))).toEqual(body);
  });

  test.each(cases(CONTROL_RESPONSES))('F38 a newer broker may say more in its answer to %s', (_, op) => {
    const body = (RESPONSES as Readonly<Record<number, unknown>>)[op];
    expect((CONTROL_RESPONSES as Codecs)[op]?.decode(wired(withLater(body)))).toEqual(body);
  });

  test.each(Object.entries(PushKind))('F38 a newer broker may say more in a push of %s', (_, kind) => {
    const body = PUSHES[kind];
    expect((PUSH_CODECS as Codecs)[kind]?.decode(wired(withLater(body)))).toEqual(body);
  });

  test('F38 a newer replica may say more when a link opens, an older one need not know of feature levels', () => {
    const hello = {
      minVersion: 1,
      maxVersion: 9,
      clusterId: 'x',
      brokerName: 'a',
      replicaId: 2,
      incarnation: 'two',
      formedWith: { 1: 'one', 2: 'two' },
      nonce: 'ab'.repeat(16),
    };
    for (const said of [hello, { ...hello, ...LATER }, { ...hello, maxFeatureLevel: 9, featureLevel: 9, ...LATER }]) {
      let answered = 0;
      const acceptor = new PeerChannel({
        role: 'acceptor',
        own: { clusterId: 'x', brokerName: 'a', replicaId: 1, incarnation: 'one', formedWith: null, maxFeatureLevel: 2, featureLevel: 2 },
        secret: '',
        random: { u32: () => 1, unit: () => 0.5, fill: (bytes) => void bytes.fill(1) },
        send: () => void answered++,
        ready: () => undefined,
        allocate: (_type, _head, sizeBytes) => new Uint8Array(sizeBytes),
        frame: () => undefined,
      });
      acceptor.open();
      acceptor.receive(new PeerFrameWriter().encodeFrame(PeerFrameType.hello, Uint8Array.from(encodeControl(said))));
      // Its own hello and the proof that it has the secret.
      expect(answered).toBe(2);
    }
  });
});
