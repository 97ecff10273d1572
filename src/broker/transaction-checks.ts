import { assert } from '../base/assert.ts';
import { DISCARDED_HALVES_TOPIC } from '../protocol/names.ts';
import { PushKind } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { HalfMessage } from './half-messages.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { ProducerSessions } from './producer-sessions.ts';
import type { Session } from './session.ts';
import { rowOfHalf } from './transactions.ts';

/** Transactions in one entry at most. */
const MAX_GATHERED = 1_000;
/** What could not be proposed is proposed again after this. */
const RETRY_MS = 1_000;
/** Checks that found nobody are pushed to a member that comes, so many at each of its heartbeats. */
const MAX_PUSHED_AT_ONCE = 256;

class HalfDeadline implements Deadline {
  readonly transaction: number;
  readonly #due: (transaction: number) => void;
  dueMs = 0;
  slot = -1;

  constructor(transaction: number, due: (transaction: number) => void) {
    this.transaction = transaction;
    this.#due = due;
  }

  due(): void {
    this.#due(this.transaction);
  }
}

/**
 * Asks producer groups for outcomes that are missing (F14): the leader's memory. When and how often is in the log, so a new leader
 * makes its schedule from the state. A check counts when its entry is applied, whether or not somebody could be asked; one that
 * found nobody, or whose receiver went away without an answer, goes to the next member that is heard of.
 */
export class TransactionChecks {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #sessions: ProducerSessions;
  /** Of all half messages, while this replica leads. */
  readonly #deadlines = new Map<number, HalfDeadline>();
  #due: number[] = [];
  /** By transaction: who was asked last and has not answered. */
  readonly #asked = new Map<number, Session>();
  readonly #askedOf = new Map<Session, Set<number>>();
  /** By producer group: asked for when nobody was there. */
  readonly #unheard = new Map<string, Set<number>>();

  constructor(context: BrokerContext, commands: PendingCommands, sessions: ProducerSessions) {
    this.#context = context;
    this.#commands = commands;
    this.#sessions = sessions;
  }

  becameReady(): void {
    for (const half of this.#context.state.transactions.halves.all()) this.schedule(half);
  }

  leadershipLost(): void {
    for (const deadline of this.#deadlines.values()) this.#context.deadlines.remove(deadline);
    this.#deadlines.clear();
    this.#due = [];
    this.#asked.clear();
    this.#askedOf.clear();
    this.#unheard.clear();
  }

  /** Deadlines are monotonic, the schedule is log time: one that fires early by it is set again. */
  schedule({ transaction, nextCheckMs }: HalfMessage, atLeastMs = 0): void {
    const deadline = this.#deadlines.get(transaction) ?? new HalfDeadline(transaction, (due) => this.#isDue(due));
    this.#deadlines.set(transaction, deadline);
    this.#context.deadlines.set(deadline, Math.max(atLeastMs, nextCheckMs - this.#context.replica.logTimeMs()));
  }

  ended({ transaction, producerGroup }: HalfMessage): void {
    const deadline = this.#deadlines.get(transaction);
    if (deadline !== undefined) this.#context.deadlines.remove(deadline);
    this.#deadlines.delete(transaction);
    this.#forgetAsked(transaction);
    this.#forgetUnheard(producerGroup, transaction);
  }

  /** A member of the group is there: it is asked what nobody could be asked before. */
  heard(group: string): void {
    const waiting = this.#unheard.get(group);
    if (waiting === undefined) return;
    for (const transaction of [...waiting].slice(0, MAX_PUSHED_AT_ONCE)) {
      this.#ask(transaction);
    }
  }

  closed(session: Session): void {
    const left = this.#askedOf.get(session);
    this.#askedOf.delete(session);
    for (const transaction of left ?? []) {
      this.#asked.delete(transaction);
      this.#ask(transaction);
    }
  }

  /** All that are due in one turn share entries. */
  #isDue(transaction: number): void {
    if (this.#due.push(transaction) === 1) this.#context.clock.defer(() => this.#propose());
  }

  #propose(): void {
    const { state, replica } = this.#context;
    const due = this.#due;
    this.#due = [];
    const max = state.setting('transactionCheckMax');
    const checks: HalfMessage[] = [];
    const expired: HalfMessage[] = [];
    for (const transaction of due) {
      const half = state.transactions.halves.get(transaction);
      if (half === undefined || !this.#deadlines.has(transaction)) continue;
      if (half.nextCheckMs > replica.logTimeMs()) this.schedule(half, 1);
      else if (half.checks < max) checks.push(half);
      else expired.push(half);
    }
    for (let i = 0; i < checks.length; i += MAX_GATHERED) this.#check(checks.slice(i, i + MAX_GATHERED));
    for (let i = 0; i < expired.length; i += MAX_GATHERED) this.#expire(expired.slice(i, i + MAX_GATHERED));
  }

  #check(halves: readonly HalfMessage[]): void {
    const checks = halves.map(({ transaction, checks: before }) => [transaction, before] as const);
    this.#commands.propose({ type: 'transactionChecks', checks }, (error, results) => {
      halves.forEach(({ transaction }, i) => {
        this.#again(transaction, error === null);
        if (error === null && results[i] === 1) this.#ask(transaction);
      });
    });
  }

  #expire(halves: readonly HalfMessage[]): void {
    const topic = this.#context.state.topics.named(DISCARDED_HALVES_TOPIC);
    assert(topic !== undefined, 'made with the first half message');
    const topicId = topic.id;
    const transactions = halves.map(({ transaction }) => transaction);
    // As one message of a batch, so that it says where it would have gone.
    const rows = halves.map((half) => ({
      ...rowOfHalf(half, topicId, 0),
      messageIndex: 0,
      originTopicId: half.topicId,
      originQueueId: half.queueId,
    }));
    this.#commands.propose(
      { type: 'transactionsExpire', transactions },
      (error, results) => {
        const discarded = results.reduce((sum, result) => sum + result, 0);
        if (discarded > 0) {
          this.#context.metrics.transactionsDiscarded(discarded);
          this.#context.metrics.event('transactions discarded', { discarded, topic: DISCARDED_HALVES_TOPIC });
        }
        for (const transaction of transactions) this.#again(transaction, error === null);
      },
      rows,
    );
  }

  /** Follows the state: one that has not ended is due again some time. */
  #again(transaction: number, applied: boolean): void {
    const half = this.#context.state.transactions.halves.get(transaction);
    if (half !== undefined && this.#deadlines.has(transaction)) this.schedule(half, applied ? 0 : RETRY_MS);
  }

  #ask(transaction: number): void {
    const half = this.#context.state.transactions.halves.get(transaction);
    if (half === undefined) return;
    const { messageId, producerGroup, checks } = half;
    this.#forgetAsked(transaction);
    this.#forgetUnheard(producerGroup, transaction);
    const session = this.#sessions.pick(producerGroup);
    if (session === null) {
      const waiting = this.#unheard.get(producerGroup);
      if (waiting === undefined) this.#unheard.set(producerGroup, new Set([transaction]));
      else waiting.add(transaction);
      return;
    }
    this.#asked.set(transaction, session);
    const asked = this.#askedOf.get(session);
    if (asked === undefined) this.#askedOf.set(session, new Set([transaction]));
    else asked.add(transaction);
    session.push(PushKind.transactionCheck, { transaction, messageId, producerGroup, check: checks });
  }

  #forgetAsked(transaction: number): void {
    const session = this.#asked.get(transaction);
    if (session === undefined) return;
    this.#asked.delete(transaction);
    const asked = this.#askedOf.get(session);
    asked?.delete(transaction);
    if (asked?.size === 0) this.#askedOf.delete(session);
  }

  #forgetUnheard(group: string, transaction: number): void {
    const waiting = this.#unheard.get(group);
    waiting?.delete(transaction);
    if (waiting?.size === 0) this.#unheard.delete(group);
  }
}
