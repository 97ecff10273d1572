/**
 * Java's String.hashCode over UTF-16 units, as RocketMQ stores it for TAGS: h = 31·h + unit, 32 bits, wrapping.
 * @returns unsigned 32 bits (`| 0` gives Java's int); 0 for the empty string, which means "no tag"
 */
export function tagHash(tag: string): number {
  let hash = 0;
  for (let i = 0; i < tag.length; i++) hash = (Math.imul(31, hash) + tag.charCodeAt(i)) | 0;
  return hash >>> 0;
}

/** The two bits of a tag hash in a 32-bit bloom. The multiplication spreads hashes that differ in the last letter only. */
export function tagBloomBits(hash: number): number {
  const mixed = Math.imul(hash, 0x9e3779b1);
  return ((1 << (mixed >>> 27)) | (1 << ((mixed >>> 22) & 31))) >>> 0;
}

/**
 * May a batch with this bloom hold a message with one of the wanted tags? False is certain, true is not.
 * An empty list wants everything. A wanted hash of 0 (a tag whose hash is 0) cannot be told from "no tag" and matches all.
 */
export function tagBloomMatches(bloom: number, wanted: readonly number[]): boolean {
  if (wanted.length === 0) return true;
  for (let i = 0; i < wanted.length; i++) {
    const hash = wanted[i] as number;
    if (hash === 0) return true;
    const bits = tagBloomBits(hash);
    if ((bloom & bits) >>> 0 === bits) return true;
  }
  return false;
}
