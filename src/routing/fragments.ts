import { crc32 } from '../base/crc.ts';
import type { Item } from './anti-entropy.ts';
import { ByteReader, ByteWriter, MalformedBytes } from './byte-cursor.ts';
import { ItemKind, MAX_RECORD_BYTES } from './record-codec.ts';

/** A larger item goes in pieces, so that any fits behind the header and body of any datagram. */
export const MAX_ITEM_BYTES = 1_000;
const PIECE_BYTES = 960;
const MAX_PIECES = Math.ceil(MAX_RECORD_BYTES / PIECE_BYTES);
/** Records that are partly here; beyond it the oldest is dropped, and comes again. */
const MAX_PARTIAL = 64;

interface Partial {
  readonly pieces: (Uint8Array | undefined)[];
  missing: number;
}

/** @returns the item itself when it is small */
export function piecesOf(item: Item): readonly Item[] {
  const { kind, bytes } = item;
  if (bytes.length <= MAX_ITEM_BYTES) return [item];
  const id = crc32(bytes);
  const count = Math.ceil(bytes.length / PIECE_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const piece = bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
    const to = new ByteWriter(7 + piece.length);
    to.u8(kind);
    to.u32(id);
    to.u8(index);
    to.u8(count);
    to.bytes(piece);
    return { kind: ItemKind.fragment, bytes: to.written };
  });
}

/** Puts pieces together. The checksum of the whole is their name, so pieces of two versions never mix. */
export class Reassembly {
  readonly #partial = new Map<number, Partial>();

  /** @returns the item, once, when the last piece is here. @throws MalformedBytes */
  take(bytes: Uint8Array): Item | null {
    const from = new ByteReader(bytes);
    const kind = from.u8();
    const id = from.u32();
    const index = from.u8();
    const count = from.u8();
    if (count > MAX_PIECES || index >= count || kind === ItemKind.fragment) throw new MalformedBytes(`piece ${index} of ${count}`);
    let partial = this.#partial.get(id);
    if (partial === undefined || partial.pieces.length !== count) {
      if (this.#partial.size >= MAX_PARTIAL) this.#partial.delete(this.#partial.keys().next().value as number);
      partial = { pieces: new Array<Uint8Array | undefined>(count).fill(undefined), missing: count };
      this.#partial.set(id, partial);
    }
    if (partial.pieces[index] !== undefined) return null;
    partial.pieces[index] = Uint8Array.from(from.bytes(from.left));
    if (--partial.missing > 0) return null;
    this.#partial.delete(id);
    const whole = Buffer.concat(partial.pieces as Uint8Array[]);
    if (crc32(whole) !== id) throw new MalformedBytes('pieces that do not fit');
    return { kind, bytes: whole };
  }
}
