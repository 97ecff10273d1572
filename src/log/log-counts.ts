import { BucketCounts } from '../metrics/bucket-counts.ts';
import { METRICS } from '../metrics/definitions.ts';

/** What the CommitLog did since it was opened: plain numbers, read by whoever scrapes. */
export class LogCounts {
  writtenBytes = 0;
  writeGroups = 0;
  /** Of the groups taken into the log. */
  paddingBytes = 0;
  /** Runs of groups found in the hot tail, for followers. */
  hotReads = 0;
  /** Runs of groups read from segment files: for followers, for apply, for verification. */
  coldReads = 0;
  coldReadBytes = 0;
  /** Runs whose checksums did not hold. */
  corruptions = 0;
  readonly writeSeconds = new BucketCounts(METRICS.ledgermq_log_write_seconds.buckets);
  readonly writeBytes = new BucketCounts(METRICS.ledgermq_log_write_bytes.buckets);

  wrote(sizeBytes: number, groups: number, ms: number): void {
    this.writtenBytes += sizeBytes;
    this.writeGroups += groups;
    this.writeSeconds.observe(ms / 1000);
    this.writeBytes.observe(sizeBytes);
  }
}
