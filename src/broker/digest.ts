/**
 * Running 32-bit digest of the state's history (I6): each effect of an entry is mixed in, in order. Two replicas that
 * decided one batch or command differently differ from then on. Not a checksum against damage: the log has those.
 */
export class Digest {
  /** Of the state before the first entry, on every replica. */
  static readonly INITIAL = 0x1ed6e4;
  value = Digest.INITIAL;

  /** A number below 2^53: both halves count. */
  mix(number: number): void {
    const low = Math.imul(this.value ^ (number >>> 0), 0x85ebca6b);
    const turned = (low << 13) | (low >>> 19);
    const high = Math.imul(turned ^ Math.floor(number / 0x1_0000_0000), 0xc2b2ae35);
    this.value = (high ^ (high >>> 16)) >>> 0;
  }
}

/** Minutes of log time: long against the time between two scrapes, so that replicas are mostly seen at the same one. */
const CHECKPOINT_MS = 60_000;

/**
 * The digest before the first entry of each minute of log time. A running digest can be compared only at the same index, where
 * replicas that are looked at one after the other never are while something is written; this one stands still for a minute.
 */
export class DigestCheckpoint {
  /** Null: none has come since this process started, or the state was replaced. */
  last: { readonly index: number; readonly digest: number } | null = null;

  /** Before the entry after `index` is applied. @param beforeMs log time of the last one @param logTimeMs of that entry */
  entering(index: number, digest: number, beforeMs: number, logTimeMs: number): void {
    if (Math.floor(beforeMs / CHECKPOINT_MS) !== Math.floor(logTimeMs / CHECKPOINT_MS)) this.last = { index, digest };
  }
}
