import type { BrokerLimits } from '../../src/broker/limits.ts';
import type { SettingName } from '../../src/broker/settings.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { formatMessageId } from '../../src/protocol/message-id.ts';
import { Op, type Responses } from '../../src/protocol/requests.ts';
import type { TransactionCheckPush, TransactionOutcome } from '../../src/protocol/transaction-requests.ts';
import { type BatchOptions, BrokerHarness, makeBatch } from './fake-broker.ts';
import type { FakeSession } from './fake-session.ts';
import { MemoryIds, MemoryQueues } from './fake-stores.ts';

const ID_HIGH = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
export const GROUP = 'payments';

/** A half message that was stored. */
export interface Half {
  readonly transaction: number;
  readonly messageId: string;
  readonly producerGroup: string;
}

/** A leader of feature level 3 with topics T and U of two queues each, and producers. */
export class TransactionBroker {
  readonly harness: BrokerHarness;
  readonly session: FakeSession;
  #ids = 0;

  constructor(limits: Partial<BrokerLimits> = {}, settings: Partial<Record<SettingName, number>> = {}, segmentBytes?: number) {
    const featureLevel = { announcedLevel: () => 3, autoRaise: true };
    this.harness = new BrokerHarness(limits, segmentBytes, settings, { featureLevel });
    this.session = this.harness.session();
    this.lead();
    for (const topic of ['T', 'U'])
      this.harness.ask(this.session, Op.topicCreate, { topic, queues: 2, perm: 6, messageType: 'normal', replication: 2 });
  }

  /** This replica leads (again): whatever was only in the leader's memory is gone. */
  lead(): void {
    const { replica } = this.harness;
    if (replica.role().role === 'leader') replica.follow(replica.role().term + 1);
    replica.leadReady();
    replica.settle();
  }

  /** Log time and the clock go on together. */
  pass(ms: number): void {
    this.harness.replica.passTime(ms);
    this.harness.clock.advance(ms);
    this.harness.replica.settle();
  }

  /** @returns the ack: [error, number of the transaction] */
  sendHalf(options: BatchOptions = {}, topic = 'T', queueId = 0): { readonly ack: unknown[]; readonly messageId: string } {
    const idLow = options.idLow ?? ++this.#ids;
    const batch = makeBatch({ producerId: 1_000 + idLow, idLow, half: GROUP, ...options });
    const ack = this.harness.sent(this.session, topic, queueId, batch);
    return { ack, messageId: formatMessageId({ high: ID_HIGH, low: idLow }) };
  }

  half(options: BatchOptions = {}, topic = 'T', queueId = 0): Half {
    const { ack, messageId } = this.sendHalf(options, topic, queueId);
    if (ack[0] !== 0) throw new Error(`the half message was refused: ${String(ack)}`);
    return { transaction: ack[1] as number, messageId, producerGroup: options.half ?? GROUP };
  }

  /** @returns the offset, or the code of the refusal */
  end(half: Half, outcome: TransactionOutcome): number | string {
    const answer = this.harness.ask(this.session, Op.transactionEnd, { ...half, outcome, source: 'producer' }) as unknown;
    return typeof answer === 'string' ? answer : (answer as Responses[typeof Op.transactionEnd]).offset;
  }

  heartbeat(session: FakeSession, group = GROUP, leave = false): unknown {
    return this.harness.ask(session, Op.producerHeartbeat, { group, leave });
  }

  checksOf(session: FakeSession): TransactionCheckPush[] {
    return session.pushes as TransactionCheckPush[];
  }

  /** [offset, first body byte] of all that consumers of a queue see. */
  visible(topic = 'T', queueId = 0): [number, number][] {
    const requestId = this.harness.pull(this.session, { topic, queueId });
    const { batches } = this.session.answers.get(requestId) as Responses[typeof Op.pull];
    let at = 0;
    return batches.map(({ baseOffset, sizeBytes }) => {
      at += sizeBytes;
      return [baseOffset, (this.session.raws.get(requestId) as Uint8Array)[at - 1] as number];
    });
  }

  /** The same state from the log alone, and from what this one saved. */
  copies(): { readonly replayed: BrokerStateMachine; readonly restored: BrokerStateMachine } {
    const { machine, replica, queues } = this.harness;
    const replayed = new BrokerStateMachine({ brokerName: 'broker-a', queues: new MemoryQueues(), ids: new MemoryIds() });
    replica.replay(replayed, 1, replica.appliedIndex());
    const restored = new BrokerStateMachine({ brokerName: 'broker-a', queues, ids: new MemoryIds() });
    if (!restored.restore(machine.snapshot())) throw new Error('the queues do not cover the state');
    return { replayed, restored };
  }
}
