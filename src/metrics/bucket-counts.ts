import { assert } from '../base/assert.ts';

/** A histogram as plain counters: what hot paths hold. observe() allocates nothing. */
export class BucketCounts {
  /** Upper bounds, rising; values above the last one count for the total only. */
  readonly bounds: readonly number[];
  /** Not cumulative; one more than bounds. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    assert(bounds.length > 0, 'a histogram has bounds');
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  /** @param weight how many observations of this value at once */
  observe(value: number, weight = 1): void {
    const { bounds } = this;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] as number)) at++;
    this.counts[at] = (this.counts[at] as number) + weight;
    this.sum += value * weight;
    this.count += weight;
  }
}
