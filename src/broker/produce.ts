import { NEWEST_CODEC } from '../protocol/body-codecs.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS } from '../protocol/errors.ts';
import type { BatchLimits } from '../protocol/record-batch.ts';
import {
  BatchFlag,
  batchChecksum,
  batchCodec,
  batchCount,
  batchDelay,
  batchFirstSequence,
  batchFlags,
  batchHasSequence,
  batchProducerEpoch,
  batchProducerId,
  Codec,
  checkBatch,
  DEFERRED_FLAGS,
} from '../protocol/record-batch.ts';
import type { SendPart, SendRequest } from '../protocol/requests.ts';
import { ReplicationMode } from '../protocol/requests.ts';
import { EntryType } from '../replica/types.ts';
import type { BrokerContext } from './context.ts';
import { refusalCode } from './context.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { halfRefusal } from './half-batch.ts';
import { PendingSends, SendGather } from './pending-sends.ts';
import type { Session } from './session.ts';
import { delayIsAllowed } from './timers.ts';
import type { QueueState } from './topics.ts';
import { Perm } from './topics.ts';
import { UncommittedSequences } from './uncommitted-sequences.ts';

const NO_OFFSET = -1;

/** Highest codec that batches may have: before the group's upgrade has ended, consumers may be of the release before, too. */
export function maxCodec(featureLevel: number): number {
  return featureLevel >= FEATURE_LEVELS.messaging ? NEWEST_CODEC : Codec.none;
}

/**
 * Sends (F09–F11, F32): checks, proposes, answers. Parts are handled in the order in which they arrived, so that the log
 * has the batches of one connection in the order of its frames; each part has its own result.
 */
export class Produce {
  readonly #context: BrokerContext;
  readonly #limits: BatchLimits;
  readonly #pending: PendingSends;
  readonly #uncommitted = new UncommittedSequences();

  constructor(context: BrokerContext) {
    const { limits } = context;
    this.#context = context;
    this.#limits = { ...limits, maxCount: 65_535, maxCodec: NEWEST_CODEC, knownFlags: BatchFlag.noSequence | DEFERRED_FLAGS };
    this.#pending = new PendingSends(limits.maxPendingSends);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  send(session: Session, requestId: number, request: SendRequest, raw: Uint8Array): void {
    const refusal = this.#requestRefusal(request, raw);
    if (refusal !== null) {
      if (!request.oneWay) session.refuse(requestId, refusal);
      return;
    }
    const gather = request.oneWay ? null : this.#gather(session, requestId, request.parts.length);
    let at = 0;
    for (let part = 0; part < request.parts.length; part++) {
      const { topic, sizeBytes } = request.parts[part] as SendPart;
      const batch = raw.subarray(at, at + sizeBytes);
      at += sizeBytes;
      // Before anything is done for it: who sends too much must not cost a pass over its bytes.
      const waitMs = this.#context.quotas.waitMs(session, topic);
      if (waitMs > 0) {
        gather?.set(part, ERRORS.QUOTA_EXCEEDED.number, NO_OFFSET, waitMs);
        continue;
      }
      const code = this.#sendPart(request, part, batch, gather);
      if (code !== null) gather?.set(part, ERRORS[code].number, NO_OFFSET, 0);
      else this.#context.quotas.take(session, topic, batchCount(batch, 0), sizeBytes);
    }
  }

  #gather(session: Session, requestId: number, parts: number): SendGather {
    const { clock, metrics } = this.#context;
    const arrivedMs = clock.monotonicMs();
    return new SendGather(session, requestId, parts, (error) => metrics.sendLatencyMs(clock.monotonicMs() - arrivedMs, error));
  }

  #requestRefusal(request: SendRequest, raw: Uint8Array): ErrorCode | null {
    const refusal = this.#context.leadership.refusal();
    if (refusal !== null) return refusal;
    const { parts, replication } = request;
    if (parts.length === 0 || parts.length > this.#context.limits.maxPartsPerSend) return 'BAD_REQUEST';
    if (!(replication >= ReplicationMode.topicMinimum && replication <= ReplicationMode.all)) return 'BAD_REQUEST';
    let total = 0;
    for (const part of parts) total += part.sizeBytes;
    return total === raw.length ? null : 'BAD_REQUEST';
  }

  /** @returns why the part was not proposed, or null: then its result comes later (or came already, leader-only) */
  #sendPart(request: SendRequest, part: number, batch: Uint8Array, gather: SendGather | null): ErrorCode | null {
    const { state, replica, metrics } = this.#context;
    const { topic: topicName, queueId } = request.parts[part] as SendPart;
    const topic = state.topics.named(topicName);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    if ((topic.perm & Perm.write) === 0) return 'NO_PERMISSION';
    if ((topic.ownPerm & Perm.write) === 0) return 'QUEUES_CLOSED';
    const queue = topic.queues[queueId];
    if (queue === undefined) return 'QUEUE_NOT_FOUND';
    if (gather !== null && this.#pending.full) return 'BUSY';
    const fault = checkBatch(batch, this.#limits);
    if (fault !== null) return fault;
    const refusal = this.#codecRefusal(batch) ?? this.#deferralRefusal(batch);
    if (refusal !== null) return refusal;
    const sequenced = batchHasSequence(batch, 0);
    const next = sequenced && this.#isNext(queue, batch);
    const index = replica.propose(EntryType.batch, topic.id, queueId, batchChecksum(batch, 0), batch);
    if (typeof index === 'string') return refusalCode(index);
    if (sequenced) this.#track(queue, batch, index, next);
    metrics.messagesIn(topicName, batchCount(batch, 0), batch.length);
    if (gather === null) return null;
    const mode = Math.max(request.replication, topic.replication, ReplicationMode.leader);
    // A batch whose sequence is not certain to pass must wait for apply's verdict, or a refused one would be acknowledged.
    const placed = (batchFlags(batch, 0) & DEFERRED_FLAGS) === 0;
    if (mode === ReplicationMode.leader && next && placed && replica.quorumIsFresh()) gather.set(part, 0, NO_OFFSET, replica.logTimeMs());
    else this.#pending.push(index, gather, part, mode);
    return null;
  }

  #codecRefusal(batch: Uint8Array): ErrorCode | null {
    return batchCodec(batch, 0) > maxCodec(this.#context.state.featureLevel) ? 'FEATURE_LEVEL' : null;
  }

  /** What apply would refuse is refused before it is in the log. */
  #deferralRefusal(batch: Uint8Array): ErrorCode | null {
    const flag = batchFlags(batch, 0) & DEFERRED_FLAGS;
    if (flag === 0) return null;
    const { state, replica } = this.#context;
    if (state.featureLevel < FEATURE_LEVELS.messaging) return 'FEATURE_LEVEL';
    if (flag === BatchFlag.half) return halfRefusal(batch);
    return delayIsAllowed(flag, batchDelay(batch, 0), replica.logTimeMs()) ? null : 'BAD_DELAY';
  }

  #isNext(queue: QueueState, batch: Uint8Array): boolean {
    return this.#uncommitted.isNext(queue, batchProducerId(batch, 0), batchProducerEpoch(batch, 0), batchFirstSequence(batch, 0));
  }

  #track(queue: QueueState, batch: Uint8Array, index: number, next: boolean): void {
    if (!next) return;
    this.#uncommitted.proposed(
      queue,
      batchProducerId(batch, 0),
      batchProducerEpoch(batch, 0),
      batchFirstSequence(batch, 0) + batchCount(batch, 0),
      index,
    );
  }

  /** From apply, in log order. */
  applied(index: number, topicId: number, queueId: number, error: number, baseOffset: number, logTimeMs: number): void {
    const pending = this.#pending;
    const queue = this.#context.state.topics.queue(topicId, queueId);
    if (queue !== undefined) this.#uncommitted.applied(queue, index);
    if (pending.firstIndex() !== index) return;
    const mode = pending.firstMode();
    const part = pending.firstPart();
    const gather = pending.shift();
    if (mode !== ReplicationMode.all || error !== 0) {
      gather.set(part, error, baseOffset, logTimeMs);
      return;
    }
    this.#context.replica.whenAllInSync(index, (ok) => {
      gather.set(part, ok ? 0 : ERRORS.OUTCOME_UNKNOWN.number, ok ? baseOffset : NO_OFFSET, logTimeMs);
    });
  }

  /**
   * This replica leads no longer. What was proposed may still be committed by the next leader: only the log will know, so
   * the client is told OUTCOME_UNKNOWN and sends it again under its sequence. NOT_LEADER would be a promise.
   */
  leadershipLost(): void {
    while (this.#pending.size > 0) {
      const part = this.#pending.firstPart();
      this.#pending.shift().set(part, ERRORS.OUTCOME_UNKNOWN.number, NO_OFFSET, 0);
    }
    this.#uncommitted.clear();
  }
}
