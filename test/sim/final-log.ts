import { LedgerError } from '../../src/protocol/errors.ts';
import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { Op, type PullResponse } from '../../src/protocol/requests.ts';
import { type QueueName, queueName, type Seen } from './checkers/violation.ts';
import { decodeBody } from './message-body.ts';
import type { WireClient } from './wire-client.ts';

const PULL_BYTES = 256 * 1024;

/** Every queue of a broker group as one replica shows it. */
export type GroupLog = Map<QueueName, { readonly minOffset: number; readonly messages: Seen[] }>;

/**
 * Pulls every queue of these topics from one replica, leader or not, from the first retained offset to the end.
 * @param startOf first retained offset of a queue: a follower does not say
 */
export async function pullAll(
  replica: WireClient,
  brokerName: string,
  topics: readonly string[],
  queuesPerTopic: number,
  startOf: (topic: string, queueId: number) => number,
): Promise<GroupLog> {
  const queues: GroupLog = new Map();
  for (const topic of topics) {
    for (let queueId = 0; queueId < queuesPerTopic; queueId++) {
      const messages: Seen[] = [];
      const queue = { name: queueName(brokerName, topic, queueId), topic, queueId };
      let minOffset = startOf(topic, queueId);
      let place: Pick<PullResponse, 'minOffset' | 'maxOffset' | 'nextOffset'> = await pullOnce(replica, queue, minOffset, messages).catch(
        (error) => emptyQueue(error, minOffset),
      );
      for (;;) {
        // Retention goes on while everything is read: what was cut meanwhile is not missing (seed 116101 of an earlier schedule).
        if (place.minOffset > minOffset) {
          minOffset = place.minOffset;
          messages.length = 0;
          place = { ...place, nextOffset: minOffset };
        }
        if (place.nextOffset >= place.maxOffset) break;
        place = await pullOnce(replica, queue, place.nextOffset, messages);
      }
      queues.set(queue.name, { minOffset, messages });
    }
  }
  return queues;
}

/** A follower sends a reader elsewhere who stands at the end of what it has: at the first retained offset it has nothing. */
function emptyQueue(error: unknown, minOffset: number): Pick<PullResponse, 'minOffset' | 'maxOffset' | 'nextOffset'> {
  if (error instanceof LedgerError && (error.code === 'NOT_LEADER' || error.code === 'TOPIC_NOT_FOUND')) {
    return { minOffset, maxOffset: minOffset, nextOffset: minOffset };
  }
  throw error;
}

interface PulledQueue {
  readonly name: QueueName;
  readonly topic: string;
  readonly queueId: number;
}

async function pullOnce(replica: WireClient, queue: PulledQueue, offset: number, into: Seen[]): Promise<PullResponse> {
  const { body, raw } = await replica.request(Op.pull, {
    topic: queue.topic,
    queueId: queue.queueId,
    offset,
    maxBytes: PULL_BYTES,
    maxMessages: 1024,
    waitMs: 0,
    group: '',
    member: '',
    epoch: 0,
    tagHashes: [],
  });
  let at = 0;
  for (const { baseOffset, sizeBytes } of body.batches) {
    const bytes = raw.subarray(at, at + sizeBytes);
    at += sizeBytes;
    const reader = new BatchReader(bytes, baseOffset);
    for (let i = 0; i < reader.count; i++) {
      if (baseOffset + i < offset) continue;
      into.push({
        queue: queue.name,
        offset: baseOffset + i,
        identity: reader.messageId(i),
        fingerprint: batchChecksum(bytes, 0),
        body: decodeBody(reader.body(i)),
      });
    }
  }
  if (body.nextOffset <= offset && offset < body.maxOffset)
    throw new Error(`pull of ${queue.name} at ${offset} of ${body.maxOffset} got nothing`);
  return body;
}
