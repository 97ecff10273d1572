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
