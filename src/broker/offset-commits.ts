import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS } from '../protocol/errors.ts';
import { checkGroupName } from '../protocol/names.ts';
import type { OffsetCommitRequest, OffsetFetchRequest } from '../protocol/requests.ts';
import { Op } from '../protocol/requests.ts';
import type { GatheredCommit } from './commands.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import { MAX_MEMBER_NAME_CHARACTERS } from './limits.ts';
import { nameRefusal } from './name-refusal.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Session } from './session.ts';
import { queueKey } from './topics.ts';

interface WaitingCommit {
  readonly session: Session;
  readonly requestId: number;
  readonly commit: GatheredCommit;
  /** For each offset of the request its place in the commit, or the error that it has already, negated. */
  readonly places: readonly number[];
}

/** Offsets in one request at most. */
export const MAX_OFFSETS_PER_COMMIT = 10_000;

function commitRefusal({ group, member, offsets, epoch }: OffsetCommitRequest): ErrorCode | null {
  if (offsets.length > MAX_OFFSETS_PER_COMMIT || !Number.isSafeInteger(epoch)) return 'BAD_REQUEST';
  if (member.length > MAX_MEMBER_NAME_CHARACTERS) return 'BAD_NAME';
  return nameRefusal(() => checkGroupName(group))?.code ?? null;
}

/** Offset commits: one entry per 100 ms at most, however many consumers there are; acknowledged when applied (F21). */
export class OffsetCommits implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  #waiting: WaitingCommit[] = [];
  #waitingOffsets = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands) {
    this.#context = context;
    this.#commands = commands;
  }

  commit(session: Session, requestId: number, request: OffsetCommitRequest): void {
    const { state, leadership, limits, clock, deadlines } = this.#context;
    const refusal = leadership.refusal() ?? commitRefusal(request);
    if (refusal !== null) {
      session.refuse(requestId, refusal);
      return;
    }
    const offsets: GatheredCommit[2][number][] = [];
    const places = request.offsets.map(({ topic: topicName, queueId, offset }) => {
      const topic = state.topics.named(topicName);
      if (topic === undefined) return -ERRORS.TOPIC_NOT_FOUND.number;
      if (topic.queues[queueId] === undefined) return -ERRORS.QUEUE_NOT_FOUND.number;
      if (!(Number.isSafeInteger(offset) && offset >= 0)) return -ERRORS.BAD_REQUEST.number;
      return offsets.push([topic.id, queueId, offset, request.epoch]) - 1;
    });
    // Nothing to store: gathered, it would only make everybody's entry longer.
    if (offsets.length === 0) {
      session.respond(Op.offsetCommit, requestId, { errors: places.map((place) => -place) });
      return;
    }
    this.#waiting.push({ session, requestId, commit: [request.group, request.member, offsets], places });
    this.#waitingOffsets += offsets.length;
    const sinceMs = clock.monotonicMs() - this.#lastMs;
    if (this.#waitingOffsets >= limits.maxGatheredCommits) this.due();
    else if (this.slot < 0) deadlines.set(this, Math.max(0, limits.offsetCommitIntervalMs - sinceMs));
  }

  due(): void {
    this.#context.deadlines.remove(this);
    if (this.#waiting.length === 0) return;
    const gathered = this.#waiting;
    this.#waiting = [];
    this.#waitingOffsets = 0;
    this.#lastMs = this.#context.clock.monotonicMs();
    this.#commands.propose({ type: 'offsetCommit', commits: gathered.map(({ commit }) => commit) }, (error, results) => {
      let at = 0;
      for (const { session, requestId, commit, places } of gathered) {
        const first = at;
        at += commit[2].length;
        if (error !== null) session.refuse(requestId, error);
        else
          session.respond(Op.offsetCommit, requestId, {
            errors: places.map((place) => (place < 0 ? -place : (results[first + place] ?? 0))),
          });
      }
    });
  }

  /** Reads go through ReadIndex: a paused old leader must not show an offset that has moved on (FAULTS 12). */
  fetch(session: Session, requestId: number, request: OffsetFetchRequest): void {
    const { replica, state } = this.#context;
    replica.readBarrier((ok) => {
      if (!ok) {
        session.refuse(requestId, 'NOT_READY');
        return;
      }
      const group = state.groups.named(request.group);
      const offsets = request.queues.map(({ topic: name, queueId }) => {
        const topic = state.topics.named(name);
        return topic === undefined ? -1 : (group?.offsets.get(queueKey(topic.id, queueId)) ?? -1);
      });
      session.respond(Op.offsetFetch, requestId, { offsets });
    });
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
    const lost = this.#waiting;
    this.#waiting = [];
    this.#waitingOffsets = 0;
    // Never proposed, so certainly not stored.
    for (const { session, requestId } of lost) session.refuse(requestId, 'NOT_LEADER');
  }
}
