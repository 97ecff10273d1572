import { ENTRY_HEADER_BYTES } from '../log/layout.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { checkGroupName } from '../protocol/names.ts';
import { Op } from '../protocol/requests.ts';
import type {
  HalfDescription,
  ProducerHeartbeatRequest,
  TransactionEndRequest,
  TransactionGetRequest,
  TransactionListRequest,
} from '../protocol/transaction-requests.ts';
import { refuseWith } from './admin.ts';
import type { TransactionEnd } from './commands.ts';
import type { BrokerContext } from './context.ts';
import { Ended } from './ended-transactions.ts';
import type { HalfMessage } from './half-messages.ts';
import { nameRefusal } from './name-refusal.ts';
import type { PendingCommands } from './pending-commands.ts';
import { ProducerSessions } from './producer-sessions.ts';
import type { Reader } from './reader.ts';
import type { Request, Session } from './session.ts';
import { TransactionChecks } from './transaction-checks.ts';
import { rowOfHalf, type TransactionsListener } from './transactions.ts';

/** Transactions (F14) as clients and operators ask for them; what is decided is decided at apply (transactions.ts). */
export class TransactionRequests implements TransactionsListener {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #reader: Reader;
  readonly #sessions: ProducerSessions;
  readonly #checks: TransactionChecks;

  constructor(context: BrokerContext, commands: PendingCommands, reader: Reader) {
    const { clock, limits, state } = context;
    this.#context = context;
    this.#commands = commands;
    this.#reader = reader;
    this.#sessions = new ProducerSessions(clock, limits.producerSessionMs, limits.maxProducerSessions);
    this.#checks = new TransactionChecks(context, commands, this.#sessions);
    state.transactions.listen(this);
  }

  /** @returns whether it is a request of this kind */
  request(session: Session, request: Request): boolean {
    const { requestId } = request;
    switch (request.op) {
      case Op.transactionEnd:
        this.#end(session, requestId, request.body);
        return true;
      case Op.producerHeartbeat:
        this.#heartbeat(session, requestId, request.body);
        return true;
      case Op.transactionGet:
        this.#get(session, requestId, request.body);
        return true;
      case Op.transactionList:
        this.#list(session, requestId, request.body);
        return true;
      default:
        return false;
    }
  }

  #end(session: Session, requestId: number, request: TransactionEndRequest): void {
    const { transaction, messageId, producerGroup, outcome, source } = request;
    const refusal = this.#context.leadership.refusal();
    if (refusal !== null) {
      session.refuse(requestId, refusal);
      return;
    }
    if (outcome === 'unknown') {
      session.respond(Op.transactionEnd, requestId, { offset: -1 });
      return;
    }
    const commit = outcome === 'commit';
    const command: TransactionEnd = { type: 'transactionEnd', transaction, messageId, producerGroup, commit };
    const half = this.#context.state.transactions.halves.get(transaction);
    const rows = commit && half !== undefined ? [rowOfHalf(half, half.topicId, half.queueId)] : [];
    this.#commands.propose(
      command,
      (error, results) => {
        if (source === 'operator') this.#noteByHand(session, request, error);
        if (error === null) session.respond(Op.transactionEnd, requestId, { offset: results[0] ?? -1 });
        else session.refuse(requestId, error);
      },
      rows,
    );
  }

  #noteByHand(session: Session, { transaction, messageId, producerGroup, outcome }: TransactionEndRequest, error: ErrorCode | null): void {
    const { clientId: client, address } = session;
    const fields = { transaction, messageId, producerGroup, outcome, client, address, error: error ?? '' };
    this.#context.metrics.event('transaction ended by hand', fields);
  }

  #heartbeat(session: Session, requestId: number, { group, leave = false }: ProducerHeartbeatRequest): void {
    const name = nameRefusal(() => checkGroupName(group));
    const refusal = this.#context.leadership.refusal() ?? name?.code ?? null;
    if (refusal !== null) session.refuse(requestId, refusal, name?.detail);
    else if (leave) {
      this.#sessions.left(group, session);
      session.respond(Op.producerHeartbeat, requestId, {});
    } else if (!this.#sessions.heard(group, session)) session.refuse(requestId, 'TOO_MANY');
    else {
      session.respond(Op.producerHeartbeat, requestId, {});
      this.#checks.heard(group);
    }
  }

  #get(session: Session, requestId: number, { transaction, messageId }: TransactionGetRequest): void {
    this.#read(session, requestId, () => {
      const half = this.#context.state.transactions.halves.get(transaction);
      if (half === undefined || half.messageId !== messageId) {
        session.refuse(requestId, 'TRANSACTION_NOT_FOUND');
        return;
      }
      this.#reader.entry(half.position, half.sizeBytes).then(
        (entry) => session.respond(Op.transactionGet, requestId, this.#describe(half), entry.subarray(ENTRY_HEADER_BYTES)),
        (error: unknown) => refuseWith(session, requestId, error),
      );
    });
  }

  #list(session: Session, requestId: number, { producerGroup, after, limit }: TransactionListRequest): void {
    this.#read(session, requestId, () => {
      const { halves } = this.#context.state.transactions;
      const listed: HalfDescription[] = [];
      for (const half of halves.all()) {
        if (half.transaction <= after || (producerGroup !== '' && half.producerGroup !== producerGroup)) continue;
        if (listed.push(this.#describe(half)) === limit) break;
      }
      session.respond(Op.transactionList, requestId, { halves: listed, total: halves.size, logTimeMs: this.#context.replica.logTimeMs() });
    });
  }

  #describe({ topicId, transaction, messageId, producerGroup, queueId, storedMs, nextCheckMs, checks }: HalfMessage): HalfDescription {
    const topic = this.#topicName(topicId);
    return { transaction, messageId, producerGroup, topic, queueId, storedMs, nextCheckMs, checks };
  }

  #topicName(topicId: number): string {
    return this.#context.state.topics.withId(topicId)?.name ?? '';
  }

  /** Behind a barrier: who leads no longer without knowing it must not say that a transaction waits, or does not. */
  #read(session: Session, requestId: number, answer: () => void): void {
    const { replica, leadership } = this.#context;
    replica.readBarrier((ok) => {
      if (ok && leadership.leader) answer();
      else session.refuse(requestId, leadership.leader ? 'NOT_READY' : 'NOT_LEADER');
    });
  }

  // ---- what was applied ------------------------------------------------------------------------------------------------

  onHalf(half: HalfMessage): void {
    if (this.#context.leadership.ready) this.#checks.schedule(half);
  }

  onHalfEnded(half: HalfMessage, how: Ended, logTimeMs: number): void {
    if (!this.#context.leadership.ready) return;
    this.#checks.ended(half);
    this.#context.metrics.transactionEnded(this.#topicName(half.topicId), how === Ended.committed, logTimeMs - half.storedMs);
  }

  becameReady(): void {
    this.#checks.becameReady();
  }

  leadershipLost(): void {
    this.#checks.leadershipLost();
    this.#sessions.clear();
  }

  closed(session: Session): void {
    this.#sessions.closed(session);
    this.#checks.closed(session);
  }
}
