import type { DeliveryRow } from '../delivery.ts';
import { messageRow } from '../message-row.ts';
import type { Reader } from '../reader.ts';
import type { QueueState } from '../topics.ts';
import type { Checkpoint } from './checkpoints.ts';

const MAX_ATTEMPTS = 0xffff;

/**
 * A row for each message of a checkpoint that was not acknowledged and is retained; whoever applies them names their queue, and
 * knows by the origin which message each is.
 * @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE
 */
export async function deadRows(queue: QueueState, checkpoint: Checkpoint, reader: Reader): Promise<DeliveryRow[]> {
  const rows: DeliveryRow[] = [];
  const attempts = Math.min(checkpoint.attempts + 1, MAX_ATTEMPTS);
  for (let offset = checkpoint.firstLeft(); offset < checkpoint.endOffset; offset++) {
    const row = checkpoint.isAcked(offset) ? null : await messageRow(queue, offset, reader);
    if (row !== null) rows.push({ ...row, attempts, originTopicId: queue.topic.id, originQueueId: queue.queueId, originOffset: offset });
  }
  return rows;
}
