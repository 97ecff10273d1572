import { parseDelayLevels } from '../base/delay-table.ts';
import type { BrokerOptions } from '../broker/broker.ts';
import type { BrokerConfig } from '../config.ts';
import type { Disk } from '../io/disk.ts';

const MS_PER_HOUR = 3_600_000;

/** What a replica's configuration says of its broker: the group's settings, which a new leader brings the log's in line with, and its own disk's. */
export function brokerSettings(config: BrokerConfig, disk: Disk): Pick<BrokerOptions, 'settings' | 'delayLevelsMs' | 'diskWatermark'> {
  return {
    ...(config.retentionDiskPercent === 0
      ? {}
      : { diskWatermark: { percent: config.retentionDiskPercent, space: () => disk.space(config.dataDir) } }),
    delayLevelsMs: parseDelayLevels(config.messageDelayLevel) as readonly number[],
    settings: {
      retentionMs: config.retentionHours * MS_PER_HOUR,
      retentionBytes: config.retentionBytes,
      transactionTimeoutMs: config.transactionTimeoutMs,
      transactionCheckIntervalMs: config.transactionCheckIntervalMs,
      transactionCheckMax: config.transactionCheckMax,
    },
  };
}
