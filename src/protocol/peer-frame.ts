import { hash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';

/**
 * Frames between the replicas of a group, over TCP: header (28 B), head (the message's fixed fields), payload (bytes of the
 * log or of a snapshot).
 *
 * | at | size | field |
 * | 0 | 1 | magic 0x4c |
 * | 1 | 1 | type (PeerFrameType) |
 * | 2 | 2 | head size |
 * | 4 | 4 | payload size |
 * | 8 | 8 | sequence number of the frame in its direction, from 1 |
 * | 16 | 4 | CRC-32 of bytes 0…15: sizes are believed only then |
 * | 20 | 8 | MAC: first 8 bytes of HMAC-SHA-256, keyed by session and direction, over bytes 0…19 and the head |
 *
 * The MAC covers type, sizes, order (a dropped, repeated or swapped frame fails) and all of the head: every Raft field. It
 * does not cover the payload, whose own checksums find damage but not a forger; against an active attacker on the wire, and
 * for secrecy, links need TLS. Before the handshake has agreed on keys the MAC is made with an empty key: a checksum.
 */
export const PEER_HEADER_BYTES = 28;
const MAGIC = 0x4c;
const MAC_AT = 20;
const MAC_BYTES = 8;
const At = { magic: 0, type: 1, headBytes: 2, payloadBytes: 4, sequence: 8, checksum: 16 } as const;

/** Largest head: hello and control frames; Raft messages need 64. */
export const MAX_PEER_HEAD_BYTES = 8 * 1024;
/** Largest payload: one write group of a single largest entry (4 MiB + headers), or a run of groups, fits. */
export const MAX_PEER_PAYLOAD_BYTES = 16 * 1024 * 1024;

/** On the wire, never reused. 16…31 are Raft's messages. */
export const PeerFrameType = {
  hello: 1,
  proof: 2,
  /** Anything else between two replicas: a msgpack value in the head (encodeControl). */
  control: 3,
  preVoteRequest: 16,
  preVoteResponse: 17,
  voteRequest: 18,
  voteResponse: 19,
  /** Payload: the write groups firstIndex…lastIndex as they are on disk. */
  appendRequest: 20,
  appendResponse: 21,
  heartbeatRequest: 22,
  heartbeatResponse: 23,
  timeoutNow: 24,
  snapshotRequest: 25,
  snapshotResponse: 26,
  /** Payload: a piece of the snapshot that snapshotRequest announced. */
  snapshotSlice: 32,
  /** What replicas ask each other to compare and repair their logs (src/replica/repair-frames.ts). Not to a release of level 1. */
  repairQuestion: 33,
  repairAnswer: 34,
} as const;
export type PeerFrameType = (typeof PeerFrameType)[keyof typeof PeerFrameType];

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(PeerFrameType));

export type PeerFrameErrorCode =
  | 'badMagic'
  | 'badChecksum'
  | 'badType'
  | 'badSize'
  | 'badSequence'
  | 'badMac'
  | 'badHead'
  /** Handshake: another protocol version, cluster, group or key, or a frame out of turn. */
  | 'refused';

/** The bytes are not what a peer of this group sends: the link must be closed. */
export class PeerFrameError extends Error {
  override name = 'PeerFrameError';
  readonly code: PeerFrameErrorCode;
  constructor(code: PeerFrameErrorCode, detail: string) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}

const NO_KEY = new Uint8Array(0);
const NO_BYTES = new Uint8Array(0);

const HASH_BLOCK_BYTES = 64;
const HASH_BYTES = 32;

/**
 * HMAC-SHA-256 (RFC 2104) of one direction's frames, by two one-shot hashes over memory that is kept: createHmac() makes objects
 * that cost several times the hashing of a hundred bytes.
 */
class FrameMac {
  readonly #inner = new Uint8Array(HASH_BLOCK_BYTES + MAC_AT + MAX_PEER_HEAD_BYTES);
  readonly #outer = new Uint8Array(HASH_BLOCK_BYTES + HASH_BYTES);

  constructor(key: Uint8Array) {
    assert(key.length <= HASH_BLOCK_BYTES, 'MAC key longer than a block');
    for (let i = 0; i < HASH_BLOCK_BYTES; i++) {
      this.#inner[i] = (key[i] ?? 0) ^ 0x36;
      this.#outer[i] = (key[i] ?? 0) ^ 0x5c;
    }
  }

  /** Over header bytes 0…MAC_AT − 1 at `headerAt`, then headBytes bytes at `headAt` of `head`. */
  of(header: Uint8Array, headerAt: number, head: Uint8Array, headAt: number, headBytes: number): Uint8Array {
    const inner = this.#inner;
    for (let i = 0; i < MAC_AT; i++) inner[HASH_BLOCK_BYTES + i] = header[headerAt + i] as number;
    const end = HASH_BLOCK_BYTES + MAC_AT;
    for (let i = 0; i < headBytes; i++) inner[end + i] = head[headAt + i] as number;
    this.#outer.set(hash('sha256', inner.subarray(0, end + headBytes), 'buffer'), HASH_BLOCK_BYTES);
    return hash('sha256', this.#outer, 'buffer');
  }
}

/** Writes the headers of one direction of one link. */
export class PeerFrameWriter {
  #mac = new FrameMac(NO_KEY);
  #sequence = 0;

  /** From the next frame on. */
  setKey(key: Uint8Array): void {
    this.#mac = new FrameMac(key);
  }

  /**
   * Writes the header at into[at…at + PEER_HEADER_BYTES); the head must already lie right behind it. The frames of a link
   * must be sent in the order of these calls, each followed by its `payloadBytes` of payload.
   */
  encodeFrameHeader(into: Uint8Array, at: number, type: PeerFrameType, headBytes: number, payloadBytes: number): void {
    assert(
      headBytes <= MAX_PEER_HEAD_BYTES && payloadBytes <= MAX_PEER_PAYLOAD_BYTES,
      `peer frame too large: ${headBytes}, ${payloadBytes}`,
    );
    this.#sequence += 1;
    into[at + At.magic] = MAGIC;
    into[at + At.type] = type;
    writeU16(into, at + At.headBytes, headBytes);
    writeU32(into, at + At.payloadBytes, payloadBytes);
    writeU53(into, at + At.sequence, this.#sequence);
    writeU32(into, at + At.checksum, shortCrc32(into, at, at + At.checksum));
    const headAt = at + PEER_HEADER_BYTES;
    const mac = this.#mac.of(into, at, into, headAt, headBytes);
    for (let i = 0; i < MAC_BYTES; i++) into[at + MAC_AT + i] = mac[i] as number;
  }

  /** A frame with a copy of `head`; the caller sends `payloadBytes` bytes behind it. */
  encodeFrame(type: PeerFrameType, head: Uint8Array, payloadBytes = 0): Uint8Array {
    const frame = new Uint8Array(PEER_HEADER_BYTES + head.length);
    frame.set(head, PEER_HEADER_BYTES);
    this.encodeFrameHeader(frame, 0, type, head.length, payloadBytes);
    return frame;
  }
}

export interface PeerFrameSink {
  /**
   * Memory for a payload of `sizeBytes` (> 0): exactly that long. Called after header and head were verified, so what is
   * allocated is what an authenticated peer announced. `head` is valid during the call only.
   */
  allocate(type: PeerFrameType, head: Uint8Array, sizeBytes: number): Uint8Array;
  /** A whole frame. `head` is valid during the call only; `payload` is what allocate() gave, or empty. */
  frame(type: PeerFrameType, head: Uint8Array, payload: Uint8Array): void;
}

/** Makes frames of a byte stream, however it is cut. Payload bytes are copied once, into the sink's memory. */
export class PeerFrameParser {
  readonly #sink: PeerFrameSink;
  #mac = new FrameMac(NO_KEY);
  #sequence = 0;
  readonly #header = new Uint8Array(PEER_HEADER_BYTES);
  readonly #headMemory = new Uint8Array(MAX_PEER_HEAD_BYTES);
  #head: Uint8Array = NO_BYTES;
  #payload: Uint8Array = NO_BYTES;
  #stage: 'header' | 'head' | 'payload' | 'ended' = 'header';
  /** Bytes of the current stage that have arrived. */
  #filled = 0;

  constructor(sink: PeerFrameSink) {
    this.#sink = sink;
  }

  /** From the next frame on. */
  setKey(key: Uint8Array): void {
    this.#mac = new FrameMac(key);
  }

  /** Nothing is delivered any more, the rest of the current chunk included: the link is closing. */
  end(): void {
    this.#stage = 'ended';
  }

  /** @throws PeerFrameError once; the parser has ended then */
  push(chunk: Uint8Array): void {
    try {
      let at = 0;
      while (at < chunk.length && this.#stage !== 'ended') at = this.#take(chunk, at);
    } catch (error) {
      this.#stage = 'ended';
      throw error;
    }
  }

  #take(chunk: Uint8Array, from: number): number {
    const into = this.#stage === 'header' ? this.#header : this.#stage === 'head' ? this.#head : this.#payload;
    const count = Math.min(into.length - this.#filled, chunk.length - from);
    if (count < 64) {
      for (let i = 0; i < count; i++) into[this.#filled + i] = chunk[from + i] as number;
    } else {
      into.set(chunk.subarray(from, from + count), this.#filled);
    }
    this.#filled += count;
    if (this.#filled === into.length) this.#advance();
    return from + count;
  }

  #advance(): void {
    this.#filled = 0;
    if (this.#stage === 'header') {
      this.#readHeader();
      this.#stage = 'head';
      if (this.#head.length > 0) return;
    }
    const type = this.#header[At.type] as PeerFrameType;
    if (this.#stage === 'head') {
      this.#verifyMac();
      const payloadBytes = readU32(this.#header, At.payloadBytes);
      this.#payload = payloadBytes === 0 ? NO_BYTES : this.#sink.allocate(type, this.#head, payloadBytes);
      assert(this.#payload.length === payloadBytes, 'allocate() gave memory of another size');
      this.#stage = 'payload';
      if (payloadBytes > 0) return;
    }
    const payload = this.#payload;
    this.#payload = NO_BYTES;
    this.#stage = 'header';
    this.#sink.frame(type, this.#head, payload);
  }

  #readHeader(): void {
    const header = this.#header;
    if (header[At.magic] !== MAGIC) throw new PeerFrameError('badMagic', 'not a peer frame');
    if (shortCrc32(header, 0, At.checksum) !== readU32(header, At.checksum)) throw new PeerFrameError('badChecksum', 'frame header');
    if (!KNOWN_TYPES.has(header[At.type] as number)) throw new PeerFrameError('badType', `type ${header[At.type]}`);
    const headBytes = readU16(header, At.headBytes);
    const payloadBytes = readU32(header, At.payloadBytes);
    if (headBytes > MAX_PEER_HEAD_BYTES || payloadBytes > MAX_PEER_PAYLOAD_BYTES) {
      throw new PeerFrameError('badSize', `head ${headBytes}, payload ${payloadBytes}`);
    }
    if (readU53(header, At.sequence) !== this.#sequence + 1) throw new PeerFrameError('badSequence', `expected ${this.#sequence + 1}`);
    this.#sequence += 1;
    this.#head = this.#headMemory.subarray(0, headBytes);
  }

  #verifyMac(): void {
    const mac = this.#mac.of(this.#header, 0, this.#head, 0, this.#head.length);
    // All bytes are compared whatever differs: the time says nothing about the right MAC.
    let difference = 0;
    for (let i = 0; i < MAC_BYTES; i++) difference |= (mac[i] as number) ^ (this.#header[MAC_AT + i] as number);
    if (difference !== 0) throw new PeerFrameError('badMac', `frame ${this.#sequence}`);
  }
}
