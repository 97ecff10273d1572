import { describe, expect, test } from 'vitest';
import { PEER_HEADER_BYTES, PeerFrameParser, PeerFrameType, PeerFrameWriter } from '../../src/protocol/peer-frame.ts';
import { PeerChannel, type PeerHello } from '../../src/protocol/peer-frame-handshake.ts';
import type { Message } from '../../src/raft/types.ts';
import {
  decodeMessage,
  decodeSnapshotSlice,
  encodeMessage,
  encodeSnapshotSlice,
  MAX_MESSAGE_HEAD_BYTES,
  messageWallMs,
  SNAPSHOT_SLICE_HEAD_BYTES,
} from '../../src/replica/peer-messages.ts';
import { golden, PINNED_LEVELS } from './golden.ts';

const WALL_MS = 1_800_000_000_000;
const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const base = { from: 2, to: 1, term: 7 };
const MESSAGES: readonly Message[] = [
  { ...base, type: 'preVoteRequest', lastIndex: 2 ** 40, lastTerm: 6 },
  { ...base, type: 'preVoteResponse', granted: true },
  { ...base, type: 'voteRequest', lastIndex: 9, lastTerm: 6, transfer: true },
  { ...base, type: 'voteResponse', granted: false },
  { ...base, type: 'appendRequest', prevIndex: 9, prevTerm: 6, firstIndex: 10, lastIndex: 12, commitIndex: 8, groups: [] },
  { ...base, type: 'appendResponse', success: false, lastIndex: 5, hintTerm: 4, rejectedIndex: 9 },
  { ...base, type: 'heartbeatRequest', commitIndex: 8, readContext: 3 },
  { ...base, type: 'heartbeatResponse', readContext: 3 },
  { ...base, type: 'timeoutNow' },
  { ...base, type: 'snapshotRequest', index: 9, lastTerm: 6 },
  { ...base, type: 'snapshotResponse', index: 9, success: true },
];
const SLICE = { term: 7, index: 9, lastTerm: 6, position: 2 ** 30, offset: 4096, totalBytes: 8192, checksum: 0xdead_beef };

const HELLOS: Readonly<Record<'dialer' | 'acceptor', PeerHello>> = {
  dialer: { clusterId: 'x', brokerName: 'a', replicaId: 1, incarnation: 'one', formedWith: { 1: 'one', 2: 'two', 3: 'three' } },
  acceptor: { clusterId: 'x', brokerName: 'a', replicaId: 2, incarnation: 'two', formedWith: null },
};

/** Everything that one side says, when its nonce is known. */
function handshake(levels: Partial<PeerHello> = {}): Map<string, Uint8Array> {
  const said = new Map<string, Uint8Array>();
  const queue: (() => void)[] = [];
  const met: number[] = [];
  const side = (role: 'dialer' | 'acceptor'): PeerChannel =>
    new PeerChannel({
      role,
      own: { ...HELLOS[role], ...levels },
      secret: 'secret',
      random: { u32: () => 1, unit: () => 0.5, fill: (bytes) => void bytes.fill(role === 'dialer' ? 0xd1 : 0xac) },
      send: (bytes) => {
        said.set(`${role} ${said.has(`${role} hello`) ? 'proof' : 'hello'}`, Uint8Array.from(bytes));
        queue.push(() => (role === 'dialer' ? acceptor : dialer).receive(bytes));
      },
      ready: (peer) => met.push(peer.replicaId),
      allocate: (_type, _head, sizeBytes) => new Uint8Array(sizeBytes),
      frame: () => undefined,
    });
  const dialer = side('dialer');
  const acceptor = side('acceptor');
  dialer.open();
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
  expect(new Set(met)).toEqual(new Set([1, 2]));
  return said;
}

/** Frames one after the other, as on one link. */
function frames(): Map<string, Uint8Array> {
  const writer = new PeerFrameWriter();
  writer.setKey(KEY);
  const frame = (type: PeerFrameType, encode: (into: Uint8Array, at: number) => number): Uint8Array => {
    const bytes = new Uint8Array(PEER_HEADER_BYTES + Math.max(MAX_MESSAGE_HEAD_BYTES, SNAPSHOT_SLICE_HEAD_BYTES));
    const headBytes = encode(bytes, PEER_HEADER_BYTES);
    writer.encodeFrameHeader(bytes, 0, type, headBytes, 0);
    return bytes.slice(0, PEER_HEADER_BYTES + headBytes);
  };
  const made = MESSAGES.map((message): [string, Uint8Array] => [
    message.type,
    frame(PeerFrameType[message.type], (into, at) => encodeMessage(message, WALL_MS, into, at)),
  ]);
  return new Map([...made, ['snapshotSlice', frame(PeerFrameType.snapshotSlice, (into, at) => encodeSnapshotSlice(SLICE, into, at))]]);
}

describe('golden files', () => {
  test.each(PINNED_LEVELS)('F38 frames between replicas of feature level %i are written and read as ever', (level) => {
    const pinned = golden(`peer-frames-${level}`, frames());
    const seen: unknown[] = [];
    const parser = new PeerFrameParser({
      allocate: () => expect.fail('no payload here'),
      frame: (type, head) => {
        if (type === PeerFrameType.snapshotSlice) seen.push(decodeSnapshotSlice(head));
        else {
          seen.push(decodeMessage(type, head, 2, 1));
          expect(messageWallMs(head)).toBe(WALL_MS);
        }
      },
    });
    parser.setKey(KEY);
    for (const bytes of pinned.values()) parser.push(bytes);
    expect(seen).toEqual([...MESSAGES, SLICE]);
  });

  test('F38 the handshake of a replica that announces no feature level is that of the first release', () => {
    golden('peer-handshake-1', handshake());
  });

  test('F38 a replica that announces its feature level is understood by one that knows of none, and the other way', () => {
    const pinned = handshake();
    const levels = handshake({ maxFeatureLevel: 2, featureLevel: 1 });
    expect(Buffer.compare(levels.get('dialer hello') as Uint8Array, pinned.get('dialer hello') as Uint8Array)).not.toBe(0);
  });
});
