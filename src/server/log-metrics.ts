import type { MetricName } from '../metrics/definitions.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import type { BrokerCounters } from './broker-counters.ts';
import type { BindGauge, Sampled } from './sampled.ts';
import type { ServerView } from './server-view.ts';

export function bindLog(registry: MetricsRegistry, gauge: BindGauge, view: ServerView, counters: BrokerCounters, sampled: Sampled): void {
  const log = () => view.recovered?.log;
  const counts = () => view.recovered?.log.counts;
  gauge('ledgermq_log_start_position_bytes', () => log()?.start.position);
  gauge('ledgermq_log_end_position_bytes', () => log()?.endPosition);
  gauge('ledgermq_log_durable_position_bytes', () => log()?.durablePosition);
  gauge('ledgermq_log_segments', () => log()?.segmentCount);
  gauge('ledgermq_log_hot_tail_bytes', () => log()?.hotTailBytes);
  gauge('ledgermq_log_written_bytes_total', () => counts()?.writtenBytes);
  gauge('ledgermq_log_padding_bytes_total', () => counts()?.paddingBytes);
  gauge('ledgermq_log_write_groups_total', () => counts()?.writeGroups);
  // A pull reads through the broker, everybody else through the log: each counts its own.
  const answers = () => view.broker?.gauges;
  gauge('ledgermq_log_hot_reads_total', () => (counts()?.hotReads ?? 0) + (answers()?.hotAnswers ?? 0));
  gauge('ledgermq_log_cold_reads_total', () => (counts()?.coldReads ?? 0) + (answers()?.coldAnswers ?? 0));
  gauge('ledgermq_log_cold_read_bytes_total', () => (counts()?.coldReadBytes ?? 0) + counters.coldBytes);
  gauge('ledgermq_log_corruptions_total', () => (counts()?.corruptions ?? 0) + counters.damagedReads + sampled.damagedFiles);
  const repairs = () => view.repair?.counts;
  gauge('ledgermq_log_damages_total', () => repairs()?.damages);
  gauge('ledgermq_log_damaged', () => repairs()?.damagedNow);
  gauge('ledgermq_log_repairs_total', () => repairs()?.repairs);
  gauge('ledgermq_log_repaired_bytes_total', () => repairs()?.repairedBytes);
  gauge('ledgermq_log_repair_seconds_total', () => (repairs()?.repairMs ?? 0) / 1000);
  gauge('ledgermq_log_scrubbed_bytes_total', () => repairs()?.scrubbedBytes);
  gauge('ledgermq_log_scrub_passes_total', () => repairs()?.scrubPasses);
  gauge('ledgermq_log_compared_slices_total', () => repairs()?.slicesCompared);
  gauge('ledgermq_log_differences_total', () => repairs()?.differences);
  gauge('ledgermq_log_recovery_seconds', () => sampled.recoverySeconds);
  gauge('ledgermq_log_snapshots_total', () => view.recovered?.snapshots.savedCount);
  registry.histogram('ledgermq_log_write_seconds', (emit) => {
    const known = counts();
    if (known !== undefined) emit(known.writeSeconds);
  });
  registry.histogram('ledgermq_log_write_bytes', (emit) => {
    const known = counts();
    if (known !== undefined) emit(known.writeBytes);
  });
  gauge('ledgermq_disk_free_bytes', () => sampled.space?.freeBytes);
  gauge('ledgermq_disk_total_bytes', () => sampled.space?.totalBytes);
  gauge('ledgermq_disk_below_reserve', () => (log() === undefined ? null : Number(log()?.diskFull)));
  gauge('ledgermq_disk_poisoned', () => Number(view.state === 'failed' || (log()?.poisoned ?? null) !== null));
  bindStorage(registry, view);
}

/** RocketMQ's names for the same log. */
function bindStorage(registry: MetricsRegistry, view: ServerView): void {
  const storage = (name: MetricName, read: (log: NonNullable<ServerView['recovered']>['log']) => number): void => {
    registry.source(name, (emit) => {
      if (view.recovered !== null) emit(read(view.recovered.log), 'local', 'disk');
    });
  };
  storage('rocketmq_storage_size', (log) => log.endPosition - log.start.position);
  storage('rocketmq_storage_flush_behind_bytes', (log) => log.endPosition - log.durablePosition);
  storage('rocketmq_storage_dispatch_behind_bytes', (log) => {
    const { replica, stateMachine } = view;
    if (replica === null || stateMachine === null || replica.appliedIndex() >= replica.commitIndex()) return 0;
    const committed = log.groupAt(replica.commitIndex());
    return committed === null ? 0 : Math.max(0, committed.position + committed.sizeBytes - stateMachine.endPosition);
  });
}
