/** Values of a power of two are divided into this many buckets: an error of at most 1/1024. */
const SUB_BUCKETS = 1024;
const SUB_BITS = 10;
/** Up to 2^33 µs, more than two hours; longer ones count as that. */
const MAX_BITS = 33;
const BUCKETS = SUB_BUCKETS * (MAX_BITS - SUB_BITS + 1);

/** Latencies in microseconds in buckets that are fixed from the start: recording allocates nothing. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  count = 0;
  maxUs = 0;

  record(us: number): void {
    const value = us < 0 ? 0 : Math.round(us);
    const at = bucketOf(value);
    this.#counts[at] = (this.#counts[at] as number) + 1;
    this.count++;
    if (value > this.maxUs) this.maxUs = value;
  }

  /** @param quantile 0…1. @returns the upper end of the bucket that holds it, in µs; 0 when nothing was recorded */
  quantileUs(quantile: number): number {
    const rank = Math.max(1, Math.ceil(quantile * this.count));
    let seen = 0;
    for (let at = 0; at < BUCKETS; at++) {
      seen += this.#counts[at] as number;
      if (seen >= rank && this.count > 0) return Math.min(upperEndOf(at), this.maxUs);
    }
    return 0;
  }
}

function bucketOf(value: number): number {
  if (value < SUB_BUCKETS) return value;
  const bits = Math.min(MAX_BITS, 1 + Math.floor(Math.log2(value)));
  const shift = bits - SUB_BITS;
  // The upper half of the sub-buckets of this power of two; the lower half belongs to the powers before it.
  const sub = Math.min(2 * SUB_BUCKETS - 1, Math.floor(value / 2 ** shift)) - SUB_BUCKETS / 2;
  return Math.min(BUCKETS - 1, SUB_BUCKETS + (shift - 1) * (SUB_BUCKETS / 2) + sub);
}

function upperEndOf(at: number): number {
  if (at < SUB_BUCKETS) return at;
  const shift = 1 + Math.floor((at - SUB_BUCKETS) / (SUB_BUCKETS / 2));
  const sub = ((at - SUB_BUCKETS) % (SUB_BUCKETS / 2)) + SUB_BUCKETS / 2;
  return (sub + 1) * 2 ** shift - 1;
}
