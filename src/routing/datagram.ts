import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { crc32 } from '../base/crc.ts';
import { MAX_DATAGRAM_BYTES } from '../io/net.ts';
import { ByteReader, ByteWriter } from './byte-cursor.ts';
import type { BrokerKey } from './records.ts';

/**
 * A datagram: header, body by type, items, MAC.
 *
 * | at | size | field |
 * | 0 | 1 | magic 0x4c |
 * | 1 | 1 | version (1): of header and MAC; unknown types and items are skipped |
 * | 2 | 1 | type |
 * | 3 | 1 | zero |
 * | 4 | 4 | CRC-32 of the cluster id |
 * | 8 | 4 | sequence: +1 for each datagram of this boot |
 * | 12 | 8 | boot generation |
 * | 20 | 8 | version of the sender's own record |
 * | 28 | 2 | sender's replica id, then its brokerName (length u16, bytes) |
 * | … | | body, then items: kind u8, length u16, bytes |
 * | end − 16 | 16 | HMAC-SHA-256 over all before, cut to 128 bits |
 *
 * The key is made from the peer secret and the cluster's id. A datagram that is sent again by a stranger does nothing: records
 * carry versions, and a sender's address is learned from a higher (generation, sequence) only.
 */
const MAGIC = 0x4c;
const VERSION = 1;
const MAC_BYTES = 16;
const ITEM_HEADER_BYTES = 3;
const MAX_NAME_BYTES = 255;

export const DatagramType = { ping: 1, ack: 2, pingRequest: 3, gossip: 4, summary: 5, digest: 6, want: 7, equal: 8, rows: 9 } as const;

export interface DatagramSender extends BrokerKey {
  readonly generation: number;
  readonly version: number;
}

/** A datagram that was opened; `body` stands at the first byte behind the header. */
export interface Opened {
  readonly type: number;
  readonly sender: DatagramSender;
  readonly sequence: number;
  readonly body: ByteReader;
}

/** Why a datagram was not taken: of another cluster or version, a wrong MAC, or bytes that are not what they claim. */
export type Refusal = 'foreign' | 'mac' | 'malformed';

export class DatagramCodec {
  readonly #key: KeyObject;
  readonly #clusterHash: number;
  readonly #writer = new ByteWriter(MAX_DATAGRAM_BYTES);
  #sequence = 0;

  constructor(clusterId: string, secret: string) {
    // Made once: given as bytes it would be made anew for each datagram, at five times the price of the hash.
    this.#key = createSecretKey(createHmac('sha256', secret).update(`ledgermq gossip\0${clusterId}`).digest());
    this.#clusterHash = crc32(Buffer.from(clusterId));
  }

  /** Begins a datagram; the one before must be sent by now. */
  begin(type: number, sender: DatagramSender): ByteWriter {
    const to = this.#writer;
    to.at = 0;
    to.u8(MAGIC);
    to.u8(VERSION);
    to.u8(type);
    to.u8(0);
    to.u32(this.#clusterHash);
    to.u32(this.#sequence++);
    to.u53(sender.generation);
    to.u53(sender.version);
    to.u16(sender.replicaId);
    to.text(sender.brokerName);
    return to;
  }

  /** Bytes that an item may still have. */
  room(to: ByteWriter): number {
    return MAX_DATAGRAM_BYTES - MAC_BYTES - ITEM_HEADER_BYTES - to.at;
  }

  item(to: ByteWriter, kind: number, bytes: Uint8Array): void {
    to.u8(kind);
    to.u16(bytes.length);
    to.bytes(bytes);
  }

  /** @returns a view that is valid until the next begin() */
  seal(to: ByteWriter): Uint8Array {
    const mac = createHmac('sha256', this.#key).update(to.written).digest();
    to.bytes(mac.subarray(0, MAC_BYTES));
    return to.written;
  }

  /** Nothing of a datagram is believed before its MAC was found right. */
  open(bytes: Uint8Array): Opened | Refusal {
    const end = bytes.length - MAC_BYTES;
    if (end < 0 || bytes[0] !== MAGIC || bytes[1] !== VERSION) return 'foreign';
    try {
      const body = new ByteReader(bytes, 2, end);
      const type = body.u8();
      body.u8();
      if (body.u32() !== this.#clusterHash) return 'foreign';
      const mac = createHmac('sha256', this.#key).update(bytes.subarray(0, end)).digest();
      if (!timingSafeEqual(mac.subarray(0, MAC_BYTES), bytes.subarray(end))) return 'mac';
      const sequence = body.u32();
      const generation = body.u53();
      const version = body.u53();
      const replicaId = body.u16();
      return { type, sequence, sender: { brokerName: body.text(MAX_NAME_BYTES), replicaId, generation, version }, body };
    } catch {
      return 'malformed';
    }
  }
}
