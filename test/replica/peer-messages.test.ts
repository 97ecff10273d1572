import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PeerFrameError, PeerFrameType } from '../../src/protocol/peer-frame.ts';
import type { Message } from '../../src/raft/types.ts';
import {
  decodeMessage,
  decodeSnapshotSlice,
  encodeMessage,
  encodeSnapshotSlice,
  isRaftMessage,
  MAX_MESSAGE_HEAD_BYTES,
  messageWallMs,
  SNAPSHOT_SLICE_HEAD_BYTES,
} from '../../src/replica/peer-messages.ts';

const n = fc.maxSafeNat();
const base = { from: fc.constant(1), to: fc.constant(2), term: n };
const granted = fc.boolean();
const messages: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ ...base, type: fc.constant('preVoteRequest' as const), lastIndex: n, lastTerm: n }),
  fc.record({ ...base, type: fc.constant('preVoteResponse' as const), granted }),
  fc.record({ ...base, type: fc.constant('voteRequest' as const), lastIndex: n, lastTerm: n, transfer: fc.boolean() }),
  fc.record({ ...base, type: fc.constant('voteResponse' as const), granted }),
  fc.record({
    ...base,
    type: fc.constant('appendRequest' as const),
    prevIndex: n,
    prevTerm: n,
    firstIndex: n,
    lastIndex: n,
    commitIndex: n,
    groups: fc.constant([]),
  }),
  fc.record({
    ...base,
    type: fc.constant('appendResponse' as const),
    success: fc.boolean(),
    lastIndex: n,
    hintTerm: n,
    rejectedIndex: n,
  }),
  fc.record({ ...base, type: fc.constant('heartbeatRequest' as const), commitIndex: n, readContext: n }),
  fc.record({ ...base, type: fc.constant('heartbeatResponse' as const), readContext: n }),
  fc.record({ ...base, type: fc.constant('timeoutNow' as const) }),
  fc.record({ ...base, type: fc.constant('snapshotRequest' as const), index: n, lastTerm: n }),
  fc.record({ ...base, type: fc.constant('snapshotResponse' as const), index: n, success: fc.boolean() }),
);

describe('peer messages', () => {
  test('every Raft message comes back as it was, with the sender’s clock', () => {
    fc.assert(
      fc.property(messages, n, fc.nat(10), (message, wallMs, at) => {
        const memory = new Uint8Array(at + MAX_MESSAGE_HEAD_BYTES);
        const head = memory.subarray(at, at + encodeMessage(message, wallMs, memory, at));
        const type = PeerFrameType[message.type];
        expect(isRaftMessage(type)).toBe(true);
        expect(decodeMessage(type, head, 1, 2)).toEqual(message);
        expect(messageWallMs(head)).toBe(wallMs);
      }),
    );
  });

  test('any head gives a message or a PeerFrameError', () => {
    const types = fc.constantFrom(...Object.values(PeerFrameType));
    fc.assert(
      fc.property(
        types,
        fc.oneof(
          fc.uint8Array({ maxLength: 80 }),
          fc.constantFrom(16, 24, 32, 40, 48, 56).map((size) => new Uint8Array(size)),
        ),
        (type, head) => {
          for (const run of [() => decodeMessage(type, head, 1, 2), () => decodeSnapshotSlice(head)]) {
            try {
              run();
            } catch (error) {
              expect(error).toBeInstanceOf(PeerFrameError);
            }
          }
        },
      ),
    );
  });

  test('snapshot slices come back as they were', () => {
    fc.assert(
      fc.property(fc.record({ term: n, index: n, lastTerm: n, position: n, offset: n, totalBytes: n, checksum: n }), (slice) => {
        const head = new Uint8Array(SNAPSHOT_SLICE_HEAD_BYTES);
        expect(encodeSnapshotSlice(slice, head, 0)).toBe(head.length);
        expect(decodeSnapshotSlice(head)).toEqual(slice);
      }),
    );
  });
});
