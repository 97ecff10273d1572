import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Random } from '../../src/io/random.ts';
import {
  MAX_PEER_HEAD_BYTES,
  PEER_HEADER_BYTES,
  PeerFrameError,
  PeerFrameParser,
  PeerFrameType,
  PeerFrameWriter,
} from '../../src/protocol/peer-frame.ts';
import { PeerChannel, type PeerChannelOptions, type PeerHello } from '../../src/protocol/peer-frame-handshake.ts';

interface Frame {
  readonly type: PeerFrameType;
  readonly head: Uint8Array;
  readonly payload: Uint8Array;
}
const KEY = Uint8Array.of(1, 2, 3);
const frames = fc.array(
  fc.record({
    type: fc.constantFrom(PeerFrameType.appendRequest, PeerFrameType.control, PeerFrameType.snapshotSlice),
    head: fc.uint8Array({ maxLength: 80 }),
    payload: fc.uint8Array({ maxLength: 300 }),
  }),
  { minLength: 1, maxLength: 6 },
);

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function encode(list: readonly Frame[]): Uint8Array {
  const writer = new PeerFrameWriter();
  writer.setKey(KEY);
  return concat(list.flatMap(({ type, head, payload }) => [writer.encodeFrame(type, head, payload.length), payload]));
}

function parse(bytes: Uint8Array, cuts: readonly number[] = []): { frames: Frame[]; error: unknown; allocated: number } {
  const seen: Frame[] = [];
  let allocated = 0;
  const parser = new PeerFrameParser({
    allocate: (_type, _head, sizeBytes) => {
      allocated += sizeBytes;
      return new Uint8Array(sizeBytes);
    },
    frame: (type, head, payload) => seen.push({ type, head: Uint8Array.from(head), payload }),
  });
  parser.setKey(KEY);
  const points = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let error: unknown = null;
  try {
    let from = 0;
    for (const to of [...points, bytes.length]) {
      parser.push(bytes.subarray(from, to));
      from = to;
    }
  } catch (caught) {
    error = caught;
  }
  return { frames: seen, error, allocated };
}

describe('peer frame', () => {
  test('frames come back whole, however the stream is cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(2_000), { maxLength: 30 }), (list, cuts) => {
        const result = parse(encode(list), cuts);
        expect(result.error).toBeNull();
        expect(result.frames).toEqual(list);
      }),
    );
  });

  test('any flipped bit outside a payload is a PeerFrameError, and nothing of that frame is delivered or allocated', () => {
    fc.assert(
      fc.property(frames, fc.nat(), fc.nat(5), fc.integer({ min: 0, max: 7 }), (list, seed, which, bit) => {
        const index = which % list.length;
        const target = list[index] as Frame;
        const at = encode(list.slice(0, index)).length + (seed % (PEER_HEADER_BYTES + target.head.length));
        const bytes = encode(list);
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        const result = parse(bytes);
        expect(result.error).toBeInstanceOf(PeerFrameError);
        expect(result.frames).toEqual(list.slice(0, index));
        expect(result.allocated).toBe(list.slice(0, index).reduce((sum, frame) => sum + frame.payload.length, 0));
      }),
    );
  });

  test('any bytes give frames or a PeerFrameError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const { error } = parse(bytes);
        expect(error === null || error instanceof PeerFrameError).toBe(true);
      }),
    );
  });

  test('the MAC is HMAC-SHA-256 over bytes 0…19 and the head', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ maxLength: 200 }), (key, head) => {
        const writer = new PeerFrameWriter();
        writer.setKey(key);
        const frame = writer.encodeFrame(PeerFrameType.control, head, 7);
        const expected = createHmac('sha256', key).update(frame.subarray(0, 20)).update(head).digest().subarray(0, 8);
        expect([...frame.subarray(20, PEER_HEADER_BYTES)]).toEqual([...expected]);
      }),
    );
  });

  test('dropped, repeated and swapped frames are refused', () => {
    const one = (n: number): Frame => ({ type: PeerFrameType.control, head: Uint8Array.of(n), payload: new Uint8Array(0) });
    const whole = encode([one(1), one(2), one(3)]);
    const size = whole.length / 3;
    const piece = (i: number): Uint8Array => whole.subarray(i * size, (i + 1) * size);
    for (const order of [[1], [0, 0], [0, 2], [1, 0]]) {
      expect(parse(concat(order.map(piece))).error).toMatchObject({ code: 'badSequence' });
    }
  });

  test('a frame under another key is refused', () => {
    const writer = new PeerFrameWriter();
    expect(parse(writer.encodeFrame(PeerFrameType.control, Uint8Array.of(1))).error).toMatchObject({ code: 'badMac' });
  });

  test('nothing is delivered after the end, and after an error nothing more is read', () => {
    let count = 0;
    const parser: PeerFrameParser = new PeerFrameParser({
      allocate: (_type, _head, sizeBytes) => new Uint8Array(sizeBytes),
      frame: () => {
        count += 1;
        parser.end();
      },
    });
    parser.setKey(KEY);
    const one: Frame = { type: PeerFrameType.control, head: Uint8Array.of(1), payload: new Uint8Array(0) };
    parser.push(encode([one, one]));
    expect(count).toBe(1);
  });

  test('heads beyond the bound are a fault of this program', () => {
    expect(() => new PeerFrameWriter().encodeFrame(PeerFrameType.control, new Uint8Array(MAX_PEER_HEAD_BYTES + 1))).toThrow(/too large/);
  });
});

class CountingRandom implements Random {
  #next: number;
  constructor(seed: number) {
    this.#next = seed;
  }
  u32(): number {
    return this.#next++;
  }
  unit(): number {
    return 0.5;
  }
  fill(bytes: Uint8Array): void {
    bytes.fill(this.#next++);
  }
}

interface Side {
  readonly channel: PeerChannel;
  readonly outbox: Uint8Array[];
  readonly frames: Frame[];
  peer: PeerHello | null;
}

function side(role: 'dialer' | 'acceptor', own: Partial<PeerHello> = {}, secret = 'secret', seed = role === 'dialer' ? 1 : 100): Side {
  const outbox: Uint8Array[] = [];
  const seen: Frame[] = [];
  const options: PeerChannelOptions = {
    role,
    own: {
      clusterId: 'x',
      brokerName: 'a',
      replicaId: role === 'dialer' ? 1 : 2,
      incarnation: `incarnation of ${role}`,
      formedWith: null,
      ...own,
    },
    secret,
    random: new CountingRandom(seed),
    send: (bytes) => outbox.push(bytes),
    ready: (peer) => {
      result.peer = peer;
    },
    allocate: (_type, _head, sizeBytes) => new Uint8Array(sizeBytes),
    frame: (type, head, payload) => seen.push({ type, head: Uint8Array.from(head), payload }),
  };
  const result: Side = { channel: new PeerChannel(options), outbox, frames: seen, peer: null };
  return result;
}

/** Carries bytes both ways until nobody says anything. */
function converse(dialer: Side, acceptor: Side): void {
  dialer.channel.open();
  acceptor.channel.open();
  while (dialer.outbox.length + acceptor.outbox.length > 0) {
    for (const bytes of dialer.outbox.splice(0)) acceptor.channel.receive(bytes);
    for (const bytes of acceptor.outbox.splice(0)) dialer.channel.receive(bytes);
  }
}

describe('peer handshake', () => {
  test('both sides learn who the other is, then frames flow both ways', () => {
    const formedWith = { '1': 'x', '2': 'y', '3': 'z' };
    const dialer = side('dialer', { formedWith });
    const acceptor = side('acceptor');
    converse(dialer, acceptor);
    expect(acceptor.peer).toEqual({ clusterId: 'x', brokerName: 'a', replicaId: 1, incarnation: 'incarnation of dialer', formedWith });
    expect(dialer.peer).toMatchObject({ replicaId: 2, formedWith: null });
    acceptor.channel.receive(dialer.channel.writer.encodeFrame(PeerFrameType.timeoutNow, Uint8Array.of(5)));
    dialer.channel.receive(acceptor.channel.writer.encodeFrame(PeerFrameType.timeoutNow, Uint8Array.of(6)));
    expect(acceptor.frames).toMatchObject([{ head: Uint8Array.of(5) }]);
    expect(dialer.frames).toMatchObject([{ head: Uint8Array.of(6) }]);
  });

  test.each([
    ['cluster', { clusterId: 'y' }],
    ['broker group', { brokerName: 'b' }],
    ['replica id, this one’s', { replicaId: 2 }],
  ])('another %s is refused', (_, own) => {
    const acceptor = side('acceptor');
    expect(() => converse(side('dialer', own), acceptor)).toThrow(PeerFrameError);
    expect(acceptor.peer).toBeNull();
  });

  test('another secret is refused by the dialer before it has proven anything', () => {
    const dialer = side('dialer', {}, 'wrong');
    const acceptor = side('acceptor');
    expect(() => converse(dialer, acceptor)).toThrow(/peer secret/);
    expect([dialer.peer, acceptor.peer]).toEqual([null, null]);
  });

  test('a recorded dialer cannot be replayed: the acceptor’s nonce is fresh', () => {
    const dialer = side('dialer');
    const acceptor = side('acceptor');
    const recorded: Uint8Array[] = [];
    dialer.channel.open();
    while (dialer.outbox.length + acceptor.outbox.length > 0) {
      for (const bytes of dialer.outbox.splice(0)) {
        recorded.push(bytes);
        acceptor.channel.receive(bytes);
      }
      for (const bytes of acceptor.outbox.splice(0)) dialer.channel.receive(bytes);
    }
    const again = side('acceptor', {}, 'secret', 200);
    expect(() => {
      for (const bytes of recorded) again.channel.receive(bytes);
    }).toThrow(/peer secret/);
    expect(again.peer).toBeNull();
  });

  test('frames before the handshake has ended are refused', () => {
    const acceptor = side('acceptor');
    const writer = new PeerFrameWriter();
    expect(() => acceptor.channel.receive(writer.encodeFrame(PeerFrameType.voteRequest, new Uint8Array(40)))).toThrow(/out of turn/);
  });

  test('any flipped bit in the handshake ends it on one side', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(2), fc.integer({ min: 0, max: 7 }), (at, which, bit) => {
        const dialer = side('dialer');
        const acceptor = side('acceptor');
        let count = 0;
        const damage = (bytes: Uint8Array): Uint8Array => {
          if (count++ === which) bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ (1 << bit);
          return bytes;
        };
        const run = (): void => {
          dialer.channel.open();
          while (dialer.outbox.length + acceptor.outbox.length > 0) {
            for (const bytes of dialer.outbox.splice(0)) acceptor.channel.receive(damage(bytes));
            for (const bytes of acceptor.outbox.splice(0)) dialer.channel.receive(damage(bytes));
          }
        };
        expect(run).toThrow(PeerFrameError);
      }),
    );
  });
});
