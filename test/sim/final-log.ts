import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { Op } from '../../src/protocol/requests.ts';
import type { FinalLog, QueueName, Seen } from './checkers/violation.ts';
import { decodeBody } from './message-body.ts';
import type { WireClient } from './wire-client.ts';

const PULL_BYTES = 256 * 1024;

/** Pulls every queue of these topics from one replica, from the first retained offset to the end. */
export async function pullAll(replica: WireClient, topics: readonly string[]): Promise<FinalLog> {
  const queues = new Map<QueueName, { minOffset: number; messages: Seen[] }>();
  const listed = await replica.request(Op.topicList, { topics: [...topics] });
  for (const { topic, queues: described } of listed.body.topics) {
    for (const { queueId } of described) {
      const { body } = await replica.request(Op.queueRange, { topic, queueId, timeMs: 0 });
      const messages: Seen[] = [];
      for (let offset = body.minOffset; offset < body.maxOffset; ) offset = await pullOnce(replica, topic, queueId, offset, messages);
      queues.set(`${topic}/${queueId}`, { minOffset: body.minOffset, messages });
    }
  }
  return { queues };
}

async function pullOnce(replica: WireClient, topic: string, queueId: number, offset: number, into: Seen[]): Promise<number> {
  const { body, raw } = await replica.request(Op.pull, {
    topic,
    queueId,
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
        queue: `${topic}/${queueId}`,
        offset: baseOffset + i,
        identity: reader.messageId(i),
        fingerprint: batchChecksum(bytes, 0),
        body: decodeBody(reader.body(i)),
      });
    }
  }
  if (body.nextOffset <= offset) throw new Error(`pull of ${topic}/${queueId} at ${offset} of ${body.maxOffset} got nothing`);
  return body.nextOffset;
}
