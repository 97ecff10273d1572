import { readU16, readU32 } from '../../src/base/bytes.ts';
import { PEER_HEADER_BYTES, type PeerFrameType } from '../../src/protocol/peer-frame.ts';
import type { Message } from '../../src/raft/types.ts';
import { decodeMessage, isRaftMessage } from '../../src/replica/peer-messages.ts';

const TYPE_AT = 1;
const HEAD_BYTES_AT = 2;
const PAYLOAD_BYTES_AT = 4;

/** Frames in one direction of one link, as they are written. */
class Direction {
  #pending: Uint8Array = new Uint8Array(0);
  #skip = 0;

  take(chunk: Uint8Array, visit: (type: number, head: Uint8Array) => void): void {
    const skipped = Math.min(this.#skip, chunk.length);
    this.#skip -= skipped;
    if (skipped === chunk.length) return;
    const rest = skipped === 0 ? chunk : chunk.subarray(skipped);
    const bytes = this.#pending.length === 0 ? rest : Buffer.concat([this.#pending, rest]);
    let at = 0;
    while (at + PEER_HEADER_BYTES <= bytes.length) {
      const headBytes = readU16(bytes, at + HEAD_BYTES_AT);
      const headAt = at + PEER_HEADER_BYTES;
      if (headAt + headBytes > bytes.length) break;
      visit(bytes[at + TYPE_AT] as number, bytes.subarray(headAt, headAt + headBytes));
      at = headAt + headBytes + readU32(bytes, at + PAYLOAD_BYTES_AT);
    }
    this.#skip = Math.max(0, at - bytes.length);
    this.#pending = at >= bytes.length ? new Uint8Array(0) : bytes.slice(at);
  }
}

/** Reads the Raft messages that replicas write to each other, at the moment they leave. */
export class PeerObserver {
  readonly #directions = new Map<string, Direction>();
  readonly #visit: (message: Message) => void;

  constructor(visit: (message: Message) => void) {
    this.#visit = visit;
  }

  written(connection: number, from: number, to: number, bytes: Uint8Array): void {
    const name = `${connection} ${from}`;
    let direction = this.#directions.get(name);
    if (direction === undefined) {
      direction = new Direction();
      this.#directions.set(name, direction);
    }
    direction.take(bytes, (type, head) => {
      if (isRaftMessage(type as PeerFrameType)) this.#visit(decodeMessage(type as PeerFrameType, head, from, to));
    });
  }
}
