import { UnitBatch } from '../log/consume-queue-types.ts';
import { type DeliveryRow, ROW_BYTES, WHOLE_BATCH } from './delivery.ts';
import type { Reader } from './reader.ts';
import type { QueueState } from './topics.ts';

/**
 * What delivers the message at an offset of a queue again, by itself: where its bytes are, how often it failed, and where it was first.
 * Who proposes it names the queue that it goes to.
 * @returns null when it is not in the queue (any more) @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE
 */
export async function messageRow(queue: QueueState, offset: number, reader: Reader): Promise<DeliveryRow | null> {
  if (offset < queue.minOffset || offset >= queue.nextOffset) return null;
  const units = new UnitBatch(1);
  const length = await queue.readUnits(offset, 1, units);
  const baseOffset = units.baseOffset[0] as number;
  if (length === 0 || baseOffset > offset) return null;
  const position = units.position[0] as number;
  const sizeBytes = units.sizeBytes[0] as number;
  const tagBloom = units.tagBloom[0] as number;
  const own = { messageIndex: offset - baseOffset, count: 1, topicId: 0, queueId: 0, attempts: 0, tagBloom };
  const origin = { originTopicId: queue.topic.id, originQueueId: queue.queueId, originOffset: offset };
  if (sizeBytes !== ROW_BYTES) return { ...own, ...origin, position, sizeBytes };
  const row = await reader.row(position);
  if (row.messageIndex === WHOLE_BATCH) return { ...own, ...origin, position: row.position, sizeBytes: row.sizeBytes };
  // The first origin stays, over any number of retries; one that waited in the queue for its time was first there.
  return queue.topic.internal ? { ...row, count: 1 } : { ...row, ...origin, count: 1 };
}
