import { crc32 } from '../base/crc.ts';

/** Buckets by the highest bits of a fingerprint; the sums of all fit into one datagram. */
export const BUCKETS = 64;
const TWO_32 = 0x1_0000_0000;
const TWO_48 = 2 ** 48;
const BUCKET_SPAN = TWO_48 / BUCKETS;

/** What stands for one row: `id` (48 bits) for its key, `hash` (32 bits) for its content. */
export interface Fingerprint {
  readonly id: number;
  readonly hash: number;
}

/** All ids in [from, to), and what is known of them. */
export interface FingerprintRange {
  readonly from: number;
  readonly to: number;
  readonly entries: readonly Fingerprint[];
}

export interface BucketSums {
  /** BUCKETS each. */
  readonly a: Uint32Array;
  readonly b: Uint32Array;
}

/**
 * Makes equal tables cheap to recognise: each bucket has the exclusive-or of its rows' hashes, so one datagram says which
 * buckets differ, and only their rows are listed. 30,000 rows are 470 a bucket, four datagrams.
 */
export class Fingerprints {
  readonly sums: BucketSums = { a: new Uint32Array(BUCKETS), b: new Uint32Array(BUCKETS) };
  readonly #ids = new Map<string, number>();
  readonly #buckets: Map<number, { readonly key: string; hash: number }>[] = Array.from({ length: BUCKETS }, () => new Map());

  get size(): number {
    return this.#ids.size;
  }

  /** @param variant what else of the row is compared besides its bytes */
  set(key: string, bytes: Uint8Array, variant: number): void {
    const id = this.#ids.get(key) ?? idOf(key);
    this.#ids.set(key, id);
    const hash = mix(crc32(bytes) ^ variant);
    const bucket = this.#buckets[bucketOf(id)] as Map<number, { readonly key: string; hash: number }>;
    const row = bucket.get(id);
    if (row === undefined) bucket.set(id, { key, hash });
    else {
      this.#toggle(id, row.hash);
      row.hash = hash;
    }
    this.#toggle(id, hash);
  }

  delete(key: string): void {
    const id = this.#ids.get(key);
    if (id === undefined) return;
    this.#ids.delete(key);
    const bucket = this.#buckets[bucketOf(id)];
    const row = bucket?.get(id);
    // Two keys of one id (once in 300,000 tables of 30,000 rows): the later one took its place.
    if (row === undefined || row.key !== key) return;
    this.#toggle(id, row.hash);
    bucket?.delete(id);
  }

  keyOf(id: number): string | null {
    return this.#buckets[bucketOf(id)]?.get(id)?.key ?? null;
  }

  hashOf(id: number): number | null {
    return this.#buckets[bucketOf(id)]?.get(id)?.hash ?? null;
  }

  differing(sums: BucketSums): number[] {
    const found: number[] = [];
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (sums.a[bucket] !== this.sums.a[bucket] || sums.b[bucket] !== this.sums.b[bucket]) found.push(bucket);
    }
    return found;
  }

  /** A bucket's rows in ranges of at most `maxEntries`, which cover it without a gap. */
  *ranges(bucket: number, maxEntries: number): IterableIterator<FingerprintRange> {
    const rows = [...(this.#buckets[bucket] ?? [])].map(([id, { hash }]) => ({ id, hash })).sort((x, y) => x.id - y.id);
    let from = bucket * BUCKET_SPAN;
    const end = from + BUCKET_SPAN;
    for (let at = 0; at === 0 || at < rows.length; at += maxEntries) {
      const to = rows[at + maxEntries]?.id ?? end;
      yield { from, to, entries: rows.slice(at, at + maxEntries) };
      from = to;
    }
  }

  /** Ids in [from, to). */
  *within(from: number, to: number): IterableIterator<number> {
    for (let bucket = bucketOf(from); bucket < BUCKETS && bucket * BUCKET_SPAN < to; bucket++) {
      for (const id of this.#buckets[bucket]?.keys() ?? []) if (id >= from && id < to) yield id;
    }
  }

  /** Hashes are mixed with the id first: two rows that changed alike would cancel each other out of a linear sum. */
  #toggle(id: number, hash: number): void {
    const bucket = bucketOf(id);
    const low = id >>> 0;
    const { a, b } = this.sums;
    a[bucket] = (a[bucket] as number) ^ mix(hash ^ low);
    b[bucket] = (b[bucket] as number) ^ mix(hash + Math.imul(low, 0x9e3779b1));
  }
}

function bucketOf(id: number): number {
  return Math.min(BUCKETS - 1, Math.floor(id / BUCKET_SPAN));
}

function idOf(key: string): number {
  const bytes = Buffer.from(key);
  const low = crc32(bytes);
  return mix(low) + (mix(crc32(bytes, 0x5bd1e995)) % 0x1_0000) * TWO_32;
}

/** The finalizer of MurmurHash3 (public domain): each bit of the input reaches each of the output. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
