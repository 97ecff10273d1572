import { readU32, readU53 } from '../../base/bytes.ts';
import { UnitBatch } from '../../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../../log/layout.ts';
import { Unit, unitAt } from '../../protocol/record-batch.ts';
import { tagBloomBits } from '../../protocol/tag-hash.ts';
import { type DeliveryRow, WHOLE_BATCH } from '../delivery.ts';
import type { Reader } from '../reader.ts';
import type { QueueState } from '../topics.ts';
import type { Checkpoint } from './checkpoints.ts';

/** Units read at once. */
const UNITS = 256;

/**
 * A row for each message of a checkpoint that was not acknowledged and is retained; whoever applies them names their queue.
 * @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE
 */
export async function deadRows(queue: QueueState, checkpoint: Checkpoint, reader: Reader): Promise<DeliveryRow[]> {
  const rows: DeliveryRow[] = [];
  const units = new UnitBatch(UNITS);
  for (let offset = Math.max(checkpoint.firstLeft(), queue.minOffset); offset < checkpoint.endOffset; ) {
    const found = await queue.index.readUnits(offset, UNITS, units);
    if (found === 0) break;
    for (let i = 0; i < found && offset < checkpoint.endOffset; i++) {
      const baseOffset = units.baseOffset[i] as number;
      const end = Math.min(baseOffset + (units.count[i] as number), checkpoint.endOffset);
      const { entry, row } = await reader.unit(units.position[i] as number, units.sizeBytes[i] as number);
      for (let at = Math.max(offset, baseOffset); at < end; at++) {
        if (!checkpoint.isAcked(at)) rows.push(deadRow(queue, checkpoint, entry, row, at, at - baseOffset));
      }
      offset = end;
    }
  }
  return rows;
}

function deadRow(
  queue: QueueState,
  checkpoint: Checkpoint,
  entry: Uint8Array,
  row: DeliveryRow | null,
  offset: number,
  place: number,
): DeliveryRow {
  const messageIndex = row === null || row.messageIndex === WHOLE_BATCH ? place : row.messageIndex;
  const tagHash = readU32(entry, unitAt(ENTRY_HEADER_BYTES, messageIndex) + Unit.tagHash);
  return {
    position: readU53(entry, Entry.position),
    sizeBytes: entry.length,
    messageIndex,
    count: 1,
    topicId: 0,
    queueId: 0,
    attempts: Math.min(checkpoint.attempts + 1, 0xffff),
    originTopicId: queue.topic.id,
    originQueueId: queue.queueId,
    originOffset: offset,
    tagBloom: tagHash === 0 ? 0 : tagBloomBits(tagHash) >>> 0,
  };
}
