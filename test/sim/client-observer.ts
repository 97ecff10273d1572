import { decodeBrokerFrame, decodeRequest, type Request } from '../../src/protocol/frame.ts';
import type { PulledBatch } from '../../src/protocol/pulled-batch.ts';
import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { Op, ReplicationMode } from '../../src/protocol/requests.ts';
import { forEachSendAck } from '../../src/protocol/send-acks.ts';
import type { FabricatedChecker } from './checkers/fabricated.ts';
import type { OffsetBackChecker } from './checkers/offset-back.ts';
import type { OwnersChecker } from './checkers/owners.ts';
import type { ReadersChecker } from './checkers/readers.ts';
import type { TopicsChecker } from './checkers/topics.ts';
import { queueName } from './checkers/violation.ts';
import type { GroupReferee } from './group-referee.ts';
import { decodeBody } from './message-body.ts';
import { BROADCAST_GROUP } from './workloads/broadcasting.ts';
import { isMadeAgain } from './workloads/topics.ts';

/** The checkers that follow what passes between clients and brokers. */
export interface ClientCheckers {
  readonly readers: ReadersChecker;
  readonly fabricated: FabricatedChecker;
  readonly offsets: OffsetBackChecker;
  readonly owners: OwnersChecker;
  readonly topics: TopicsChecker;
}

interface Asked {
  readonly request: Request;
  /** Of the group that was asked: what its queues' names begin with. */
  readonly brokerName: string;
  /** Per queue named in the request, what held when it was written. */
  readonly floors: readonly number[];
  readonly newestEpochs: readonly number[];
  /** What the checker of topics said. */
  readonly begun: number;
}

/**
 * Reads every frame between clients and brokers at the moment it is written: the checkers need no word of the client's or
 * the broker's own code for what was asked, answered and shown.
 */
export class ClientObserver {
  readonly #checkers: ClientCheckers;
  readonly #asked = new Map<number, Map<number, Asked>>();
  /** Groups whose offsets an operator reset: their offsets may go back. */
  readonly #reset = new Set<string>();

  constructor(checkers: ClientCheckers) {
    this.#checkers = checkers;
  }

  toBroker(connection: number, brokerName: string, frame: Uint8Array): void {
    const request = decodeRequest(frame.slice());
    if (!('op' in request)) return;
    const { offsets, owners } = this.#checkers;
    let floors: number[] = [];
    let newestEpochs: number[] = [];
    if (request.op === Op.offsetFetch) {
      floors = request.body.queues.map(({ topic, queueId }) => offsets.floor(request.body.group, queueName(brokerName, topic, queueId)));
    } else if (request.op === Op.offsetCommit) {
      newestEpochs = request.body.offsets.map(({ topic, queueId }) =>
        owners.newest(request.body.group, queueName(brokerName, topic, queueId)),
      );
    } else if (request.op === Op.pull) {
      newestEpochs = [owners.newest(request.body.group, queueName(brokerName, request.body.topic, request.body.queueId))];
    } else if (request.op === Op.groupResetOffset) this.#reset.add(request.body.group);
    let asked = this.#asked.get(connection);
    if (asked === undefined) {
      asked = new Map();
      this.#asked.set(connection, asked);
    }
    asked.set(request.requestId, { request, brokerName, floors, newestEpochs, begun: this.#checkers.topics.begun(brokerName, request) });
  }

  toClient(connection: number, group: GroupReferee, replicaId: number, frame: Uint8Array): void {
    const asked = this.#asked.get(connection);
    if (asked === undefined) return;
    const answer = decodeBrokerFrame(frame.slice(), (requestId) => asked.get(requestId)?.request.op);
    if (answer.kind === 'sendAcks') {
      forEachSendAck(answer.raw, (requestId, results) => {
        const { request } = asked.get(requestId) as Asked;
        asked.delete(requestId);
        if (request.op === Op.send) this.#sendAck(group, replicaId, request, results);
      });
      return;
    }
    if (answer.kind !== 'response') {
      const refused = answer.kind === 'error' ? asked.get(answer.requestId) : undefined;
      if (refused === undefined) return;
      asked.delete(refused.request.requestId);
      this.#checkers.topics.answered(refused.brokerName, refused.request, refused.begun, null);
      return;
    }
    const known = asked.get(answer.requestId) as Asked;
    asked.delete(answer.requestId);
    this.#checkers.topics.answered(known.brokerName, known.request, known.begun, answer.body);
    this.#answered(known, group, answer.body, answer.raw);
  }

  #sendAck(
    group: GroupReferee,
    replicaId: number,
    request: Request & { op: typeof Op.send },
    results: readonly { error: number; baseOffset: number }[],
  ): void {
    let at = 0;
    request.body.parts.forEach((part, i) => {
      const result = results[i];
      // A leader-only acknowledgement promises less (F32).
      if (result?.error === 0 && request.body.replication !== ReplicationMode.leader) {
        group.synced.clientAck(replicaId, batchChecksum(request.raw, at));
      }
      at += part.sizeBytes;
    });
  }

  #answered({ request, brokerName, floors, newestEpochs }: Asked, group: GroupReferee, body: unknown, raw: Uint8Array): void {
    const { offsets, owners } = this.#checkers;
    if (request.op === Op.pull) {
      const { topic, queueId, member, epoch } = request.body;
      const pulled = body as { batches: readonly PulledBatch[] };
      this.#shown(group, queueName(brokerName, topic, queueId), isMadeAgain(topic), pulled.batches, raw);
      // Where nobody owns a queue, every member reads it (F18).
      if (member !== '' && request.body.group !== BROADCAST_GROUP)
        owners.accepted(request.body.group, queueName(brokerName, topic, queueId), member, epoch, newestEpochs[0] as number);
    } else if (request.op === Op.offsetCommit) {
      const { errors } = body as { errors: readonly number[] };
      const { group: consumers, member, epoch } = request.body;
      request.body.offsets.forEach(({ topic, queueId, offset, ...more }, i) => {
        if (errors[i] !== 0) return;
        if (!this.#reset.has(consumers) && !isMadeAgain(topic)) offsets.committed(consumers, queueName(brokerName, topic, queueId), offset);
        const queueEpoch = (more as { epoch?: number }).epoch ?? epoch;
        if (member !== '') owners.accepted(consumers, queueName(brokerName, topic, queueId), member, queueEpoch, newestEpochs[i] as number);
      });
    } else if (request.op === Op.offsetFetch) {
      const fetched = body as { offsets: readonly number[] };
      const { group: consumers, queues } = request.body;
      if (this.#reset.has(consumers)) return;
      queues.forEach(({ topic, queueId }, i) => {
        if (isMadeAgain(topic)) return;
        offsets.fetched(consumers, queueName(brokerName, topic, queueId), floors[i] as number, fetched.offsets[i] as number);
      });
    }
  }

  /** @param isMadeAgain other messages are at its places then */
  #shown(
    group: GroupReferee,
    queue: string,
    isMadeAgain: boolean,
    batches: readonly Pick<PulledBatch, 'baseOffset' | 'sizeBytes' | 'reference'>[],
    raw: Uint8Array,
  ): void {
    let at = 0;
    for (const { baseOffset, sizeBytes, reference } of batches) {
      const bytes = raw.subarray(at, at + sizeBytes);
      at += sizeBytes;
      group.synced.shown(queue, baseOffset, batchChecksum(bytes, 0));
      const reader = new BatchReader(bytes, baseOffset);
      // A place of one message alone has its offset; the others of its batch are not there.
      const from = reference?.messageIndex ?? 0;
      for (let i = from; i < (reference === undefined ? reader.count : from + 1); i++) {
        const seen = {
          queue,
          offset: baseOffset + i - from,
          identity: reader.messageId(i),
          fingerprint: batchChecksum(bytes, 0),
          body: decodeBody(reader.body(i)),
        };
        this.#checkers.fabricated.seen(seen);
        if (!isMadeAgain) this.#checkers.readers.seen(seen);
      }
    }
  }
}
